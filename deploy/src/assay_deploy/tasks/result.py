"""Results shared by all tasks, including unreadable files, and their formatting as lines of text or JSON."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from assay_deploy.tasks.options import OptionValues
from assay_deploy.tasks.task import Task

ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""Escapes for file names in tab-separated lines; JSON has the exact names."""


class ImageResult(Protocol):
    """Result of a model for the image at ``path``, or `Unreadable`."""

    @property
    def path(self) -> Path | None: ...  # noqa: D102


@dataclass(frozen=True)
class Unreadable:
    """File or bytes that could not be read as an image, with the error message; ``path`` is None for bytes."""

    path: Path | None
    error: str

    def json(self) -> dict[str, Any]:
        """Return the path and the error, ready for JSON."""
        return {"path": path_text(self.path), "error": self.error}


def line_formatter(task: Task[Any], options: OptionValues, *, as_json: bool) -> Callable[[ImageResult], str]:
    """Return a function that formats a result as lines of text, or as one line of JSON.

    In text, an unreadable file has no line: its error is printed on stderr.

    Args:
        task: task of the bundle.
        options: values of the task's options.
        as_json: format JSON instead of text.
    """

    def text(result: ImageResult) -> str:
        return "" if isinstance(result, Unreadable) else task.text(result, options)

    def json_line(result: ImageResult) -> str:
        found = result.json() if isinstance(result, Unreadable) else task.json(result, options)
        return json.dumps(found) + "\n"

    return json_line if as_json else text


def columns(path: Path | None, *cells: str) -> str:
    """Format a tab-separated line: the file's name, ``-`` for bytes and arrays, then the other columns."""
    return "\t".join([(path_text(path) or "-").translate(ESCAPES), *cells]) + "\n"


def path_text(path: Path | None) -> str | None:
    """Return a path as text for JSON; None for bytes and arrays."""
    return None if path is None else str(path)
