"""Tell a spreadsheet, TensorBoard or Weights & Biases of every epoch; a logger that fails never stops a training.

A run's own record is `metrics.jsonl`, and loggers are copies of it: when a run is resumed, each is brought to the
history of the checkpoint it goes on from, so no epoch is twice in it or missing.
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
"""How long the end of an online run may wait for an upload; what is left can be sent with `wandb sync` later."""


@dataclass(frozen=True)
class Start:
    """What a logger is told when a run starts or goes on.

    Attributes:
        folder: of the run.
        name: of the run, ``digits/2026-01-31_12-00-00``.
        config: resolved, plain values.
        history: the records of the epochs that are done; [] for a new run.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    history: list[dict[str, float]]


class Logger(Protocol):
    """What every logger can do; any of it may raise."""

    def open(self, start: Start) -> None:
        """Begin, or go on: hold exactly the epochs of the history from now on. May be called again."""

    def log(self, record: dict[str, float]) -> None:
        """Add an epoch: epoch, lr, train_loss, train_top1, val_loss, val_top1 and more, by name."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Add what `summary.json` says of the finished run."""

    def close(self) -> None:
        """Flush and let go; without `finish` before it, the run was interrupted."""


class Loggers:
    """Several loggers as one, which never raises: one that fails says so once on standard error and is left out.

    Args:
        loggers: by the name the user knows them by.
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

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for name, logger in list(self.working.items()):
            try:
                tell(logger)
            except Exception as error:  # whatever a network, a disk or a library comes up with
                del self.working[name]
                with suppress(Exception):
                    logger.close()
                said = str(error).partition("\n")[0] or type(error).__name__
                sys.stderr.write(f"logger={name} failed and is left out from now on; training goes on: {said}\n")


def build_loggers(config: Mapping[str, Any]) -> Loggers:
    """The loggers a config describes, not opened yet: nothing is written before `Loggers.open`.

    Args:
        config: name -> `_target_` and its arguments; {} for no logger.

    Raises:
        ConfigError: a logger that is not ours, an argument it does not take, or a package that is not installed.
    """
    return Loggers({str(name): instantiate(each, "loggers") for name, each in config.items()})


class Csv:
    """``<run>/metrics.csv``, a row an epoch; rewritten whole and atomically, so it can be opened at any time."""

    def open(self, start: Start) -> None:
        """See `Logger`."""
        self.path, self.rows = start.folder / "metrics.csv", list(start.history)
        self._write()

    def log(self, record: dict[str, float]) -> None:
        """See `Logger`."""
        self.rows.append(record)
        self._write()

    def finish(self, summary: dict[str, Any]) -> None:
        """A table of epochs has no place for it."""

    def close(self) -> None:
        """Nothing is left open."""

    def _write(self) -> None:
        text = io.StringIO(newline="")
        names = dict.fromkeys(name for row in self.rows for name in row)
        table = csv.DictWriter(text, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_atomically(text.getvalue().encode(), self.path)


class TensorBoard:
    """Scalars, the config and the summary in ``<run>/tensorboard``.

    Going on with a run writes its epochs anew, from the first, into a file of their own, which tells TensorBoard to
    drop what the older ones say; those stay, since a TensorBoard that is reading one would never get past its end. The
    wall clock of earlier epochs becomes that of the resumption.

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
    """Weights & Biases; its files are in ``<run>/wandb``, and so is the id by which a resumed run is the same run.

    Going on with a run offline writes its epochs anew, from the first, into one ``offline-run-...`` folder that
    replaces the older ones; upload it once the run has ended. Online, W&B is sent what it lacks.

    Args:
        project: of W&B.
        entity: team or user of W&B; the account's default.
        mode: ``offline`` sends nothing; ``online`` needs `wandb login` once, or WANDB_API_KEY.

    Raises:
        ConfigError: the package wandb is not installed.
        ValueError: another mode.
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
            if record["epoch"] >= self.run.step:  # W&B counts from 0; a resumed run tells what it has
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
    """``train_loss`` -> ``train/loss``, so that both tools draw a split's figures side by side."""
    split, _, metric = name.partition("_")
    return f"{split}/{metric}" if split in ("train", "val") and metric else name


def _not_installed(package: str, error: ImportError) -> ConfigError:
    return ConfigError(
        f"logger={package} needs the package {package} ({error}): install it with `pip install {package}`, or with "
        "the extra `loggers` of assay-research"
    )
