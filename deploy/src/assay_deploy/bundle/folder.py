"""A bundle is a folder whose manifest names, hashes and explains all others; it is read and guarded here."""

import hashlib
import json
import os
from pathlib import Path

from assay_deploy.bundle.manifest import MANIFEST_VERSION, Artifact, File, Manifest
from assay_deploy.bundle.rules import check
from assay_deploy.bundle.strict_json import decode, encode, parse
from assay_deploy.errors import BundleError

MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"
MAX_MANIFEST_BYTES = 1 << 20


def sha256(content: bytes) -> str:
    """Hex digest of these bytes."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Read and check a bundle's manifest.

    Args:
        bundle: the bundle's folder.

    Raises:
        BundleError: no such folder, no manifest, not JSON, an unknown version, not the bytes that `CHECKSUM` names,
            an unknown key, a wrong type, or a path that leaves the bundle.
    """
    path = bundle / MANIFEST
    try:
        if not bundle.is_dir():
            raise BundleError(f"no bundle at '{bundle}': expected a folder that holds {MANIFEST}")
        if not path.is_file():
            raise BundleError(f"'{bundle}' is no bundle: it has no {MANIFEST}. `assay-export` makes one from a run")
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, which no manifest is")
        content = _read(path, bundle)
        document = decode(content)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not valid JSON ({error})") from error
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or version != MANIFEST_VERSION:
        raise BundleError(
            f"{path}: manifest version {version!r:.40}, but this assay-deploy reads version {MANIFEST_VERSION}. "
            "Export the run again, or install the assay-deploy that matches"
        )
    _refuse_altered(content, bundle)
    try:
        manifest = parse(Manifest, document, "manifest")
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {error}") from error
    check(manifest, path)
    return manifest


def write_manifest(manifest: Manifest, bundle: Path) -> None:
    """Write ``manifest.json``, and first `CHECKSUM`, into the bundle's folder."""
    content = (json.dumps(encode(manifest), indent=2, allow_nan=False) + "\n").encode()
    (bundle / CHECKSUM).write_bytes(checksum(content))
    (bundle / MANIFEST).write_bytes(content)


def checksum(manifest: bytes) -> bytes:
    """What `CHECKSUM` holds for these bytes of a manifest: the line of ``sha256sum manifest.json``."""
    return f"{sha256(manifest)}  {MANIFEST}\n".encode()


def read_verified(bundle: Path, entry: File | Artifact) -> bytes:
    """Bytes of a file of the bundle, once its hash is found to be the manifest's.

    The bytes that were hashed are the bytes returned, so nothing can change between the check and the use.

    Raises:
        BundleError: the file is missing or not the one the manifest describes.
    """
    path = bundle / entry.path
    try:
        content = _read(path, bundle)
    except OSError as error:
        raise BundleError(f"{path}: the manifest names it, but it cannot be read ({error.strerror})") from error
    found = sha256(content)
    if found != entry.sha256:
        raise BundleError(
            f"{path}: not the file that was proven: its sha256 is {found[:12]}..., the manifest says "
            f"{entry.sha256[:12]}.... Fetch or export the bundle again"
        )
    return content


def _read(path: Path, bundle: Path) -> bytes:
    """Bytes of a file that lies in the bundle, wherever links lead."""
    # not Path.resolve, which raises RuntimeError for a circle of links before Python 3.13
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(os.path.realpath(bundle, strict=True)):
        raise BundleError(f"{path}: leads out of the bundle; refused")
    if not real.is_file():
        raise BundleError(f"{path}: is named as a file of the bundle, but is not a file")
    return real.read_bytes()


def _refuse_altered(manifest: bytes, bundle: Path) -> None:
    """Refuse bytes of a manifest that are not those of the checksum beside it."""
    path, line = bundle / CHECKSUM, checksum(manifest)
    try:
        if not path.is_file():
            problem = f"there is no {CHECKSUM} beside it to tell whether it was altered"
        elif path.stat().st_size != len(line) or _read(path, bundle) != line:
            problem = (
                f"not the manifest that was written: its sha256 is {line[:12].decode()}..., {CHECKSUM} names another"
            )
        else:
            return
    except OSError as error:
        problem = f"{CHECKSUM} beside it cannot be read ({error.strerror})"
    raise BundleError(f"{bundle / MANIFEST}: {problem}. Fetch or export the bundle again")
