"""Experiment: train a model in a run, resume, evaluate, load any checkpoint, and write the summary and figures."""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from assay_research.config.overrides import compose_settings
from assay_research.config.schema import TrainConfig
from assay_research.data.protocol import Data
from assay_research.errors import CheckpointError, ConfigError
from assay_research.experiment.trainers import make_trainer
from assay_research.loggers import Loggers, Start, build_loggers
from assay_research.runs import checkpoint, disk, finite_json
from assay_research.runs.provenance import commit, versions
from assay_research.runs.run import FIGURES, SUMMARY, Run
from assay_research.runs.trained import load
from assay_research.tasks.registry import task_of
from assay_research.terminal import say
from assay_research.training.device import hardware
from assay_research.training.distributed import World
from assay_research.training.loop import INTERRUPTED, Loop


class Experiment:
    """Training of one model, and the run it is saved in.

        trainer = Experiment.compose("experiment=tinyvgg_table2/a_36", "data=digits", "save_every=1")
        trainer.train(epochs=10)
        trainer.train(epochs=5)  # 5 more epochs
        trainer.evaluate()
        trainer.load_checkpoint(5)  # further training begins a new run, and does not change the old one

    Args:
        trainer: new training loop, built from `settings`.
        settings: settings that are saved as the run's config. The experiment itself uses only the name, the folder of
            runs, the seed, `save_every` and `figures`.
        run: run to resume; None creates a new one when training begins.
        world: the processes that train together.
        loggers: loggers that record every epoch.

    Attributes:
        trainer: training loop, with its history, model and data.
        run: the run; None until training begins.

    Raises:
        AssayError: the run's checkpoint is damaged, or no task exists for the data set.
    """

    def __init__(
        self,
        trainer: Loop,
        settings: TrainConfig,
        run: Run | None = None,
        world: World = World(),  # noqa: B008 - frozen
        loggers: Loggers | None = None,
    ) -> None:
        self.trainer, self.settings, self.run, self.world = trainer, settings, run, world
        self.code = commit()  # read now: the checkout may change before the end of the training
        self.loggers = loggers or Loggers({})
        self.task = task_of(trainer.data)
        self.source: Run | None = None
        if run is not None and run.checkpoint("last").is_file():
            trainer.load_state_dict(checkpoint.load(run.checkpoint("last"), trainer.device))
            if world.rank:  # the saved state is the first process's; dropout must differ by process
                torch.manual_seed(settings.seed + world.rank + 1_000_003 * trainer.epoch)

    @classmethod
    def build(
        cls,
        settings: TrainConfig,
        run: Run | None = None,
        world: World = World(),  # noqa: B008 - frozen
        data: Data | None = None,
    ) -> "Experiment":
        """Build an experiment from typed settings.

        Args:
            settings: settings of the training.
            run: run to resume; None creates a new one when training begins, after settings, data and device have been
                checked.
            world: the processes that train together.
            data: the data set that the settings describe, if it is already loaded.

        Raises:
            AssayError: settings, data, device or the run's checkpoint are invalid or not available.
        """
        loggers = build_loggers(settings.logger)
        resumed = run is not None and run.checkpoint("last").is_file()
        return cls(make_trainer(settings, world, data, fresh=not resumed), settings, run, world, loggers)

    @classmethod
    def compose(cls, *overrides: str) -> "Experiment":
        """Build a new experiment from overrides of `assay-train`; raises the errors of `build`."""
        return cls.build(compose_settings(overrides))

    def train(
        self, epochs: int, *, interrupted: Callable[[], bool] = lambda: False, progress: bool = sys.stderr.isatty()
    ) -> str:
        """Train for more epochs, saving after each.

        Args:
            epochs: number of epochs, 1 or more, or 0 if some are already done; a one-cycle schedule is stretched over
                all epochs, old and new.
            interrupted: called after steps; once it returns True, the state is saved and `train` returns.
            progress: show a progress bar.

        Returns:
            The reason why training ended, as text; `INTERRUPTED` if it was interrupted.

        Raises:
            AssayError: the number of epochs is invalid, another process trains this run, or the disk is full.
        """
        trainer = self.trainer
        if epochs < 0 or trainer.epoch + epochs == 0:
            raise ConfigError(f"expected 1 epoch or more to train, got {epochs}")
        settings = self.settings = replace(self.settings, epochs=trainer.epoch + epochs)
        if self.world.rank:
            return trainer.train(epochs, interrupted=interrupted)
        files = disk.checkpoints_to_write(trainer.epoch, settings.epochs, settings.save_every)
        average = trainer.ema.module if trainer.ema else None
        disk.check(
            self.run.folder if self.run else Path(settings.runs),
            checkpoint.needed(trainer.model, trainer.optimizer, files, average),
        )
        run = self._begun()
        with run.lock():
            plain = asdict(settings)
            run.write_config(plain)
            data = trainer.data
            say(
                f"run {run.folder}: {data.name}, {len(data.train)} train, {len(data.val)} val, {len(data.test)} test "
                f"images, on {self.hardware()}, {epochs} epochs to go"
            )
            self.loggers.open(Start(run.folder, run.name, plain, self._timed_history()))
            try:
                reason = trainer.train(epochs, after_epoch=self._save, interrupted=interrupted, progress=progress)
                if reason == INTERRUPTED:
                    checkpoint.save(trainer.state_dict(), run.checkpoint("last"))
                    self.loggers.close()
                else:
                    say(f"ended: {reason}")
                    run.write_metrics(trainer.history)
            except BaseException:
                self.loggers.close()
                raise
        return reason

    def evaluate(self, split: str = "val") -> Any:
        """Compute every metric of the current weights with the plain view.

        Args:
            split: ``train``, ``val`` or ``test``. Use ``val`` to make choices, and ``test`` only once at the end.

        Returns:
            Metrics of the task: `Scores` of a classifier, `BoxScores` of a detector.

        Raises:
            ConfigError: the split is another one.
        """
        if split not in ("train", "val", "test"):
            raise ConfigError(f"split must be train, val or test, got '{split}'")
        return self.task.evaluate(self.trainer, split)

    def load_checkpoint(self, which: int | str) -> None:
        """Load a checkpoint of this run: an epoch's number (saved with ``save_every=1``), ``best`` or ``last``.

        Raises:
            CheckpointError: the checkpoint does not exist or is damaged.
        """
        source = self.run or self.source
        if source is None:
            raise CheckpointError("there is no checkpoint yet: train first")
        path = source.checkpoint(which if isinstance(which, str) else f"epoch-{which:04d}")
        if not path.is_file():
            there = ", ".join(sorted(each.stem for each in path.parent.glob("*.pt")))
            raise CheckpointError(f"no checkpoint at '{path}'; available: {there}. save_every=1 saves every epoch")
        self.trainer.load_state_dict(checkpoint.load(path, self.trainer.device))
        self.run, self.source = None, source

    def finish(self, reason: str) -> dict[str, Any]:
        """Score the best epoch's weights once on the test split; write the summary and the figures.

        Args:
            reason: the reason why training ended, as returned by `train`.

        Returns:
            The content of ``summary.json``; in the file, values that are not finite are null.

        Raises:
            CheckpointError: the run has no trained epoch; after `load_checkpoint`, the new run has none yet.
        """
        run, trainer, settings = self.run, self.trainer, self.settings
        if run is None or not trainer.history:
            raise CheckpointError("there is no trained epoch: train first")
        best, data = trainer.best, trainer.data
        outcome = self.task.conclude(trainer, load(run, "best", trainer.device))
        summary = {
            "name": settings.name,
            "ended": reason,
            "epochs": trainer.epoch,
            "best_epoch": trainer.best_epoch,
            **{key: value for key, value in best.items() if key.startswith("val_")},
            **outcome.scores,
            "fit": outcome.fit,
            "dataset": data.name,
            "n": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
            "fingerprint": trainer.fingerprint,
            "seed": settings.seed,
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
            "commit": self.code,
            "versions": versions(),
            "hardware": self.hardware(),
            "seconds": round(trainer.seconds, 1),
        }
        finite_json.write(summary, run.folder / SUMMARY)
        self.loggers.finish(summary)
        self.loggers.close()
        say(
            f"best epoch {trainer.best_epoch}: {_words(best, 'val_')}; on {len(data.test)} test images: "
            + _words(outcome.scores, "test_")
        )
        say(outcome.fit)
        if settings.figures:
            folder = run.folder / FIGURES
            outcome.draw(folder, f"{settings.name} on {data.name}")
            say(f"figures: {folder}")
        say(f"run: {run.folder}")
        return summary

    def hardware(self) -> str:
        """Describe the hardware of the training."""
        each = hardware(self.trainer.device)
        return each if self.world.size == 1 else f"{self.world.size} processes, each on {each}"

    def _begun(self) -> Run:
        """Return the run to write to; create one if there is none yet, or after `load_checkpoint`."""
        if self.run is None:
            self.run = Run.create(Path(self.settings.runs), asdict(self.settings))
            if self.source is not None:
                self._take_over(self.source, self.run)
        return self.run

    def _take_over(self, source: Run, run: Run) -> None:
        """Copy the checkpoints up to the current epoch from another run."""
        for epoch in range(1, self.trainer.epoch + 1):
            kept = source.checkpoint(f"epoch-{epoch:04d}")
            if kept.is_file():
                shutil.copy(kept, run.checkpoint(kept.stem))
        best = source.checkpoint(f"epoch-{self.trainer.best_epoch:04d}")
        shutil.copy(best if best.is_file() else source.checkpoint("best"), run.checkpoint("best"))

    def _timed_history(self) -> list[dict[str, float]]:
        """Return the history with seconds per epoch for loggers; `metrics.jsonl` has no times, to be reproducible."""
        trainer = self.trainer
        return [
            record | {"seconds": seconds}
            for record, seconds in zip(trainer.history, trainer.epoch_seconds, strict=True)
        ]

    def _save(self) -> None:
        """Save the run after an epoch; `last.pt` is written last, since resuming relies on it."""
        assert self.run is not None
        run, trainer, settings = self.run, self.trainer, self.settings
        run.write_metrics(trainer.history)
        state = trainer.state_dict()
        if trainer.best_epoch == trainer.epoch:
            checkpoint.save(state, run.checkpoint("best"))
        if settings.save_every and trainer.epoch % settings.save_every == 0:
            checkpoint.save(state, run.checkpoint(f"epoch-{trainer.epoch:04d}"))
        checkpoint.save(state, run.checkpoint("last"))
        record = trainer.history[-1]
        self.loggers.log(self._timed_history()[-1])
        say(
            f"epoch {trainer.epoch:{len(str(settings.epochs))}d}/{settings.epochs}  lr {record['lr']:.5f}  "
            f"train {_words(record, 'train_')}  val {_words(record, 'val_')}  {trainer.epoch_seconds[-1]:.1f} s"
        )


def _words(record: Mapping[str, float], prefix: str) -> str:
    """Format the values whose keys have a prefix, as in ``loss 0.1234 top1 0.5678``."""
    return " ".join(
        f"{key.removeprefix(prefix)} {value:.4f}" for key, value in record.items() if key.startswith(prefix)
    )
