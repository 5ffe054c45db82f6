"""A run is the folder a training leaves: config, checkpoints, metrics, summary and figures."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assay_research.config.yaml_text import read_yaml, to_yaml
from assay_research.errors import CheckpointError
from assay_research.runs.disk import write_atomically

CONFIG, METRICS, SUMMARY, CHECKPOINTS, FIGURES, EVALUATION = (
    "config.yaml",
    "metrics.jsonl",
    "summary.json",
    "checkpoints",
    "figures",
    "evaluation",
)


class Run:
    """A run's folder, ``<runs>/<experiment>/<time>``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, runs: Path, config: Mapping[str, Any]) -> "Run":
        """Make a new run's folder, named for the config's ``name`` and the time, and write its resolved config."""
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        parent = runs / str(config["name"])
        for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
            folder = parent / (stamp + suffix)
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            break
        (folder / CHECKPOINTS).mkdir()
        (folder / FIGURES).mkdir()
        run = cls(folder)
        run.write_config(config)
        return run

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """A run that is there.

        Raises:
            CheckpointError: the folder is no run.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise CheckpointError(
                f"'{folder}' is no run: expected a folder with {CONFIG}, such as runs/digits/2026-01-31_12-00-00"
            )
        return cls(folder)

    @classmethod
    def newest(cls, runs: str | Path, experiment: str | None = None) -> "Run":
        """The run whose config was written last among those with a checkpoint, of one experiment or at any depth.

        Raises:
            CheckpointError: there is none.
        """
        folder, depth = (Path(runs), "**") if experiment is None else (Path(runs, experiment), "*")
        found = [path.parents[1] for path in folder.glob(f"{depth}/{CHECKPOINTS}/best.pt")]
        if not found:
            raise CheckpointError(f"no finished epoch of any run under '{runs}': train one with `nox -s train`")
        return cls(max(found, key=lambda folder: (folder / CONFIG).stat().st_mtime))

    @property
    def name(self) -> str:
        """``<experiment>/<time>``."""
        folder = self.folder.resolve()
        return f"{folder.parent.name}/{folder.name}"

    def config(self) -> dict[str, Any]:
        """The resolved config, as data: nothing in it is called.

        Raises:
            ConfigError: it is not readable YAML with a mapping at the top.
        """
        return read_yaml(self.folder / CONFIG)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace ``config.yaml``; every value is resolved."""
        write_atomically(to_yaml(config).encode(), self.folder / CONFIG)

    def write_metrics(self, history: list[dict[str, float]]) -> None:
        """Replace ``metrics.jsonl``: a JSON object an epoch, null for what is not finite."""
        lines = [
            json.dumps({key: value if math.isfinite(value) else None for key, value in record.items()})
            for record in history
        ]
        write_atomically("".join(line + "\n" for line in lines).encode(), self.folder / METRICS)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other training out of this run; the lock falls with the process that holds it.

        Raises:
            CheckpointError: another process is training it.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise CheckpointError(f"another process is training '{self.folder}' right now") from error

    def checkpoint(self, name: str) -> Path:
        """Path of the checkpoint ``best``, ``last`` or ``epoch-0005``."""
        return self.folder / CHECKPOINTS / f"{name}.pt"

    def evaluation(self) -> Path:
        """The folder for what is measured after training; made if it is not there."""
        folder = self.folder / EVALUATION
        folder.mkdir(exist_ok=True)
        return folder

    def summary(self) -> dict[str, Any]:
        """`summary.json`, or {} while the run has not finished.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.folder / SUMMARY
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"'{path}' is not a readable summary ({error}); resume= writes it anew") from error
