"""A run's model and data are loaded as they were saved, and what is damaged is refused by name."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from assay_deploy.errors import AssayError
from assay_research.config.build import build_model
from assay_research.errors import CheckpointError
from assay_research.runs.run import Run
from assay_research.runs.trained import data_of, load

CONFIG = {
    "name": "small",
    "model": {"_target_": "assay_research.models.vgg.vgg", "config": "A", "width": 0.125, "hidden": 64},
    "data": {"_target_": "assay_research.data.digits.load"},
    "views": [{}],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path, CONFIG)
    state = {
        "model": build_model(CONFIG["model"], 10).state_dict(),
        "ema": None,
        "classes": [str(i) for i in range(10)],
        "canvas": {"height": 32, "width": 32, "fit": "stretch"},
    }
    torch.save(state, run.checkpoint("best"))
    return run


def test_loads_what_was_saved(run):
    trained = load(run)
    assert trained.model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert not trained.model.training
    assert trained.classes == tuple("0123456789")


@pytest.mark.parametrize(
    "config",
    ["", "[1, 2]", "model: 3", "{", "views: 3\nmodel: {_target_: builtins.open}\n", "\0", "data: null\nmodel: null"],
)
def test_damaged_config_is_refused(run, config):
    (run.folder / "config.yaml").write_text(config)
    for use in (load, data_of):
        with pytest.raises(AssayError):
            use(run)


@pytest.mark.parametrize("views", [3, [3], [{"size": "big"}], [{"size": 0}], [], None])
def test_damaged_views_are_refused(run, views):
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(CONFIG | {"views": views}))
    with pytest.raises(AssayError, match="views"):
        load(run)


def test_checkpoint_of_another_model_is_refused(run):
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(CONFIG | {"model": CONFIG["model"] | {"config": "B"}}))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load(run)
