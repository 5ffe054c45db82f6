"""Find runs on disk, say what state they are in, and choose and delete what may go."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from assay_research.errors import CheckpointError, ConfigError
from assay_research.runs.run import CHECKPOINTS, CONFIG, METRICS, Run
from assay_research.runs.score import metric_of

FINISHED, UNFINISHED, RUNNING = "finished", "unfinished", "running"


@dataclass(frozen=True)
class Entry:
    """What is known of a run from its files.

    Attributes:
        path: of its folder.
        name: of the experiment; "" where its config cannot be read.
        data: name of the data set.
        epochs: done.
        planned: epochs its config asks for.
        best_val: highest top-1 or mAP over the epochs that are done; None before the first.
        test: score of the finished run, top-1 or mAP.
        bytes: on disk.
        state: finished, unfinished or running.
        written: when its config was, seconds since 1970.
    """

    path: str
    name: str
    data: str
    epochs: int
    planned: int | None
    best_val: float | None
    test: float | None
    bytes: int
    state: str
    written: float


def find(runs: Path) -> list[Entry]:
    """All runs at any depth under a folder, newest first; symbolic links are not followed.

    Raises:
        CheckpointError: there is no such folder.
    """
    if not runs.is_dir():
        raise CheckpointError(f"no folder '{runs}': expected the one that trainings write to, `runs` by default")
    entries = []
    for place, folders, files in os.walk(runs):
        checkpoints = Path(place, CHECKPOINTS)
        if CONFIG in files and checkpoints.is_dir() and not checkpoints.is_symlink():
            folders.clear()
            entries.append(examine(Run(Path(place))))
    return sorted(entries, key=lambda entry: (entry.written, entry.path), reverse=True)


def examine(run: Run) -> Entry:
    """What one run's files say; a damaged one counts as not there."""
    try:
        config = run.config()
    except ConfigError:
        config = {}
    try:
        summary = run.summary()
    except CheckpointError:
        summary = {}
    scores = _validation_scores(run.folder / METRICS)
    # A run that is given more epochs keeps its old summary until it has ended again.
    ended = summary.get("epochs") == len(scores)
    return Entry(
        path=str(run.folder),
        name=str(config.get("name") or ""),
        data=str(summary.get("dataset") or _data_name(config.get("data"))),
        epochs=len(scores),
        planned=config.get("epochs"),
        best_val=max((score for score in scores if score is not None), default=None),
        test=_score(summary.get(metric_of(summary).scores[0])) if ended else None,
        bytes=sum(path.lstat().st_size for path in _files(run.folder)),
        state=RUNNING if _is_running(run) else FINISHED if ended else UNFINISHED,
        written=(run.folder / CONFIG).lstat().st_mtime,
    )


def _validation_scores(path: Path) -> list[float | None]:
    try:
        records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [_score(record[metric_of(record).val]) for record in records]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _score(value: object) -> float | None:
    return value if isinstance(value, float) else None


def _data_name(data: object) -> str:
    """``photos`` of a folder of images, ``digits`` of the builder in data/digits.py."""
    if not isinstance(data, dict):
        return "?"
    root = data.get("root") if str(data.get("_target_")).endswith("image_folder.load") else None
    return data.get("name") or (Path(str(root)).name if root else str(data.get("_target_", "?")).split(".")[-2:][0])


def _files(folder: Path) -> Iterator[Path]:
    return (Path(place, name) for place, _, names in os.walk(folder) for name in names)


def _is_running(run: Run) -> bool:
    if not (run.folder / ".lock").is_file():
        return False
    try:
        with run.lock():
            return False
    except CheckpointError:
        return True
    except OSError:  # another user's
        return False


def superfluous(entries: Sequence[Entry], unfinished: bool, keep_best: int | None) -> list[Entry]:
    """The runs that may go as a whole.

    Args:
        entries: all of them; newest first, so that of equals the newer stays.
        unfinished: those that have not ended.
        keep_best: of each experiment's finished runs, all but this many with the highest validation accuracy.
    """
    gone = [entry for entry in entries if unfinished and entry.state == UNFINISHED]
    by_experiment: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.state == FINISHED:
            by_experiment.setdefault(entry.name, []).append(entry)
    for group in by_experiment.values() if keep_best else ():
        gone += sorted(group, key=lambda entry: -(entry.best_val or 0))[keep_best:]
    return gone


def spare_checkpoints(entry: Entry) -> list[Path]:
    """A finished run's checkpoints but for `best.pt`, without which it would be no result; [] of any other run."""
    found = sorted(Path(entry.path, CHECKPOINTS).glob("*.pt*"))
    if entry.state != FINISHED or not any(path.name == "best.pt" for path in found):
        return []
    return [path for path in found if path.name != "best.pt"]


def delete(run: Run, checkpoints: Sequence[Path] | None = None) -> None:
    """Delete a run or some of its checkpoints, while nobody can train it.

    Raises:
        CheckpointError: it is training right now.
        OSError: something cannot be deleted.
    """
    with run.lock():
        for path in checkpoints if checkpoints is not None else run.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()
    if checkpoints is None:
        (run.folder / ".lock").unlink(missing_ok=True)
        run.folder.rmdir()


def remove_empty(experiment: Path, runs: Path) -> None:
    """Remove an experiment's folder below `runs`, once no run is left in it."""
    if runs in experiment.parents:
        with suppress(OSError):  # it holds other runs
            experiment.rmdir()
