"""Inventory of the runs on disk: find them, determine their state, and select and delete old ones."""

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
    """Entry of the inventory: the state of one run, read from its files.

    Attributes:
        path: path of the run's folder.
        name: name of the experiment; "" if the config cannot be read.
        data: name of the data set.
        epochs: number of finished epochs.
        planned: number of epochs in the config; None if the config cannot be read.
        best_val: highest validation score over the finished epochs, top-1 or mAP in [0, 1]; None before the first.
        test: test score of the finished run, top-1 or mAP in [0, 1]; None unless it is finished.
        bytes: size on disk in bytes.
        state: finished, unfinished or running.
        written: time at which the config was written, in seconds since 1970.
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
    """Find all runs at any depth under a folder, newest first; symbolic links are not followed.

    Raises:
        CheckpointError: the folder does not exist.
    """
    if not runs.is_dir():
        raise CheckpointError(f"no folder '{runs}': expected the folder that contains the runs, `runs` by default")
    entries = []
    for place, folders, files in os.walk(runs):
        checkpoints = Path(place, CHECKPOINTS)
        if CONFIG in files and checkpoints.is_dir() and not checkpoints.is_symlink():
            folders.clear()
            entries.append(examine(Run(Path(place))))
    return sorted(entries, key=lambda entry: (entry.written, entry.path), reverse=True)


def examine(run: Run) -> Entry:
    """Read the state of one run from its files; a damaged file is treated as missing."""
    try:
        config = run.config()
    except ConfigError:
        config = {}
    try:
        summary = run.summary()
    except CheckpointError:
        summary = {}
    scores = _validation_scores(run.folder / METRICS)
    # A run that is resumed with more epochs retains its old summary until it has ended again.
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
    """Return the name of a data set: its `name`, ``photos`` for an image folder, ``digits`` for data/digits.py."""
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


def runs_to_delete(entries: Sequence[Entry], unfinished: bool, keep_best: int | None) -> list[Entry]:
    """Select the runs to delete as a whole.

    Args:
        entries: all runs, newest first; of runs with equal scores the newer is retained.
        unfinished: select the runs that have not ended.
        keep_best: number of finished runs to retain of each experiment, those with the highest validation score; the
            others are selected. None selects no finished runs.
    """
    gone = [entry for entry in entries if unfinished and entry.state == UNFINISHED]
    by_experiment: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.state == FINISHED:
            by_experiment.setdefault(entry.name, []).append(entry)
    for group in by_experiment.values() if keep_best else ():
        gone += sorted(group, key=lambda entry: -(entry.best_val or 0))[keep_best:]
    return gone


def checkpoints_to_delete(entry: Entry) -> list[Path]:
    """Select all checkpoints of a finished run except `best.pt`; [] for any other run, or one without `best.pt`."""
    found = sorted(Path(entry.path, CHECKPOINTS).glob("*.pt*"))
    if entry.state != FINISHED or not any(path.name == "best.pt" for path in found):
        return []
    return [path for path in found if path.name != "best.pt"]


def delete(run: Run, checkpoints: Sequence[Path] | None = None) -> None:
    """Delete a run, or some of its checkpoints, while holding its lock.

    Raises:
        CheckpointError: the run is being trained.
        OSError: a file cannot be deleted.
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
    """Remove an experiment's folder below `runs` if it contains no run."""
    if runs in experiment.parents:
        with suppress(OSError):  # it holds other runs
            experiment.rmdir()
