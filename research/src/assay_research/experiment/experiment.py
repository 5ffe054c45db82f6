"""One experiment in one run: train it, go on, evaluate it, go back to any epoch, and write its `summary.json`."""

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
    """A training and the run it leaves.

        trainer = Experiment.compose("experiment=tinyvgg_table2/a_36", "data=digits", "save_every=1")
        trainer.train(epochs=10)
        trainer.train(epochs=5)  # goes on
        trainer.evaluate()
        trainer.load_checkpoint(5)  # training on from here begins a new run, and leaves the old one as it is

    Args:
        trainer: the loop, fresh; what `settings` say of it is in it already.
        settings: what the run keeps as its config. The experiment itself goes by the name, the folder of runs, the
            seed, `save_every` and `figures`.
        run: go on with this one, where it stopped; None makes a new one once training begins.
        world: the processes that train it together.
        loggers: told of every epoch.

    Attributes:
        trainer: the loop: its history, model and data.
        run: None until training begins.

    Raises:
        AssayError: the run's checkpoint is not to be had, or there is no task that the data are for.
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
        self.code = commit()  # asked now: by the end, the checkout may hold other code than what is running
        self.loggers = loggers or Loggers({})
        self.task = task_of(trainer.data)
        self.source: Run | None = None
        if run is not None and run.checkpoint("last").is_file():
            trainer.load_state_dict(checkpoint.load(run.checkpoint("last"), trainer.device))
            if world.rank:  # the state is the first process's, and dropout is each one's own
                torch.manual_seed(settings.seed + world.rank + 1_000_003 * trainer.epoch)

    @classmethod
    def build(
        cls,
        settings: TrainConfig,
        run: Run | None = None,
        world: World = World(),  # noqa: B008 - frozen
        data: Data | None = None,
    ) -> "Experiment":
        """The experiment that typed settings describe.

        Args:
            settings: everything about it.
            run: go on with this one, where it stopped; None makes a new one once training begins, when settings, data
                and device are known to be good.
            world: the processes that train it together.
            data: what the settings describe, if it was read before.

        Raises:
            AssayError: the settings, the data, the device or the run's checkpoint is not to be had.
        """
        loggers = build_loggers(settings.logger)
        resumed = run is not None and run.checkpoint("last").is_file()
        return cls(make_trainer(settings, world, data, fresh=not resumed), settings, run, world, loggers)

    @classmethod
    def compose(cls, *overrides: str) -> "Experiment":
        """A new experiment, of the overrides that `assay-train` takes; raises as `build` does."""
        return cls.build(compose_settings(overrides))

    def train(
        self, epochs: int, *, interrupted: Callable[[], bool] = lambda: False, progress: bool = sys.stderr.isatty()
    ) -> str:
        """Train that many epochs more, saving after each.

        Args:
            epochs: how many, 1 or more, or 0 where some are done; a cycle of the learning rate is stretched over what
                was trained before and this.
            interrupted: asked after steps; once it says yes, the state is saved and `train` returns.
            progress: draw a progress bar.

        Returns:
            Why it ended, in words; `INTERRUPTED` if it was.

        Raises:
            AssayError: fewer epochs, another process trains this run, or the disk is full.
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
        """Every metric of the weights as they are now, seen through the plain view.

        Args:
            split: ``train``, ``val`` or ``test``. Choose by ``val``: figures of ``test`` count once.

        Returns:
            What the task measures: `Scores` of a classifier, `BoxScores` of a detector.

        Raises:
            ConfigError: another split.
        """
        if split not in ("train", "val", "test"):
            raise ConfigError(f"split must be train, val or test, got '{split}'")
        return self.task.evaluate(self.trainer, split)

    def load_checkpoint(self, which: int | str) -> None:
        """Go to a checkpoint of this run: an epoch's number (kept with ``save_every=1``), ``best`` or ``last``.

        Raises:
            CheckpointError: there is none, or its best epoch's is not there.
        """
        source = self.run or self.source
        if source is None:
            raise CheckpointError("there is no checkpoint yet: train first")
        path = source.checkpoint(which if isinstance(which, str) else f"epoch-{which:04d}")
        if not path.is_file():
            there = ", ".join(sorted(each.stem for each in path.parent.glob("*.pt")))
            raise CheckpointError(f"no checkpoint at '{path}'; there are: {there}. save_every=1 keeps every epoch's")
        self.trainer.load_state_dict(checkpoint.load(path, self.trainer.device))
        self.run, self.source = None, source

    def finish(self, reason: str) -> dict[str, Any]:
        """Score the best epoch's weights once on the test split; write the summary and the figures.

        Args:
            reason: why training ended.

        Returns:
            The summary, as ``summary.json`` holds it, with null there for a loss that is not finite.

        Raises:
            CheckpointError: no epoch of this run is trained; after `load_checkpoint`, none yet of the new one.
        """
        run, trainer, settings = self.run, self.trainer, self.settings
        if run is None or not trainer.history:
            raise CheckpointError("there is no trained epoch to finish with: train first")
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
        """What it trains on, in words."""
        each = hardware(self.trainer.device)
        return each if self.world.size == 1 else f"{self.world.size} processes, each on {each}"

    def _begun(self) -> Run:
        """The run to write to: a new one where there is none yet, or where training goes on from an earlier epoch."""
        if self.run is None:
            self.run = Run.create(Path(self.settings.runs), asdict(self.settings))
            if self.source is not None:
                self._take_over(self.source, self.run)
        return self.run

    def _take_over(self, source: Run, run: Run) -> None:
        """Copy the checkpoints up to the epoch that training goes on from."""
        for epoch in range(1, self.trainer.epoch + 1):
            kept = source.checkpoint(f"epoch-{epoch:04d}")
            if kept.is_file():
                shutil.copy(kept, run.checkpoint(kept.stem))
        best = source.checkpoint(f"epoch-{self.trainer.best_epoch:04d}")
        shutil.copy(best if best.is_file() else source.checkpoint("best"), run.checkpoint("best"))

    def _timed_history(self) -> list[dict[str, float]]:
        """What loggers are told: times are theirs, for `metrics.jsonl` is the same whoever trains it."""
        trainer = self.trainer
        return [
            record | {"seconds": seconds}
            for record, seconds in zip(trainer.history, trainer.epoch_seconds, strict=True)
        ]

    def _save(self) -> None:
        """Leave the run on disk as it stands after an epoch; `last.pt` is written last, for resuming trusts it."""
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
    """Figures whose names begin so, as in ``loss 0.1234 top1 0.5678``."""
    return " ".join(
        f"{key.removeprefix(prefix)} {value:.4f}" for key, value in record.items() if key.startswith(prefix)
    )
