"""The errors of an export: what was given, what was expected, what to do."""

from importlib.metadata import version

from assay_deploy.errors import AssayError


class ExportError(AssayError):
    """A run, a name or a place that no bundle can be made from."""


def unloadable(error: Exception) -> ExportError:
    """An error of torch's over a file that it was to load, as one of ours."""
    reason = " ".join(str(error).split())[:400] or type(error).__name__
    return ExportError(
        f"torch {version('torch')} cannot load it ({reason}). It is damaged, or of another torch: use the one that the "
        "manifest's toolchain names, or export it again"
    )
