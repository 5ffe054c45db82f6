"""Folder of a run: config, checkpoints, metrics, summary and figures of one training."""

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
    """Folder of a run, ``<runs>/<experiment>/<time>``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, runs: Path, config: Mapping[str, Any]) -> "Run":
        """Create the folder of a new run, named after the config's ``name`` and the time, and write the config."""
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
        """Open an existing run.

        Raises:
            CheckpointError: the folder is not a run.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise CheckpointError(
                f"'{folder}' is not a run: expected a folder with {CONFIG}, such as runs/digits/2026-01-31_12-00-00"
            )
        return cls(folder)

    @classmethod
    def newest(cls, runs: str | Path, experiment: str | None = None) -> "Run":
        """Open the newest run with a checkpoint, by the time its config was written.

        Args:
            runs: folder that contains the runs, at any depth.
            experiment: name of the experiment; None for any.

        Raises:
            CheckpointError: there is no such run.
        """
        folder, depth = (Path(runs), "**") if experiment is None else (Path(runs, experiment), "*")
        found = [path.parents[1] for path in folder.glob(f"{depth}/{CHECKPOINTS}/best.pt")]
        if not found:
            raise CheckpointError(f"no run with a finished epoch under '{runs}': train one with `nox -s train`")
        return cls(max(found, key=lambda folder: (folder / CONFIG).stat().st_mtime))

    @property
    def name(self) -> str:
        """``<experiment>/<time>``."""
        folder = self.folder.resolve()
        return f"{folder.parent.name}/{folder.name}"

    def config(self) -> dict[str, Any]:
        """Read the resolved config as plain data.

        Raises:
            ConfigError: the file is not readable YAML with a mapping at the top level.
        """
        return read_yaml(self.folder / CONFIG)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace ``config.yaml`` with a resolved config."""
        write_atomically(to_yaml(config).encode(), self.folder / CONFIG)

    def write_metrics(self, history: list[dict[str, float]]) -> None:
        """Replace ``metrics.jsonl``: one JSON object per epoch, with null for values that are not finite."""
        lines = [
            json.dumps({key: value if math.isfinite(value) else None for key, value in record.items()})
            for record in history
        ]
        write_atomically("".join(line + "\n" for line in lines).encode(), self.folder / METRICS)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run against other trainings; the lock is released when the process ends.

        Raises:
            CheckpointError: another process is training the run.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise CheckpointError(f"another process is training '{self.folder}' right now") from error

    def checkpoint(self, name: str) -> Path:
        """Return the path of the checkpoint ``best``, ``last`` or ``epoch-0005``."""
        return self.folder / CHECKPOINTS / f"{name}.pt"

    def evaluation(self) -> Path:
        """Return the folder for results of evaluations; create it if it does not exist."""
        folder = self.folder / EVALUATION
        folder.mkdir(exist_ok=True)
        return folder

    def summary(self) -> dict[str, Any]:
        """Read `summary.json`; {} if the run has not finished.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = self.folder / SUMMARY
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"'{path}' cannot be read as a summary ({error}); resuming the run with resume= rewrites it"
            ) from error
