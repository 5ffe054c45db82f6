"""Errors of an export. Messages say what was given, what was expected and what to do."""

from importlib.metadata import version

from assay_deploy.errors import AssayError


class ExportError(AssayError):
    """A bundle cannot be made from the given run, name, folder or options."""


def loading_error(error: Exception) -> ExportError:
    """Return an ExportError for an exception that torch raised when it loaded a file."""
    reason = " ".join(str(error).split())[:400] or type(error).__name__
    return ExportError(
        f"torch {version('torch')} cannot load the file ({reason}). It is damaged, or was written by another torch: "
        "use the version in the manifest's toolchain, or export it again"
    )
