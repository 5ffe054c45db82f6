"""The gate's verdicts as tables for a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from assay_export.classification import Top1
from assay_export.gate import Verdict

COLUMNS = ("artifact", "on", "views", "probe difference / allowed", "eager", "artifact", "changed", "gate", "verdict")


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a verdict under a line of headings."""
    return _aligned([COLUMNS, *map(_row, verdicts)])


def matrix(rows: Mapping[str, Sequence[Verdict] | str]) -> str:
    """Models x formats and precisions: the worst verdict on each, or why a model was not exported.

    Args:
        rows: by model, its verdicts (those on what was left out too) or an error.
    """
    columns: dict[tuple[str, str], None] = {}
    for verdicts in rows.values():
        if not isinstance(verdicts, str):
            columns |= dict.fromkeys(map(_column, verdicts))
    lines = [("model", *(f"{form} {precision}" for form, precision in columns), "")]
    for model, verdicts in rows.items():
        if isinstance(verdicts, str):
            lines.append((model, *("-" for _ in columns), verdicts.partition("\n")[0]))
            continue
        cells = []
        for column in columns:
            found = [verdict for verdict in verdicts if _column(verdict) == column]
            cells.append(_cell(found))
        lines.append((model, *cells, ""))
    return _aligned(lines)


def sizes(folder: Path) -> str:
    """One line a file of the folder, with its size."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return "".join(f"{path.name:<28} {path.stat().st_size / 1024:10,.1f} KiB\n" for path in files)


def changed(verdict: Verdict) -> str:
    """What of the answers to the test split is not the eager model's, in words."""
    task = verdict.task
    if isinstance(task, Top1):
        return f"{len(task.flipped)} of {task.n:,}, allowed {task.flips_allowed}"
    return "-" if task is None else f"{task.alone} of {task.alone + 2 * task.pairs:,} boxes"


def _column(verdict: Verdict) -> tuple[str, str]:
    return verdict.format, verdict.precision


def _cell(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "-"
    return "passed" if all(verdict.passed for verdict in verdicts) else "FAILED"


def _row(verdict: Verdict) -> tuple[str, ...]:
    off = verdict.differences
    return (
        verdict.path,
        verdict.device,
        str(verdict.views) if verdict.dense is None else "dense",
        "-" if off is None else ", ".join(f"{off[name]:.1e} / {most:g}" for name, most in verdict.tolerances.items()),
        "-" if verdict.task is None else f"{verdict.task.eager:.4f}",
        "-" if verdict.task is None else f"{verdict.task.artifact:.4f}",
        changed(verdict),
        f"{verdict.seconds:.1f} s",
        "passed" if verdict.passed else "FAILED",
    )


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in lines
    )
