"""The errors of an export: what was given, what was expected, what to do."""

from assay_deploy.errors import AssayError


class ExportError(AssayError):
    """A run, a name or a place that no bundle can be made from."""


class ParityError(ExportError):
    """An artifact that is not the model it came from; there is no bundle."""
