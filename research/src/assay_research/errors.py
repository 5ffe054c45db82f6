"""The errors a user can act on: each says what was given, what was expected and what to do."""

import difflib
from collections.abc import Iterable

from assay_deploy.errors import AssayError


class ConfigError(AssayError):
    """A configuration with a misspelt key, a wrong type or an impossible value."""


class DataError(AssayError):
    """A data set that is missing, empty or damaged."""


class CheckpointError(AssayError):
    """A checkpoint or run that is missing, damaged or not trusted."""


class DeviceError(AssayError):
    """A device that was asked for and is not there."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a name that is not valid: the nearest one that is, then all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}valid here: {', '.join(valid)}"
