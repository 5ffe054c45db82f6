"""Small runs as a training leaves them, and the bundle of one."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from assay_deploy.bundle.manifest import CLASSIFICATION, DENSE, PLAIN, TTA, Manifest
from assay_export.export import export_bundle
from assay_export.gate.gate import run_eager
from assay_export.gate.probe import make_probe
from assay_export.gate.verdict import Reference
from assay_export.tasks.registry import TASKS
from assay_research.config.build import build_model, load_data
from assay_research.data.classification import ClassificationData
from assay_research.runs import checkpoint
from assay_research.runs.run import Run
from assay_research.runs.trained import data_of, load

VIEWS = [{}, {"flip": True}, {"size": 36}]


@dataclass(frozen=True)
class Bundle:
    """A bundle, and the eager graphs and outputs that its gate compared it with, by variant."""

    folder: Path
    manifest: Manifest
    run: Run
    data: ClassificationData
    probe: Tensor
    graphs: dict[str, nn.Module]
    references: dict[str, Reference]


def silence(text: str) -> None:
    """Where an export's progress goes in tests."""


def train_briefly(runs: Path, *, norm: bool, views: list[dict[str, Any]], images: int) -> Run:
    """A run that saw this many of the digits."""
    config = OmegaConf.create(
        {
            "name": "digits",
            "model": {
                "_target_": "assay_research.models.vgg.vgg",
                "config": "A",
                "width": 0.125,
                "hidden": 64,
                "norm": norm,
                "dropout": 0.0,
                "init": "kaiming",
            },
            "data": {"_target_": "assay_research.data.digits.load"},
            "views": views,
        }
    )
    data = load_data(config.data)
    torch.manual_seed(0)
    model = build_model(config.model, len(data.classes))
    for buffer, statistic in zip((model.mean, model.std), data.channel_statistics(), strict=True):
        buffer.copy_(statistic[:, None, None])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for indices in torch.randperm(len(data.train))[:images].split(64):
        images = data.train.images[indices].permute(0, 3, 1, 2) / 255
        F.cross_entropy(model(images), data.train.labels[indices]).backward()
        optimizer.step()
        optimizer.zero_grad()
    run = Run.create(runs, config)
    state = {
        "model": model.state_dict(),
        "ema": None,
        "classes": list(data.classes),
        "canvas": asdict(data.canvas),
        "fingerprint": data.fingerprint(),
    }
    checkpoint.save(state, run.checkpoint("best"))
    return run


@pytest.fixture(scope="session")
def normed_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """TinyVGG-A with BatchNorm, three views."""
    return train_briefly(tmp_path_factory.mktemp("normed") / "runs", norm=True, views=VIEWS, images=1024)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """TinyVGG-A as published, one view that is not the canvas as it is."""
    return train_briefly(tmp_path_factory.mktemp("plain") / "runs", norm=False, views=[{"size": 36}], images=64)


@pytest.fixture(scope="session")
def bundle(normed_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of `normed_run`; not to be altered."""
    exported = export_bundle(normed_run, tmp_path_factory.mktemp("bundles"), "digits", dense=8, say=silence)
    trained, data = load(normed_run), data_of(normed_run)
    probe = make_probe(data.test.images)
    graphs = {variant: TASKS[CLASSIFICATION].eager(trained, variant, 8) for variant in (PLAIN, TTA, DENSE)}
    references = {
        variant: run_eager(TASKS[CLASSIFICATION], graph, variant, probe, data, {DENSE: 8}.get(variant))
        for variant, graph in graphs.items()
    }
    return Bundle(exported.folder, exported.manifest, normed_run, data, probe, graphs, references)
