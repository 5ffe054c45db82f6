"""Publish a bundle atomically: write it to a temporary folder, then rename the folder."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from assay_deploy.bundle.folder import MANIFEST
from assay_export.errors import ExportError

UNPROVEN = ".unproven"
REPLACED = ".replaced"


@contextmanager
def working_folder(bundles: Path, name: str) -> Iterator[Path]:
    """Create the empty folder ``<name>.unproven`` to make a bundle in; its files stay there until `publish`.

    Args:
        bundles: the folder that contains the bundles; created if it does not exist.
        name: name of the bundle.

    Raises:
        ExportError: the name is not a plain file name, a file or folder of that name exists that is not a bundle, the
            folder cannot be written to, or another export is making the same bundle.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.endswith((UNPROVEN, REPLACED)):
        raise ExportError(
            f"'{name}' cannot be a bundle's name: expected letters, digits, '.', '_' and '-', starting with a "
            f"letter or digit and not ending in {UNPROVEN} or {REPLACED}. Choose one with name=<name>"
        )
    try:
        bundles.mkdir(parents=True, exist_ok=True)
        lock = FileLock(bundles / f".{name}.lock").acquire(timeout=0)
    except Timeout as error:
        raise ExportError(f"another export is making the bundle '{bundles / name}' right now") from error
    except OSError as error:
        raise ExportError(
            f"no bundle can be made in '{bundles}' ({error.strerror}): expected a folder that can be written to. "
            "Choose another place with bundles=<folder>"
        ) from error
    with lock:
        _recover(bundles / name)
        unproven = bundles / f"{name}{UNPROVEN}"
        if unproven.exists():
            shutil.rmtree(unproven)
        unproven.mkdir()
        try:
            yield unproven
        finally:
            with suppress(OSError):  # it is not empty, or was renamed
                unproven.rmdir()


def publish(unproven: Path) -> Path:
    """Rename a finished bundle to its final name, replacing an older bundle.

    If the process is killed, the name refers to the complete old bundle, to the complete new one or, between two
    renames, to nothing; in the last case the next export first restores the old one.

    Returns:
        The bundle's folder.
    """
    bundle = unproven.with_name(unproven.name.removesuffix(UNPROVEN))
    replaced = bundle.with_name(bundle.name + REPLACED)
    if bundle.exists():
        bundle.rename(replaced)
    unproven.rename(bundle)
    if replaced.exists():
        _discard(replaced)
    return bundle


def _discard(bundle: Path) -> None:
    """Delete a bundle, its manifest first: a folder without manifest is not a bundle."""
    (bundle / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(bundle)


def _recover(bundle: Path) -> None:
    """Clean up after a killed `publish`; raise ExportError if the name belongs to something other than a bundle."""
    replaced = bundle.with_name(bundle.name + REPLACED)
    if (replaced / MANIFEST).is_file() and not bundle.exists():
        replaced.rename(bundle)
    elif replaced.exists():
        _discard(replaced)
    if bundle.is_symlink() or (bundle.exists() and not (bundle / MANIFEST).is_file()):
        raise ExportError(
            f"'{bundle}' exists but is not a bundle (a folder with {MANIFEST}), so it is not replaced. "
            "Choose another name with name=<name>, or another place with bundles=<folder>"
        )
