"""Training loop for any model; it can stop at any step and resume with identical results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict
from time import perf_counter
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from assay_research.config.schema import BATCH_SIZE, Stopping
from assay_research.data.protocol import Data
from assay_research.errors import CheckpointError, ConfigError
from assay_research.models.normalized import Normalized
from assay_research.schedules import Constant
from assay_research.training.distributed import World
from assay_research.training.stopping import reason_to_stop

INTERRUPTED = "interrupted"

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")

STEPS_BETWEEN_STOP_CHECKS = 20
"""Steps between two checks of distributed processes for a stop request: a check drains a GPU's queue."""


class LoopOptions(TypedDict, total=False):
    """Keyword arguments of every loop, described at `Loop`."""

    batch_size: int
    accumulate: int
    clip_grad_norm: float | None
    ema_decay: float | None
    stopping: Stopping | None
    seed: int
    device: torch.device | str
    dtype: torch.dtype
    compile_mode: str | None
    world: World


class Loop(ABC):
    """Training of one model on one data set; its whole state can be saved at any step.

    The last, partial batch of an epoch is left out (the order is new every epoch).

    Args:
        model: model for images in [0, 1], with its channel statistics set.
        data: the data set with its three splits.
        optimizer: optimizer over the model's parameters; its learning rates are the base rates of the schedule.
        schedule: learning-rate schedule, a factor on the base rates.
        batch_size: images per step, over all processes together, at most the training split's size.
        accumulate: number of parts that each process splits its share of a batch into, for batches that do not fit
            into memory; gradients differ only through BatchNorm, whose statistics are those of a part.
        clip_grad_norm: largest norm of the whole gradient; None does not clip.
        ema_decay: decay per step of averaged weights, which are then evaluated and saved; None does not average.
        stopping: early stopping.
        seed: random seed of the order of images and of their augmentation.
        device: device of model and batches.
        dtype: dtype of forward passes; bfloat16 means autocast.
        compile_mode: mode of `torch.compile`, one of `COMPILE_MODES`; None does not compile.
        world: the processes that train together. Their weights are those that one process would get at the same
            batch_size, with two exceptions: BatchNorm's statistics are each process's own (unless the model was
            converted to SyncBatchNorm) and the first process's running averages are saved; dropout differs by process.

    Attributes:
        epoch: number of finished epochs.
        history: one record per finished epoch: epoch, lr, ``train_`` with each of `MEASURED`, and `validate`'s results.
        best_epoch: the epoch with the highest `CHOSEN` (lowest validation loss among equals); 0 before the first.
        seconds: time spent in `train` in seconds, over all resumptions.
        epoch_seconds: seconds of each finished epoch, validation included; without the time before an interruption.
    """

    MEASURED: ClassVar[tuple[str, ...]] = ("loss",)
    """Names of the values that every training step measures."""

    CHOSEN: ClassVar[str]
    """Key in `history` of the score that selects the best epoch; higher is better."""

    def __init__(
        self,
        model: Normalized,
        data: Data,
        optimizer: torch.optim.Optimizer,
        schedule: Constant,
        *,
        batch_size: int = BATCH_SIZE,
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        ema_decay: float | None = None,
        stopping: Stopping | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compile_mode: str | None = None,
        world: World = World(),  # noqa: B008 - frozen
    ) -> None:
        if batch_size < 1 or (ema_decay is not None and not 0 < ema_decay < 1):
            raise ConfigError(f"expected batch_size >= 1 and 0 < ema_decay < 1, got {batch_size} and {ema_decay}")
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ConfigError(f"expected clip_grad_norm > 0, or null for no clipping, got {clip_grad_norm}")
        if stopping is not None and stopping.patience < 0:
            raise ConfigError(f"expected stopping.patience >= 0, where 0 never stops early, got {stopping.patience}")
        if compile_mode is not None and compile_mode not in COMPILE_MODES:
            raise ConfigError(f"compile must be null or one of {', '.join(COMPILE_MODES)}, got '{compile_mode}'")
        self.device = torch.device(device)
        self.dtype = dtype
        self.data = data
        self.fingerprint = data.fingerprint()
        self.schedule = schedule
        self.stopping = stopping or Stopping()
        self.world, self.accumulate = world, accumulate
        parts = max(1, world.size * accumulate)
        count = len(data.train)
        self.batch_size = min(batch_size, count) // parts * parts
        if accumulate < 1 or not self.batch_size or (batch_size < count and batch_size % parts):
            raise ConfigError(
                f"batch_size must be a multiple of accumulate times the number of processes, and accumulate at least "
                f"1; got {batch_size}, {accumulate} and {world.size}"
            )
        self.steps_per_epoch = count // self.batch_size
        self.clip_grad_norm, self.seed = clip_grad_norm, seed
        self.model = model
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.ema = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)
            if ema_decay is not None
            else None
        )
        compiled = torch.compile(model, mode=compile_mode) if compile_mode else model
        together = DistributedDataParallel(compiled) if world.size > 1 else None
        self.forward: Callable[..., Any] = together or compiled
        self.no_sync = together.no_sync if together else nullcontext
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.epoch, self.step = 0, 0
        self.totals = torch.zeros(len(self.MEASURED), dtype=torch.float64, device=self.device)
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.seconds = 0.0
        self.epoch_seconds: list[float] = []

    @abstractmethod
    def parts(self, indices: Tensor) -> Iterable[Any]:
        """Return this process's share of a batch, augmented, in `accumulate` parts.

        Args:
            indices: int64 ``[batch_size]`` on the device, indices of the training images of the whole batch.
        """

    @abstractmethod
    def measure(self, part: Any) -> tuple[Tensor, ...]:
        """Return the loss of one part, a scalar with gradients, and the other values of `MEASURED`."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Score `result` on the validation images: ``val_loss``, `CHOSEN` and more."""

    @abstractmethod
    def disable_augmentation(self) -> None:
        """Switch off augmentation, so that a model can overfit one batch.

        Raises:
            ConfigError: the loss of this task does not fall to near 0, so that no batch can be overfitted.
        """

    @property
    def result(self) -> nn.Module:
        """Model that is evaluated and saved: the one with averaged weights if `ema_decay` is set."""
        return self.ema.module if self.ema is not None else self.model

    @property
    def best(self) -> dict[str, float]:
        """Record of the best epoch."""
        return self.history[self.best_epoch - 1]

    def train(
        self,
        epochs: int,
        *,
        after_epoch: Callable[[], None] = lambda: None,
        interrupted: Callable[[], bool] = lambda: False,
        progress: bool = False,
    ) -> str:
        """Train for more epochs.

        Args:
            epochs: number of epochs; an interrupted epoch is finished first and counts.
            after_epoch: called after every epoch, with its record already in `history`.
            interrupted: called after every step; once it returns True, `train` returns `INTERRUPTED`.
            progress: show a progress bar for each epoch on standard error.

        Returns:
            The reason why training ended, as text.
        """
        last = self.epoch + epochs
        while self.epoch < last:
            reason = reason_to_stop(self.history, self.stopping)
            if reason:
                return reason
            started = perf_counter()
            finished = self._train_epoch(last * self.steps_per_epoch, interrupted, progress)
            if finished:
                self._finish_epoch()
            seconds = perf_counter() - started
            self.seconds += seconds
            if not finished:
                return INTERRUPTED
            self.epoch_seconds.append(seconds)
            after_epoch()
        return reason_to_stop(self.history, self.stopping) or f"all {last} epochs done"

    def _train_epoch(self, total_steps: int, interrupted: Callable[[], bool], progress: bool) -> bool:
        """Train to the end of this epoch; return False if interrupted before."""
        self.model.train()
        order = self.order()
        bar = tqdm(
            total=self.steps_per_epoch,
            initial=self.step,
            desc=f"epoch {self.epoch + 1}",
            unit="batch",
            leave=False,
            disable=not progress,
        )
        with bar:
            while self.step < self.steps_per_epoch:
                factor = self.schedule.factor((self.epoch * self.steps_per_epoch + self.step) / total_steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                first = self.step * self.batch_size
                self._step(order[first : first + self.batch_size])
                self.step += 1
                bar.update()
                check = self.step % STEPS_BETWEEN_STOP_CHECKS == 0 or self.step == self.steps_per_epoch
                if (self.world.size == 1 or check) and self.world.any(interrupted()):
                    self.totals = self.world.sum(self.totals) / self.world.size  # as saved in a checkpoint
                    return False
        return True

    def train_batch(self, indices: Tensor) -> list[float]:
        """Take one step on the images with these indices, int64 ``[batch_size]``, and return the values of `MEASURED`.

        Waits for the device; `train` does not.
        """
        self._step(indices)
        measured: list[float] = self.totals.tolist()
        self.totals.zero_()
        return measured

    def _step(self, indices: Tensor) -> None:
        self.optimizer.zero_grad()
        for number, part in enumerate(self.parts(indices), start=1):
            with self.no_sync() if number < self.accumulate else nullcontext():
                with self.autocast():
                    loss, *rest = self.measure(part)
                (loss / self.accumulate).backward()
            # Summed on the device: reading them each step would make the host wait for it.
            self.totals += torch.stack([loss.detach(), *rest]) / self.accumulate
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)

    def autocast(self) -> torch.autocast:
        """Return the autocast context of forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _finish_epoch(self) -> None:
        found = self.validate()
        totals = (self.world.sum(self.totals) / self.world.size / self.steps_per_epoch).tolist()
        self.epoch, self.step = self.epoch + 1, 0
        self.totals.zero_()
        self.history.append(
            {
                "epoch": self.epoch,
                "lr": self.optimizer.param_groups[0]["lr"],
                **{f"train_{name}": total for name, total in zip(self.MEASURED, totals, strict=True)},
                **found,
            }
        )
        if self.best_epoch == 0 or self._rank(self.history[-1]) > self._rank(self.best):
            self.best_epoch = self.epoch
        self.schedule.observe(found["val_loss"])

    def _rank(self, record: dict[str, float]) -> tuple[float, float]:
        return record[self.CHOSEN], -record["val_loss"]

    def order(self) -> Tensor:
        """Return this epoch's order of the training images; it depends only on seed and epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(len(self.data.train), generator=generator).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint: tensors and plain values."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "ema_updates": self.ema.n_averaged if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "epoch": self.epoch,
            "step": self.step,
            "totals": self.totals,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "random": {"torch": torch.get_rng_state(), "cuda": cuda, "augment": self.generator.get_state()},
            "classes": list(self.data.classes),
            "canvas": asdict(self.data.canvas),
            "fingerprint": self.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Raises:
            CheckpointError: the checkpoint is of another model or another data set.
        """
        if state.get("fingerprint") != self.fingerprint:
            raise CheckpointError(
                f"the data set '{self.data.name}' is not the one this run was trained on: its images, labels or "
                "splits have changed. Restore the old data set, or start a new run"
            )
        try:
            self.model.load_state_dict(state["model"])
            if self.ema is not None:
                self.ema.module.load_state_dict(state["ema"])
                self.ema.n_averaged.copy_(state["ema_updates"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.restore(state["schedule"])
            self.epoch, self.step = state["epoch"], state["step"]
            self.totals.copy_(state["totals"])
            self.history, self.best_epoch = list(state["history"]), state["best_epoch"]
            self.seconds, self.epoch_seconds = state["seconds"], list(state["epoch_seconds"])
            torch.set_rng_state(state["random"]["torch"].cpu())
            if self.device.type == "cuda" and state["random"]["cuda"] is not None:
                torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), self.device)
            if state["random"]["augment"].numel() == self.generator.get_state().numel():
                self.generator.set_state(state["random"]["augment"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint does not fit this training: {error}") from error
