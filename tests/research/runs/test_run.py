"""A damaged run is refused by name, whatever is wrong with it."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from assay_deploy.errors import AssayError
from assay_research.config.build import build_model
from assay_research.config.schema import TrainConfig
from assay_research.errors import CheckpointError
from assay_research.runs.run import Run

CONFIG = {
    "name": "small",
    "model": {"_target_": "assay_research.models.vgg.vgg", "config": "A", "width": 0.125, "hidden": 64},
    "data": {"_target_": "assay_research.data.digits.load"},
    "views": [{}],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = OmegaConf.create(CONFIG)
    run = Run.create(tmp_path, config)
    state = {
        "model": build_model(config, 10).state_dict(),
        "ema": None,
        "classes": [str(i) for i in range(10)],
        "canvas": {"height": 32, "width": 32, "fit": "stretch"},
    }
    torch.save(state, run.checkpoint("best"))
    return run


def test_two_runs_of_one_second_have_two_folders(tmp_path):
    config = OmegaConf.merge(OmegaConf.structured(TrainConfig), CONFIG | {"optim": {}, "schedule": {}, "epochs": 1})
    assert Run.create(tmp_path, config).folder != Run.create(tmp_path, config).folder


def test_newest_is_the_run_made_last_among_those_with_weights(run, tmp_path):
    Run.create(tmp_path, OmegaConf.create(CONFIG))
    assert Run.newest(tmp_path).folder == run.folder
    with pytest.raises(CheckpointError, match="train one"):
        Run.newest(tmp_path / "nowhere")
    (tmp_path / "study").mkdir()
    run.folder.parent.rename(tmp_path / "study" / "small")  # where name=study/small puts it
    assert Run.newest(tmp_path).folder == tmp_path / "study" / "small" / run.folder.name
    assert Run.newest(tmp_path, "study/small").folder == tmp_path / "study" / "small" / run.folder.name


def test_loads_what_was_saved(run):
    trained = run.load()
    assert trained.model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert not trained.model.training
    assert trained.classes == tuple("0123456789")


@pytest.mark.parametrize(
    "config",
    ["", "[1, 2]", "model: 3", "{", "views: 3\nmodel: {_target_: builtins.open}\n", "\0", "data: null\nmodel: null"],
)
def test_damaged_config_is_refused(run, config):
    (run.folder / "config.yaml").write_text(config)
    for use in (run.load, run.data):
        with pytest.raises(AssayError):
            use()


@pytest.mark.parametrize("views", [3, [3], [{"size": "big"}], [{"size": 0}], [], None])
def test_damaged_views_are_refused(run, views):
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(CONFIG | {"views": views}))
    with pytest.raises(AssayError, match="views"):
        run.load()


@pytest.mark.parametrize("summary", ["", "[1]", "{", '{"commit": '])
def test_damaged_summary_is_refused(run, summary):
    assert run.summary() == {}
    (run.folder / "summary.json").write_text(summary)
    with pytest.raises(CheckpointError, match=r"summary\.json"):
        run.summary()


def test_checkpoint_of_another_model_is_refused(run):
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(CONFIG | {"model": CONFIG["model"] | {"config": "B"}}))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        run.load()


def test_a_run_is_locked_while_it_is_trained(run):
    with run.lock(), pytest.raises(CheckpointError, match="another process is training"), Run(run.folder).lock():
        pass
    with run.lock():
        pass
