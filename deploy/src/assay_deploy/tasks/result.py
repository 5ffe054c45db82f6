"""What the results of all tasks share: a file, maybe one that could not be read, and how they become lines."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from assay_deploy.tasks.options import Shown
from assay_deploy.tasks.task import Task

ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""For file names in lines of columns; in JSON they are exact."""


class ImageResult(Protocol):
    """What a model says of the image at ``path``, or `Unreadable`."""

    @property
    def path(self) -> Path | None: ...  # noqa: D102


@dataclass(frozen=True)
class Unreadable:
    """A file or bytes that could not be read as an image: ``path``, None for bytes, and the reason."""

    path: Path | None
    error: str

    def json(self) -> dict[str, Any]:
        """Ready for JSON, in the place of a task's object."""
        return {"path": named(self.path), "error": self.error}


def line_maker(task: Task[Any], options: Shown, *, as_json: bool) -> Callable[[ImageResult], str]:
    """Make what is printed of a result: its lines of text, or a line of JSON.

    In text, what could not be read has no line: its error belongs on stderr.
    """

    def text(result: ImageResult) -> str:
        return "" if isinstance(result, Unreadable) else task.text(result, options)

    def json_line(result: ImageResult) -> str:
        found = result.json() if isinstance(result, Unreadable) else task.json(result, options)
        return json.dumps(found) + "\n"

    return json_line if as_json else text


def columns(path: Path | None, *cells: str) -> str:
    """A line of text: the file's name, then the other columns."""
    return "\t".join([(named(path) or "-").translate(ESCAPES), *cells]) + "\n"


def named(path: Path | None) -> str | None:
    """Return a path as JSON has it; None for bytes and arrays."""
    return None if path is None else str(path)
