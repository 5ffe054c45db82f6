"""Provenance of a result for a run's summary: Git commit and package versions."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from assay_research._version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "hydra-core")


def commit() -> str:
    """Return the Git commit of the running code, with ``+dirty`` if the tree has changes; "" outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()  # noqa: S603

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed into another project's tree: not its commit
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    ours = {"python": platform.python_version(), "assay-research": __version__}
    return ours | {name: version(name) for name in PACKAGES}
