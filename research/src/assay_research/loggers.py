"""Loggers that record every epoch as CSV, in TensorBoard or in Weights & Biases; their errors never stop a training.

A run's own record is `metrics.jsonl`, and loggers are copies of it: when a run is resumed, each logger is reset to the
history of the checkpoint, so no epoch is duplicated or missing.
"""

import csv
import io
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from assay_research.config.build import instantiate
from assay_research.errors import ConfigError
from assay_research.runs.disk import write_atomically

FINISH_SECONDS = 60
"""Longest wait for uploads at the end of an online run, in seconds; the rest can be sent with `wandb sync` later."""


@dataclass(frozen=True)
class Start:
    """Information for loggers when a run starts or is resumed.

    Attributes:
        folder: folder of the run.
        name: name of the run, ``digits/2026-01-31_12-00-00``.
        config: resolved config, plain values.
        history: records of the finished epochs; [] for a new run.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    history: list[dict[str, float]]


class Logger(Protocol):
    """Interface of a logger; any method may raise."""

    def open(self, start: Start) -> None:
        """Start or resume: set the recorded epochs to exactly those of the history. May be called again."""

    def log(self, record: dict[str, float]) -> None:
        """Record an epoch: epoch, lr, train_loss, train_top1, val_loss, val_top1 and more, by name."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Record the summary of the finished run, the content of `summary.json`."""

    def close(self) -> None:
        """Flush and close; without a previous `finish`, the run was interrupted."""


class Loggers:
    """Group of loggers that never raises: a logger that fails is reported once on standard error and removed.

    Args:
        loggers: loggers by their names in the config.
    """

    def __init__(self, loggers: Mapping[str, Logger]) -> None:
        self.working = dict(loggers)

    def open(self, start: Start) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.open(start))

    def log(self, record: dict[str, float]) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.log(record))

    def finish(self, summary: dict[str, Any]) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.finish(summary))

    def close(self) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.close())

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self.working.items()):
            try:
                call(logger)
            except Exception as error:  # any error of a network, a disk or a library
                del self.working[name]
                with suppress(Exception):
                    logger.close()
                message = str(error).partition("\n")[0] or type(error).__name__
                sys.stderr.write(f"logger={name} failed and is switched off; training continues: {message}\n")


def build_loggers(config: Mapping[str, Any]) -> Loggers:
    """Build the loggers of a config; nothing is written before `Loggers.open`.

    Args:
        config: name -> `_target_` and its arguments; {} for no logger.

    Raises:
        ConfigError: a logger is not defined in this package, an argument is unknown, or a package is not installed.
    """
    return Loggers({str(name): instantiate(each, "loggers") for name, each in config.items()})


class Csv:
    """Logger to ``<run>/metrics.csv``, one row per epoch; the file is replaced atomically after each epoch."""

    def open(self, start: Start) -> None:
        """See `Logger`."""
        self.path, self.rows = start.folder / "metrics.csv", list(start.history)
        self._write()

    def log(self, record: dict[str, float]) -> None:
        """See `Logger`."""
        self.rows.append(record)
        self._write()

    def finish(self, summary: dict[str, Any]) -> None:
        """Do nothing: the table contains only epochs."""

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _write(self) -> None:
        text = io.StringIO(newline="")
        names = dict.fromkeys(name for row in self.rows for name in row)
        table = csv.DictWriter(text, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_atomically(text.getvalue().encode(), self.path)


class TensorBoard:
    """Logger of scalars, the config and the summary to ``<run>/tensorboard``.

    When a run is resumed, all its epochs are written again to a new file, which makes TensorBoard discard the values of
    the older files. Those are not deleted, since a TensorBoard that is reading one would never get past its end. The
    wall-clock time of earlier epochs becomes that of the resumption.

    Raises:
        ConfigError: the package tensorboard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _not_installed("tensorboard", error) from error
        self._make = SummaryWriter
        self.writer: Any = None

    def open(self, start: Start) -> None:
        """See `Logger`."""
        self.close()
        folder = start.folder / "tensorboard"
        self.writer = self._make(str(folder), purge_step=1 if folder.is_dir() else None)
        self._text("config", start.config)
        for record in start.history:
            self._add(record)
        self.writer.flush()

    def log(self, record: dict[str, float]) -> None:
        """See `Logger`."""
        self._add(record)
        self.writer.flush()

    def finish(self, summary: dict[str, Any]) -> None:
        """See `Logger`."""
        self._text("summary", summary)

    def close(self) -> None:
        """See `Logger`."""
        if self.writer is not None:
            self.writer.close()
        self.writer = None

    def _add(self, record: dict[str, float]) -> None:
        for name, value in record.items():
            if name != "epoch":
                self.writer.add_scalar(_tag(name), value, int(record["epoch"]))

    def _text(self, tag: str, content: dict[str, Any]) -> None:
        block = "".join(f"    {line}\n" for line in json.dumps(content, indent=2, default=str).splitlines())
        self.writer.add_text(tag, block)


class Wandb:
    """Logger to Weights & Biases; its files and the run id, which resumed runs reuse, are in ``<run>/wandb``.

    When a run is resumed offline, all its epochs are written again to one ``offline-run-...`` folder that replaces the
    older ones; upload it once the run has ended. Online, only missing epochs are sent to W&B.

    Args:
        project: W&B project.
        entity: W&B team or user; None for the account's default.
        mode: ``offline`` sends nothing; ``online`` needs `wandb login` once, or WANDB_API_KEY.

    Raises:
        ConfigError: the package wandb is not installed.
        ValueError: the mode is another one.
    """

    def __init__(self, project: str = "assay", entity: str | None = None, mode: str = "offline") -> None:
        if mode not in ("offline", "online"):
            raise ValueError(f"mode must be offline or online, got '{mode}'")
        # It sends usage and error reports to its maker, offline mode included, unless told not to before its import.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise _not_installed("wandb", error) from error
        self._wandb = wandb
        self.project, self.entity, self.offline = project, entity, mode == "offline"
        self.run: Any = None
        self.finished = False

    def open(self, start: Start) -> None:
        """See `Logger`."""
        self.close()
        self.finished = False
        folder = start.folder / "wandb"
        folder.mkdir(exist_ok=True)
        identity = folder / "id.txt"
        if not identity.is_file():
            write_atomically(secrets.token_hex(4).encode(), identity)
        name = identity.read_text(encoding="ascii").strip()
        older = list(folder.glob("offline-run-*"))
        self.run = self._wandb.init(
            project=self.project,
            entity=self.entity,
            dir=start.folder,
            id=name,
            name=start.name,
            config=start.config,
            mode="offline" if self.offline else "online",
            resume=None if self.offline else "allow",
            settings=self._wandb.Settings(console="off", silent=self.offline, finish_timeout=FINISH_SECONDS),
        )
        for record in start.history:
            if record["epoch"] >= self.run.step:  # W&B counts from 0; a resumed run's step is the number of its epochs
                self.log(record)
        if self.offline:
            for path in older:
                if path.name != Path(self.run.settings.sync_dir).name:
                    shutil.rmtree(path)

    def log(self, record: dict[str, float]) -> None:
        """See `Logger`."""
        values = {_tag(name): value for name, value in record.items() if name != "epoch"}
        self.run.log(values, step=int(record["epoch"]))

    def finish(self, summary: dict[str, Any]) -> None:
        """See `Logger`."""
        self.run.summary.update(summary)
        self.finished = True

    def close(self) -> None:
        """See `Logger`."""
        if self.run is not None:
            self.run.finish(exit_code=0 if self.finished else 1)
        self.run = None


def _tag(name: str) -> str:
    """Convert ``train_loss`` to ``train/loss``, so that both tools group the plots by split."""
    split, _, metric = name.partition("_")
    return f"{split}/{metric}" if split in ("train", "val") and metric else name


def _not_installed(package: str, error: ImportError) -> ConfigError:
    return ConfigError(
        f"logger={package} needs the package {package} ({error}): install it with `pip install {package}`, or with "
        "the extra `loggers` of assay-research"
    )
