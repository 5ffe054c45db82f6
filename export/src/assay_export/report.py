"""The gate's verdicts as a table for people."""

from collections.abc import Sequence
from pathlib import Path

from assay_export.gate import Verdict

COLUMNS = ("artifact", "views", "probe diff", "allowed", "top1 eager", "top1 artifact", "flipped", "verdict")


def table(verdicts: Sequence[Verdict]) -> str:
    """One line an artifact under a line of headings."""
    rows = [COLUMNS, *(_row(verdict) for verdict in verdicts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def sizes(folder: Path) -> str:
    """One line a file of the folder, with its size."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return "".join(f"{path.name:<20} {path.stat().st_size / 1024:10,.1f} KiB\n" for path in files)


def _row(verdict: Verdict) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        verdict.path,
        str(verdict.views),
        number(verdict.probe_max_abs_diff, ".1e"),
        f"{verdict.tolerance:.0e}",
        f"{verdict.top1_eager:.4f}",
        number(verdict.top1_artifact, ".4f"),
        "-"
        if verdict.top1_artifact is None
        else f"{len(verdict.flipped)} of {verdict.n:,}, allowed {verdict.flips_allowed}",
        "passed" if verdict.passed else "FAILED",
    )
