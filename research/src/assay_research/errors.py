"""The errors a user can act on: each says what was given, what was expected and what to do."""


class AssayError(Exception):
    """Base of all that is the input's or the machine's fault; the command line prints it without a traceback."""


class ConfigError(AssayError):
    """A configuration with a misspelt key, a wrong type or an impossible value."""


class DataError(AssayError):
    """A data set that is missing, empty or damaged."""


class CheckpointError(AssayError):
    """A checkpoint or run that is missing, damaged or not trusted."""


class DeviceError(AssayError):
    """A device that was asked for and is not there."""
