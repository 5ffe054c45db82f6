"""A bundle appears under its name all at once: made beside it, renamed once it is whole."""

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
def workplace(bundles: Path, name: str) -> Iterator[Path]:
    """An empty folder ``<name>.unproven`` to make a bundle in; what is put there stays until it is published.

    Args:
        bundles: the folder that holds the bundles; made if it is not there.
        name: of the bundle.

    Raises:
        ExportError: the name is no plain file name, something else than a bundle has it, nothing can be written there,
            or another export is making the same bundle.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.endswith((UNPROVEN, REPLACED)):
        raise ExportError(
            f"'{name}' cannot be a bundle's name: expected letters, digits, '.', '_' and '-', a letter or digit "
            f"first, and neither {UNPROVEN} nor {REPLACED} at the end. Choose one with name=<name>"
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
            with suppress(OSError):  # it holds something, or has its name by now
                unproven.rmdir()


def publish(unproven: Path) -> Path:
    """Give a finished bundle its name, in place of an older one.

    Killed at any instant, what is found under the name is the old bundle whole, the new one whole or, between two
    renames, nothing; then the next export brings the old one back first.

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
    """Delete a bundle, its manifest first: without one, what is left is no bundle to anybody."""
    (bundle / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(bundle)


def _recover(bundle: Path) -> None:
    """Finish what a killed `publish` left, and refuse to replace what is no bundle."""
    replaced = bundle.with_name(bundle.name + REPLACED)
    if (replaced / MANIFEST).is_file() and not bundle.exists():
        replaced.rename(bundle)
    elif replaced.exists():
        _discard(replaced)
    if bundle.is_symlink() or (bundle.exists() and not (bundle / MANIFEST).is_file()):
        raise ExportError(
            f"'{bundle}' is there and no bundle (a folder with {MANIFEST}), so it is not replaced. "
            "Choose another name with name=<name>, or another place with bundles=<folder>"
        )
