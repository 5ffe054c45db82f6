"""Write standard JSON: numbers that are not finite are written as null."""

import json
import math
from pathlib import Path
from typing import Any

from assay_research.runs.disk import write_atomically


def write(record: dict[str, Any], path: Path) -> None:
    """Write a record as JSON, with null for every number that is not finite.

    Args:
        record: nested dicts and lists of plain values.
        path: file to write; it is replaced atomically.
    """
    write_atomically((json.dumps(_finite(record), indent=2) + "\n").encode(), path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
