"""Exceptions for errors that a user can fix; their messages state what was given and what was expected."""

import difflib
from collections.abc import Iterable

from assay_deploy.errors import AssayError


class ConfigError(AssayError):
    """Invalid configuration: a misspelt key, a wrong type or a value out of range."""


class DataError(AssayError):
    """Missing, empty or damaged data set."""


class CheckpointError(AssayError):
    """Missing, damaged or untrusted checkpoint or run."""


class DeviceError(AssayError):
    """Requested device that is not available or has too little memory."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint for an invalid name: the most similar valid name, if any, then all valid names."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}valid here: {', '.join(valid)}"
