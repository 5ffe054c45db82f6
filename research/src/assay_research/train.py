"""Train one classifier: `assay-train [key=value ...]` makes a run, `assay-train resume=<run>` goes on with one."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_deploy.canvas import View
from assay_research import checkpoint
from assay_research.classification import INTERRUPTED, Trainer
from assay_research.config import TrainConfig, instantiate, nearest
from assay_research.console import resilient
from assay_research.data import ClassificationData
from assay_research.data.augment import Augment, augment
from assay_research.device import choose_device, choose_precision, hardware
from assay_research.errors import AssayError, ConfigError
from assay_research.evaluation import predict, top1
from assay_research.models import Normalized
from assay_research.provenance import commit, versions
from assay_research.run import FIGURES, SUMMARY, Run, build_model, load_data, read_views
from assay_research.views import Views

CONF = Path(__file__).parent / "conf"
MAY_CHANGE = (
    "data.root",
    "device",
    "epochs",
    "figures",
    "save_every",
    "stopping.min_delta",
    "stopping.patience",
)
"""What `resume=` lets one change: nothing that would make the run another experiment."""


class StoppedError(Exception):
    """Training was asked to stop by a signal, and saved what it had."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def train(config: DictConfig, run: Run | None = None) -> Run:
    """Train as the config says, in a new run or going on with an old one.

    A new run's folder is made only once config, data and device are known to be good.

    Raises:
        AssayError: bad config, data, device or checkpoint.
        StoppedError: SIGTERM or Ctrl-C; the run is saved.
    """
    if config.epochs < 1:
        raise ConfigError(f"epochs must be at least 1, got {config.epochs}")
    code = commit()  # asked now: by the end, the checkout may hold other code than what is running
    trainer = make_trainer(config)
    run = run or Run.create(Path(config.runs), config)
    with run.lock():
        last = run.checkpoint("last")
        if last.is_file():
            trainer.load_state_dict(checkpoint.load(last, trainer.device))
        if trainer.epoch > config.epochs:
            raise ConfigError(
                f"epochs={config.epochs} is fewer than the {trainer.epoch} that '{run.folder}' already has"
            )
        run.write_config(config)
        with resilient() as stop:
            data = trainer.data
            _say(
                f"run {run.folder}: {data.name}, {len(data.train)} train, {len(data.val)} val, {len(data.test)} test "
                f"pictures, on {hardware(trainer.device)}, {config.epochs - trainer.epoch} epochs to go"
            )
            reason = trainer.train(
                config.epochs - trainer.epoch,
                after_epoch=lambda: _save_epoch(trainer, config, run),
                interrupted=lambda: stop.signal is not None,
                progress=sys.stderr.isatty(),
            )
            if reason == INTERRUPTED:
                checkpoint.save(trainer.state_dict(), last)
                assert stop.signal is not None
                raise StoppedError(
                    f"stopped and saved in epoch {trainer.epoch + 1}; go on with: assay-train resume={run.folder}",
                    stop.signal,
                )
            _say(f"ended: {reason}")
            _finish(trainer, config, run, reason, code)
    return run


def make_trainer(config: DictConfig) -> Trainer:
    """Everything a config describes, put together on its device.

    Raises:
        AssayError: the config, the data or the device is not to be had.
    """
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), config))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(str(error).partition("\n")[0]) from error
    assert isinstance(settings, TrainConfig)
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device)
    views = read_views(config)
    data = load_data(config)
    torch.manual_seed(settings.seed)
    model = build_model(config, len(data.classes)).to(device).to(memory_format=torch.channels_last)
    _try_out(model, data, settings.augment, views)
    return Trainer(
        model,
        data,
        instantiate(config.optim, "optim", model=model),
        schedule=instantiate(config.schedule, "schedules"),
        view=views[0],
        settings=settings.augment,
        batch_size=settings.batch_size,
        label_smoothing=settings.label_smoothing,
        clip_grad_norm=settings.clip_grad_norm,
        ema_decay=settings.ema_decay,
        stopping=settings.stopping,
        seed=settings.seed,
        device=device,
        dtype=dtype,
    )


def _try_out(model: Normalized, data: ClassificationData, settings: Augment, views: Sequence[View]) -> None:
    """Send one picture all the way, so that what does not fit is known before anything is trained."""
    device = model.mean.device
    picture = data.train.images[:1].to(device)
    try:
        with torch.no_grad():
            model.eval()(augment(picture, settings, torch.Generator(device)))
            Views(model, data.canvas, views).to(device)(picture)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"data, augment, model and views do not fit each other: pictures are {data.canvas.height}x"
            f"{data.canvas.width} pixels, and {error}"
        ) from error


def _save_epoch(trainer: Trainer, config: DictConfig, run: Run) -> None:
    """Leave the run on disk as it stands after an epoch; `last.pt` is written last, for it is what resuming trusts."""
    run.write_metrics(trainer.history)
    state = trainer.state_dict()
    if trainer.best_epoch == trainer.epoch:
        checkpoint.save(state, run.checkpoint("best"))
    if config.save_every and trainer.epoch % config.save_every == 0:
        checkpoint.save(state, run.checkpoint(f"epoch-{trainer.epoch:04d}"))
    checkpoint.save(state, run.checkpoint("last"))
    record = trainer.history[-1]
    _say(
        f"epoch {trainer.epoch:{len(str(config.epochs))}d}/{config.epochs}  lr {record['lr']:.5f}  "
        f"train loss {record['train_loss']:.4f} top1 {record['train_top1']:.4f}  "
        f"val loss {record['val_loss']:.4f} top1 {record['val_top1']:.4f}  {trainer.epoch_seconds:.1f} s"
    )


def _finish(trainer: Trainer, config: DictConfig, run: Run, reason: str, code: str) -> None:
    """Score the best epoch's weights once on the test split, then write the summary and the figures."""
    run.write_metrics(trainer.history)
    best, data, device = trainer.best, trainer.data, trainer.device
    trained = run.load("best", device)
    graphs = {"test_top1": Views(trained.model, trained.canvas, trained.views[:1])}
    if len(trained.views) > 1:
        graphs["test_top1_tta"] = Views(trained.model, trained.canvas, trained.views)
    outputs = {name: predict(graph.to(device), data.test, device, trainer.dtype) for name, graph in graphs.items()}
    scores = {name: top1(output, data.test.labels) for name, output in outputs.items()}
    summary = {
        "name": config.name,
        "ended": reason,
        "epochs": trainer.epoch,
        "best_epoch": trainer.best_epoch,
        "val_loss": best["val_loss"],
        "val_top1": best["val_top1"],
        **scores,
        "dataset": data.name,
        "n": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
        "fingerprint": trainer.fingerprint,
        "seed": config.seed,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "commit": code,
        "versions": versions(),
        "hardware": hardware(device),
        "seconds": round(trainer.seconds, 1),
    }
    checkpoint.write_atomically((json.dumps(summary, indent=2) + "\n").encode(), run.folder / SUMMARY)
    _say(
        f"best epoch {trainer.best_epoch}: val top1 {best['val_top1']:.4f}; on {len(data.test)} test pictures "
        + ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    )
    if config.figures:
        from assay_research.analysis import (
            figures,  # matplotlib, which a training without figures can do without
        )

        title = f"{config.name} on {data.name}"
        figures.learning_curves(trainer.history, run.folder / FIGURES / "learning_curves.png", title)
        shown = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(config.seed))[:32]
        figures.sample_predictions(
            data.test.images[shown].numpy(),
            data.test.labels[shown].numpy(),
            outputs["test_top1"][shown.to(device)].softmax(1).cpu().numpy(),
            data.classes,
            run.folder / FIGURES / "predictions.png",
            title,
        )
        _say(f"figures: {run.folder / FIGURES}")
    _say(f"run: {run.folder}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def resumed_config(run: Run, overrides: Sequence[str]) -> DictConfig:
    """The config of a run, with the few changes that going on with it allows.

    Raises:
        ConfigError: a change that would make it another experiment, or of the wrong type.
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in MAY_CHANGE:
            raise ConfigError(
                f"resume= goes on with a run as it was, so '{key}' cannot change; {nearest(key, MAY_CHANGE)}"
            )
    try:
        config = OmegaConf.merge(
            OmegaConf.structured(TrainConfig), run.config(), OmegaConf.from_dotlist(list(overrides))
        )
    except OmegaConfBaseException as error:
        raise ConfigError(f"{run.folder}: {' '.join(str(error).splitlines()[:2])}") from error
    assert isinstance(config, DictConfig)
    return config


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def _app(config: DictConfig) -> None:
    # Errors end the process here: once they leave this function, Hydra adds lines of its own.
    try:
        if config.resume is None:
            train(config)
            return
        run = Run.open(Path(config.resume))
        overrides = [each for each in HydraConfig.get().overrides.task if not each.startswith("resume=")]
        train(resumed_config(run, overrides), run)
    except StoppedError as stopped:
        _say(str(stopped))
        sys.exit(128 + stopped.signal)
    except AssayError as error:
        sys.exit(f"assay-train: {error}")


def _check_groups(overrides: Sequence[str]) -> None:
    """Refuse a file of a group that is not there, which Hydra itself explains at length or not at all."""
    for override in overrides:
        key, _, value = override.partition("=")
        if not key:
            raise ConfigError(f"expected key=value, got '{override}'")
        files = [path.stem for path in (CONF / key).glob("*.yaml")] if key.isidentifier() else []
        for choice in value.split(",") if "(" not in value else ():
            if files and choice not in (*files, "null"):
                raise ConfigError(f"{key}={choice}: there is no such {key}; {nearest(choice, files)}")


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """What is wrong with the overrides, with the nearest valid name where a key is misspelt."""
    GlobalHydra.instance().clear()
    groups = [folder.name for folder in CONF.iterdir() if folder.is_dir()]
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides if not override.startswith("-")]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = hydra.compose(
            "train", [f"{key}={value}" for key, value in pairs if key in groups and "," not in value]
        )
    for key, _ in pairs:
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if key not in groups and isinstance(node, DictConfig) and leaf not in node:
            names = [*(str(name) for name in node), *(groups if not parent else ())]
            return f"there is no '{key}'; {nearest(leaf, names)}"
    said = [str(each).strip().partition("\n")[0] for each in (error, error.__cause__) if each]
    return ": ".join(line for line in said if line)


def main() -> None:
    """The command `assay-train`."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed by Hydra
    ConfigStore.instance().store("schema", TrainConfig)
    arguments = sys.argv[1:]
    try:
        _check_groups([argument for argument in arguments if not argument.startswith("-")])
        _app()
    except AssayError as error:
        sys.exit(f"assay-train: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"assay-train: {_explain(error, arguments)}")


if __name__ == "__main__":
    main()
