"""From values to a trainer: data, model, optimizer and schedule, put together on a device."""

from dataclasses import fields

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_research.config.build import build_model, load_data, read_views
from assay_research.config.schema import TrainConfig
from assay_research.errors import ConfigError, nearest
from assay_research.tasks.registry import Data, task_of
from assay_research.training.device import choose_device, choose_precision
from assay_research.training.distributed import World
from assay_research.training.loop import Loop, Options


def make_trainer(
    config: DictConfig,
    world: World = World(),  # noqa: B008 - frozen
    data: Data | None = None,
    fresh: bool = True,
) -> Loop:
    """Everything a config describes, put together on its device.

    Args:
        config: whole.
        world: the processes that train it together.
        data: what the config describes, if it was read before.
        fresh: begin with the pretrained weights that the config asks for; not where a checkpoint's will follow.

    Raises:
        AssayError: the config, the data or the device is not to be had.
    """
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), config))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(str(error).partition("\n")[0]) from error
    assert isinstance(settings, TrainConfig)
    known = [field.name for field in fields(TrainConfig)]
    for key in map(str, config):
        if key not in known:  # +key=value adds it, and no training could go on with such a run
            raise ConfigError(f"there is no '{key}'; {nearest(key, known)}")
    if settings.epochs < 1:
        raise ConfigError(f"epochs must be at least 1, got {settings.epochs}")
    if settings.save_every < 0:
        raise ConfigError(f"save_every must be 0, for best and last alone, or more, got {settings.save_every}")
    if not 0 <= settings.seed < 2**32:
        raise ConfigError(f"seed must be from 0 to {2**32 - 1}, got {settings.seed}")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device)
    views = read_views(config)
    data = load_data(config) if data is None else data
    torch.manual_seed(settings.seed)
    model = build_model(config, len(data.classes), fresh).to(device).to(memory_format=torch.channels_last)
    if settings.sync_batchnorm:
        if device.type != "cuda" or world.size == 1:
            raise ConfigError("sync_batchnorm=true needs several processes on CUDA: torchrun --nproc-per-node=gpu ...")
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    options = Options(
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
    trainer: Loop = task_of(data).build(config, settings, model, data, views, options)
    if world.rank:
        torch.manual_seed(settings.seed + world.rank)  # of dropout; rank 0 goes on as one process would
    return trainer
