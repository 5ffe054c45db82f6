"""The gate's verdicts as tables for a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay_export.formats.places import Place
from assay_export.gate.verdict import Verdict
from assay_research.terminal import aligned

COLUMNS = ("artifact", "on", "views", "probe difference / allowed", "eager", "artifact", "changed", "gate", "verdict")


@dataclass(frozen=True)
class ModelRow:
    """What became of one model.

    Attributes:
        verdicts: on what is in its bundle, or was to be.
        left_out: on the precisions that the bundle does without.
        seconds: what making the files took; None where it did not come to its end.
        gate_seconds: what proving them took, likewise.
        error: why there is no bundle.
    """

    verdicts: Sequence[Verdict] = ()
    left_out: Sequence[Verdict] = ()
    seconds: float | None = None
    gate_seconds: float | None = None
    error: str = ""


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a verdict under a line of headings."""
    return aligned([COLUMNS, *map(_row, verdicts)])


def matrix(rows: Mapping[str, ModelRow]) -> str:
    """Models x formats and precisions: the worst verdict on each, what they took, or why a model was not exported."""
    found = [verdict for row in rows.values() for verdict in (*row.verdicts, *row.left_out)]
    columns = tuple(dict.fromkeys(map(_column, found)))
    lines = [
        ("model", *(form for form, _ in columns), "made in", "proven in", ""),
        ("", *(precision for _, precision in columns), "", "", ""),
    ]
    for model, row in rows.items():
        cells = (_cell(row, column) for column in columns)
        lines.append((model, *cells, _time(row.seconds), _time(row.gate_seconds), row.error.partition("\n")[0]))
    return aligned(lines)


def sizes(folder: Path) -> str:
    """One line a file of the folder, with its size."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return "".join(f"{path.name:<28} {path.stat().st_size / 1024:10,.1f} KiB\n" for path in files)


def changed(verdict: Verdict) -> str:
    """What of the answers to the test split is not the eager model's, in words."""
    return "-" if verdict.task is None else verdict.task.changed()


def _column(verdict: Verdict) -> tuple[str, str]:
    return verdict.format, verdict.precision


def _cell(row: ModelRow, column: tuple[str, str]) -> str:
    if column in map(_column, row.left_out):
        return "left out"
    verdicts = [verdict for verdict in row.verdicts if _column(verdict) == column]
    if not verdicts:
        return "-"
    return "passed" if all(verdict.passed for verdict in verdicts) else "FAILED"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _row(verdict: Verdict) -> tuple[str, ...]:
    off = verdict.differences
    return (
        verdict.path,
        str(Place(verdict.engine, verdict.device)),
        str(verdict.views) if verdict.dense is None else "dense",
        "-" if off is None else ", ".join(f"{off[name]:.1e} / {most:g}" for name, most in verdict.tolerances.items()),
        "-" if verdict.task is None else f"{verdict.task.eager:.4f}",
        "-" if verdict.task is None else f"{verdict.task.artifact:.4f}",
        changed(verdict),
        f"{verdict.seconds:.1f} s",
        "passed" if verdict.passed else "FAILED",
    )
