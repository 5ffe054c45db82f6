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
    """Result of exporting one model.

    Attributes:
        verdicts: verdicts on the artifacts of its bundle, also if the bundle failed.
        left_out: verdicts on precisions that are left out of the bundle.
        seconds: time to export the files; None if the export failed.
        gate_seconds: time to prove them; None if the export failed.
        error: message of the error that ended the export; empty if there was none.
    """

    verdicts: Sequence[Verdict] = ()
    left_out: Sequence[Verdict] = ()
    seconds: float | None = None
    gate_seconds: float | None = None
    error: str = ""


def table(verdicts: Sequence[Verdict]) -> str:
    """Return a table with one line per verdict, under a line of headings."""
    return aligned([COLUMNS, *map(_row, verdicts)])


def matrix(rows: Mapping[str, ModelRow]) -> str:
    """Return a table of models by formats and precisions: the worst verdict on each, the times, and errors."""
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
    """Return one line per file of the folder, with its size."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return "".join(f"{path.name:<28} {path.stat().st_size / 1024:10,.1f} KiB\n" for path in files)


def changed(verdict: Verdict) -> str:
    """Describe how many predictions on the test split differ from the eager model's; "-" if it does not run."""
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
