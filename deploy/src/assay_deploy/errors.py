"""Errors that a caller can act on: each message gives the input, what was expected and what to do."""


class AssayError(Exception):
    """Base class of errors caused by the input or the machine; printed without a traceback."""


class BundleError(AssayError):
    """Error for a bundle that is missing, malformed, altered or from a newer Assay."""


class ImageError(AssayError):
    """Error for a file that cannot be read as an image."""


class RuntimeUnavailableError(AssayError):
    """Error for an engine that is missing, installed twice, or unable to run the graph on the requested device."""
