"""Permanent records of finished runs, in docs/results/<name>.json."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assay_research.config.files import CONF, EVERYTHING, studies
from assay_research.config.overrides import compose_settings
from assay_research.config.yaml_text import read_yaml
from assay_research.errors import CheckpointError, ConfigError, DataError, nearest
from assay_research.reports.studies.study import DOCUMENT
from assay_research.runs.disk import write_atomically
from assay_research.runs.history import read_history
from assay_research.runs.run import CONFIG, Run
from assay_research.runs.score import metric_of

FACTS = ("epochs", "best_epoch", "ended", "parameters", "fingerprint", "commit", "versions", "hardware", "seconds")
RECIPE = (
    *("model", "optim", "schedule", "augment", "stopping", "views", "epochs", "batch_size", "accumulate"),
    *("sync_batchnorm", "label_smoothing", "clip_grad_norm", "ema_decay"),
)
"""Config keys that define an experiment; data, seed and machine are columns of the results table."""


@dataclass(frozen=True, order=True)
class ZooExperiment:
    """Experiment of the model zoo.

    Attributes:
        choice: value of ``experiment=``, such as ``tinyvgg_table2/c_36``.
        name: name of its runs, such as ``tinyvgg_c_36``.
    """

    choice: str
    name: str

    @property
    def member(self) -> str:
        """Name within the study, such as ``c_36``."""
        return self.choice.rpartition("/")[2]


def experiments() -> dict[str, list[ZooExperiment]]:
    """Return the experiments of each study, from the folder of configs."""
    return {
        study: [ZooExperiment(choice, read_yaml(CONF / "experiment" / f"{choice}.yaml")["name"]) for choice in choices]
        for study, choices in studies().items()
        if study != EVERYTHING
    }


def record(runs: Iterable[Run], folder: Path) -> list[str]:
    """Add finished runs to the files of their experiments; a run replaces one with the same data set and seed.

    Args:
        runs: the runs; all are checked before a file is written.
        folder: folder of the files.

    Returns:
        Names of the experiments.

    Raises:
        AssayError: a run is unfinished, damaged, or belongs to no experiment.
    """
    known = {experiment.name: experiment for study in experiments().values() for experiment in study}
    entries: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for run in runs:
        name, entry = _entry(run, known)
        old = {(each["dataset"], each["seed"]): each for each in recorded(folder, name)}
        entries.setdefault(name, old)[entry["dataset"], entry["seed"]] = entry
    for name, found in entries.items():
        ordered = [found[key] for key in sorted(found)]
        write_atomically(_lines(known[name].choice, ordered).encode(), folder / f"{name}.json")
    return list(entries)


def recorded(folder: Path, name: str) -> list[dict[str, Any]]:
    """Read the recorded runs of an experiment, ordered by data set and seed; [] if there are none.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / f"{name}.json"
    runs = read_json(path).get("runs") if path.is_file() else []
    if not isinstance(runs, list):
        raise DataError(f"'{path}' is not a file of `nox -s results`: expected a list of runs")
    return runs


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DataError(f"there is no '{path}': run this command in the project's folder") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"'{path}' is not readable JSON ({error})") from error


def finished_runs(folder: Path) -> list[Run]:
    """Find the finished runs in a folder, and print a line for each unfinished one.

    Args:
        folder: the folder of a run, of a sweep, or a folder with runs at any depth.

    Raises:
        CheckpointError: there is no finished run.
    """
    if (folder / CONFIG).is_file():
        return [Run.open(folder)]
    if (folder / DOCUMENT).is_file():
        members = read_json(folder / DOCUMENT).get("members", [])
        folders = [folder / each["run"] for each in members if each.get("run")]
    else:
        folders = sorted(path.parent for path in folder.rglob(CONFIG))
    finished = []
    for run in map(Run.open, folders):
        if run.summary():
            finished.append(run)
        else:
            sys.stdout.write(f"left out, unfinished: {run.folder}\n")
    if not finished:
        raise CheckpointError(
            f"'{folder}' contains no finished run: expected a run's folder, or a folder with runs in it"
        )
    return finished


def _entry(run: Run, known: Mapping[str, ZooExperiment]) -> tuple[str, dict[str, Any]]:
    """Return the name of a run's experiment and the record of the run."""
    summary = run.summary()
    if not summary:
        raise CheckpointError(f"'{run.folder}' is unfinished: finish it with `nox -s train -- resume={run.folder}`")
    name = str(summary.get("name"))
    if name not in known:
        raise ConfigError(f"'{run.folder}' is a run of '{name}', which is not an experiment; {nearest(name, known)}")
    metric = metric_of(summary)
    missing = {"dataset", "n", "seed", metric.scores[0], metric.val, *FACTS} - set(summary)
    history = read_history(run)
    if missing or not history:
        lacks = ", ".join(sorted(missing)) or "its metrics"
        raise CheckpointError(f"'{run.folder}' lacks {lacks}: expected the files of a finished training")
    config, ours = run.config(), asdict(compose_settings([f"experiment={known[name].choice}"]))
    return name, {
        **{key: summary[key] for key in ("dataset", "seed", "n")},
        **{key: value for key, value in summary.items() if key.startswith(("test_", "val_")) and key != "val_loss"},
        **{key: summary[key] for key in FACTS},
        "overrides": [line for key in RECIPE if key in config for line in _changes(key, config[key], ours.get(key))],
        "curves": {key: [each[key] for each in history] for key in ("train_loss", metric.val)},
    }


def _changes(key: str, given: Any, expected: Any) -> list[str]:
    """Return the overrides that turn `expected` into `given`; keys that only one of them has are skipped."""
    if isinstance(given, dict) and isinstance(expected, dict):
        return [
            line
            for each in given
            if each in expected
            for line in _changes(f"{key}.{each}", given[each], expected[each])
        ]
    return [] if given == expected else [f"{key}={json.dumps(given)}".replace('"', "").replace(" ", "")]


def _lines(choice: str, runs: Iterable[Mapping[str, Any]]) -> str:
    """Format runs as JSON with one line per fact, so that a changed fact is one changed line in a diff."""
    facts = (
        ",\n".join(f"   {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in run.items())
        for run in runs
    )
    texts = ",\n".join(f"  {{\n{each}\n  }}" for each in facts)
    return f'{{\n "experiment": {json.dumps(choice)},\n "runs": [\n{texts}\n ]\n}}\n'
