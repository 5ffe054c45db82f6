"""What all tasks say alike: a file that could not be read, and file names in text."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read as a picture, and why."""

    path: Path
    error: str


ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""For file names in tab-separated lines; in JSON they are exact."""


def _error_json(result: object) -> str:
    assert isinstance(result, Unreadable)
    return json.dumps({"path": str(result.path), "error": result.error}) + "\n"
