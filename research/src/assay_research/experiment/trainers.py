"""Build a trainer from typed settings: data, model, optimizer and schedule, on a device."""

import torch

from assay_research.config.build import PACKAGE, build_model, instantiate, load_data, read_views
from assay_research.config.schema import TrainConfig
from assay_research.data.protocol import Data
from assay_research.errors import ConfigError
from assay_research.tasks.registry import task_of
from assay_research.training.device import choose_device, choose_precision
from assay_research.training.distributed import World
from assay_research.training.loop import Loop, LoopOptions


def make_trainer(
    settings: TrainConfig,
    world: World = World(),  # noqa: B008 - frozen
    data: Data | None = None,
    fresh: bool = True,
) -> Loop:
    """Build the trainer that the settings describe, on its device.

    Args:
        settings: settings of the training.
        world: the processes that train together.
        data: the data set that the settings describe, if it is already loaded.
        fresh: load the pretrained weights that the settings request; False if a checkpoint will be loaded.

    Raises:
        AssayError: settings, data or device are invalid or not available.
    """
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device)
    views = read_views(settings.views)
    data = load_data(settings.data) if data is None else data
    task = task_of(data)
    if not str(settings.augment.get("_target_")).startswith(f"{PACKAGE}.{task.augment_module}."):
        raise ConfigError(task.augment_advice)
    augment = instantiate(settings.augment, task.augment_module)
    torch.manual_seed(settings.seed)
    model = build_model(settings.model, len(data.classes), fresh).to(device).to(memory_format=torch.channels_last)
    if settings.sync_batchnorm:
        if device.type != "cuda" or world.size == 1:
            raise ConfigError("sync_batchnorm=true needs several processes on CUDA: torchrun --nproc-per-node=gpu ...")
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    options = LoopOptions(
        batch_size=settings.batch_size,
        accumulate=settings.accumulate,
        clip_grad_norm=settings.clip_grad_norm,
        ema_decay=settings.ema_decay,
        stopping=settings.stopping,
        seed=settings.seed,
        device=device,
        dtype=dtype,
        compile_mode=settings.compile,
        world=world,
    )
    optimizer = instantiate(settings.optim, "optim", model=model)
    schedule = instantiate(settings.schedule, "schedules")
    trainer: Loop = task.build_trainer(
        model, data, optimizer, schedule, views, augment, settings.label_smoothing, options
    )
    if world.rank:
        torch.manual_seed(settings.seed + world.rank)  # for dropout; rank 0 has the same seed as a single process
    return trainer
