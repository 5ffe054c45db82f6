"""A run is the folder a training leaves: config, checkpoints, metrics, summary and figures."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from torch import nn

from assay_deploy.errors import AssayError
from assay_deploy.pictures.canvas import Canvas, View
from assay_research.config.build import build_model, load_data, read_views
from assay_research.data.classification import ClassificationData
from assay_research.data.detection import DetectionData
from assay_research.errors import CheckpointError, ConfigError
from assay_research.runs import checkpoint

CONFIG, METRICS, SUMMARY, CHECKPOINTS, FIGURES, EVALUATION = (
    "config.yaml",
    "metrics.jsonl",
    "summary.json",
    "checkpoints",
    "figures",
    "evaluation",
)


@dataclass(frozen=True)
class Trained:
    """A trained model and what it needs to be used.

    Attributes:
        model: from float32 ``[batch, 3, height, width]`` in [0, 1] to logits or `Detections`; in eval mode; the
            averaged weights where they were kept.
        classes: names, in the order of the logits or labels.
        canvas: what its pictures are put on.
        views: what it looks at when tested; the first is the plain view.
    """

    model: nn.Module
    classes: tuple[str, ...]
    canvas: Canvas
    views: tuple[View, ...]


class Run:
    """A run's folder, ``<runs>/<experiment>/<time>``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, runs: Path, config: DictConfig) -> "Run":
        """Make a new run's folder and write its resolved config."""
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        parent = runs / str(config.name)
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
    def open(cls, folder: Path) -> "Run":
        """A run that is there.

        Raises:
            CheckpointError: the folder is no run.
        """
        if not (folder / CONFIG).is_file():
            raise CheckpointError(
                f"'{folder}' is no run: expected a folder with {CONFIG}, such as runs/digits/2026-01-31_12-00-00"
            )
        return cls(folder)

    @classmethod
    def newest(cls, runs: Path, experiment: str | None = None) -> "Run":
        """The run whose config was written last among those with a checkpoint, of one experiment or at any depth.

        Raises:
            CheckpointError: there is none.
        """
        folder, depth = (runs, "**") if experiment is None else (runs / experiment, "*")
        found = [path.parents[1] for path in folder.glob(f"{depth}/{CHECKPOINTS}/best.pt")]
        if not found:
            raise CheckpointError(f"no finished epoch of any run under '{runs}': train one with `nox -s train`")
        return cls(max(found, key=lambda folder: (folder / CONFIG).stat().st_mtime))

    @property
    def name(self) -> str:
        """``<experiment>/<time>``."""
        folder = self.folder.resolve()
        return f"{folder.parent.name}/{folder.name}"

    def config(self) -> DictConfig:
        """The resolved config, as data: nothing in it is called.

        Raises:
            ConfigError: it is not readable YAML with a mapping at the top.
        """
        path = self.folder / CONFIG
        try:
            config = OmegaConf.load(path)
        except Exception as error:  # whatever YAML or OmegaConf makes of a damaged file
            raise ConfigError(f"'{path}' is not a readable config: {error}") from error
        if not isinstance(config, DictConfig):
            raise ConfigError(f"'{path}' is not a readable config: expected a mapping")
        return config

    def write_config(self, config: DictConfig) -> None:
        """Replace ``config.yaml``, resolved."""
        checkpoint.write_atomically(OmegaConf.to_yaml(config, resolve=True).encode(), self.folder / CONFIG)

    def write_metrics(self, history: list[dict[str, float]]) -> None:
        """Replace ``metrics.jsonl``: a JSON object an epoch, null for what is not finite."""
        lines = [
            json.dumps({key: value if math.isfinite(value) else None for key, value in record.items()})
            for record in history
        ]
        checkpoint.write_atomically("".join(line + "\n" for line in lines).encode(), self.folder / METRICS)

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

    def data(self, root: str | None = None) -> ClassificationData | DetectionData:
        """The data set it was trained on, read again; from the folder `root`, if it has moved since."""
        config = self.config()
        if root is not None:
            OmegaConf.update(config, "data.root", root)
        return load_data(config)

    def views(self) -> tuple[View, ...]:
        """What its model looks at when tested, the plain view first.

        Raises:
            ConfigError: none, or an impossible one.
        """
        return read_views(self.config())

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

    def load(self, name: str = "best", device: torch.device | str = "cpu") -> Trained:
        """The trained model of one checkpoint.

        Raises:
            ConfigError: the run's config names a builder that is not ours.
            CheckpointError: the checkpoint is missing, damaged, not trusted, or of another model.
        """
        config = self.config()
        state = checkpoint.load(self.checkpoint(name), device)
        try:
            classes = tuple(str(c) for c in state["classes"])
            canvas = Canvas(**state["canvas"])
            weights = state["ema"] or state["model"]
            model = build_model(config, len(classes)).to(device)
            model.load_state_dict(weights)
        except AssayError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            said = str(error)
            raise CheckpointError(
                f"'{self.checkpoint(name)}' does not fit the model of its run's {CONFIG}: "
                + (said if len(said) <= 300 else said[:300] + "...")
            ) from error
        return Trained(model.eval(), classes, canvas, read_views(config))
