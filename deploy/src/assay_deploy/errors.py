"""The errors a caller can act on: each says what was given, what was expected and what to do."""


class AssayError(Exception):
    """Base of every error that is the input's or the machine's fault; printed without a traceback."""


class BundleError(AssayError):
    """A bundle that is missing, malformed, altered or from a newer Assay."""


class ImageError(AssayError):
    """A file that cannot be read as an image."""


class RuntimeUnavailableError(AssayError):
    """An engine is missing, doubled, or cannot run the graph where it was asked to."""
