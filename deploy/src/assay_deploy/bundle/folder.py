"""Read and write the manifest of a bundle folder, and verify the SHA-256 of its files."""

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
    """SHA-256 of the bytes as a hex string."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Read and check a bundle's manifest.

    Args:
        bundle: the bundle's folder.

    Raises:
        BundleError: the folder or the manifest does not exist, the manifest is not JSON, has an unknown version,
            differs from its checksum in `CHECKSUM`, has an unknown key or a wrong type, or a path that leaves the
            bundle.
    """
    path = bundle / MANIFEST
    try:
        if not bundle.is_dir():
            raise BundleError(f"no bundle at '{bundle}': expected a folder that contains {MANIFEST}")
        if not path.is_file():
            raise BundleError(
                f"'{bundle}' is not a bundle: it has no {MANIFEST}. `assay-export` makes a bundle from a run"
            )
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, the limit for a manifest")
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
    """Write the checksum file `CHECKSUM` and then ``manifest.json`` into the bundle's folder."""
    content = (json.dumps(encode(manifest), indent=2, allow_nan=False) + "\n").encode()
    (bundle / CHECKSUM).write_bytes(checksum(content))
    (bundle / MANIFEST).write_bytes(content)


def checksum(manifest: bytes) -> bytes:
    """Content of the file `CHECKSUM` for a manifest's bytes: the output line of ``sha256sum manifest.json``."""
    return f"{sha256(manifest)}  {MANIFEST}\n".encode()


def read_verified(bundle: Path, entry: File | Artifact) -> bytes:
    """Read a file of the bundle and verify its SHA-256 against the manifest.

    The bytes that were hashed are the bytes returned, so the file cannot change between the check and the use.

    Args:
        bundle: the bundle's folder.
        entry: the manifest's entry for the file.

    Raises:
        BundleError: the file is missing, cannot be read, or its hash differs from the manifest's.
    """
    path = bundle / entry.path
    try:
        content = _read(path, bundle)
    except OSError as error:
        raise BundleError(f"{path}: listed in the manifest, but cannot be read ({error.strerror})") from error
    found = sha256(content)
    if found != entry.sha256:
        raise BundleError(
            f"{path}: not the file that was proven: its sha256 is {found[:12]}..., the manifest has "
            f"{entry.sha256[:12]}.... Fetch or export the bundle again"
        )
    return content


def _read(path: Path, bundle: Path) -> bytes:
    """Read a file; raise BundleError unless its real path, with links resolved, is inside the bundle."""
    # not Path.resolve, which raises RuntimeError for a circle of links before Python 3.13
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(os.path.realpath(bundle, strict=True)):
        raise BundleError(f"{path}: leads out of the bundle, which is not allowed")
    if not real.is_file():
        raise BundleError(f"{path}: listed as a file of the bundle, but is not a regular file")
    return real.read_bytes()


def _refuse_altered(manifest: bytes, bundle: Path) -> None:
    """Raise BundleError unless the manifest's bytes match the checksum file `CHECKSUM`."""
    path, line = bundle / CHECKSUM, checksum(manifest)
    try:
        if not path.is_file():
            problem = f"cannot be verified: there is no {CHECKSUM} in its folder"
        elif path.stat().st_size != len(line) or _read(path, bundle) != line:
            problem = f"altered after it was written: its sha256 is {line[:12].decode()}..., {CHECKSUM} has another"
        else:
            return
    except OSError as error:
        problem = f"{CHECKSUM} in its folder cannot be read ({error.strerror})"
    raise BundleError(f"{bundle / MANIFEST}: {problem}. Fetch or export the bundle again")
