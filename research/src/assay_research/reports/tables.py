"""Markdown tables of scores."""

import re
import statistics
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"[-\d][\d.,]*( ± .*)?")


def table(rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table that is also aligned as plain text; columns of numbers are aligned right.

    Args:
        rows: rows of cells, the head first; line breaks in cells become spaces, and | is escaped.
    """
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    right = [
        any(column[1:]) and all(NUMBER.fullmatch(cell) for cell in column[1:] if cell not in ("", "-"))
        for column in columns
    ]
    rule = [
        ("-" * (width - 1) + ":") if is_right else "-" * width for width, is_right in zip(widths, right, strict=True)
    ]
    lines = [
        [f"{cell:{'>' if is_right else '<'}{width}}" for cell, width, is_right in zip(row, widths, right, strict=True)]
        for row in (cells[0], rule, *cells[1:])
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def score(values: Sequence[float]) -> str:
    """Format the mean of a score over seeds, with the sample standard deviation if there are several seeds.

    Args:
        values: score of each seed; without values the result is "".
    """
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def short(commit: str) -> str:
    """Shorten a commit to seven digits, with a + if its tree had uncommitted changes."""
    return commit[:7] + "+" * commit.endswith("+dirty") if commit else "unknown"
