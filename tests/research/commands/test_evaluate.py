"""`assay-evaluate` scores any checkpoint of a run as its training did, and refuses what it cannot score."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image

from assay_deploy.images.canvas import View
from assay_research.commands import evaluate
from assay_research.config.build import build_model, load_data
from assay_research.config.schema import EvaluationOptions
from assay_research.errors import ConfigError
from assay_research.optim import adam
from assay_research.runs import checkpoint
from assay_research.runs.run import Run
from assay_research.runs.trained import data_of
from assay_research.schedules import Constant
from assay_research.tasks.classification import figures
from assay_research.tasks.classification.evaluate import choose_variants
from assay_research.tasks.classification.metrics import measure
from assay_research.tasks.classification.trainer import ClassifierTrainer
from tests.research.pixels import differ, pixels

VGG = {"_target_": "assay_research.models.vgg.vgg", "width": 0.125, "hidden": 64, "norm": True, "init": "kaiming"}
CONFIG = {
    "name": "small",
    "model": VGG,
    "data": {"_target_": "assay_research.data.digits.load", "val_fraction": 0.2, "test_fraction": 0.4},
    "views": [{}, {"size": 36}],
}


def train_briefly(runs: Path) -> tuple[Run, ClassifierTrainer]:
    config = OmegaConf.create(CONFIG)
    data = load_data(config.data)
    torch.manual_seed(0)
    model = build_model(config.model, len(data.classes))
    trainer = ClassifierTrainer(model, data, adam(model, lr=0.003), schedule=Constant(), batch_size=32)
    run = Run.create(runs, config)

    def save() -> None:
        for name in (f"epoch-{trainer.epoch:04d}", "last", *(["best"] if trainer.best_epoch == trainer.epoch else [])):
            checkpoint.save(trainer.state_dict(), run.checkpoint(name))

    trainer.train(3, after_epoch=save)
    return run, trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Run, ClassifierTrainer]:
    """A run of three epochs, each kept; not to be altered but for its evaluation."""
    return train_briefly(tmp_path_factory.mktemp("trained") / "runs")


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Run:
    """A copy of that run, under the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs", *trained[0].folder.parts[-2:])
    shutil.copytree(trained[0].folder, folder)
    return Run(folder)


def assay_evaluate(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["assay-evaluate", *arguments])
    evaluate.main()


def read(run: Run, name: str) -> dict:
    return json.loads((run.folder / "evaluation" / name).read_text())


def test_scores_what_validation_scored(run, trained, monkeypatch, capsys):
    trainer = trained[1]
    assay_evaluate(monkeypatch)  # the newest run's best checkpoint
    record = read(run, "best-val.json")
    assert record["scores"]["plain"]["top1"] == pytest.approx(trainer.best["val_top1"])
    assert record["scores"]["plain"]["cross_entropy"] == pytest.approx(trainer.best["val_loss"], rel=1e-3)
    assert record["epoch"] == trainer.best_epoch
    assert record["run"] == run.name
    assert (record["dataset"], record["split"], record["n"]) == ("digits", "val", len(trainer.data.val))
    assert record["fingerprint"] == trainer.fingerprint
    assert [view["size"] for view in record["variants"]["tta"]["views"]] == [None, 36]
    confusion = torch.tensor(record["scores"]["plain"]["confusion"])
    assert confusion.sum(1).tolist() == trainer.data.val.labels.bincount().tolist()
    assert confusion.trace() / confusion.sum() == pytest.approx(trainer.best["val_top1"])
    printed = capsys.readouterr().out
    assert f"{trainer.best['val_top1']:.4f}" in printed
    assert "tta, 2 views" in printed


def test_figures_are_left_beside_the_scores(run, monkeypatch):
    assay_evaluate(monkeypatch, f"run={run.folder}", "checkpoint=1", "split=test")
    names = {path.name for path in (run.folder / "evaluation").iterdir()}
    assert names == {"epoch-0001-test.json", "confusion.png", "reliability.png", "worst_mistakes.png"}
    for path in (run.folder / "evaluation").glob("*.png"):
        with Image.open(path) as image:
            assert image.convert("L").getextrema() != (255, 255)
    assert read(run, "epoch-0001-test.json")["n"] == len(data_of(run).test)


def test_all_checkpoints_make_a_table_a_record_and_a_figure(run, trained, monkeypatch, capsys):
    assay_evaluate(monkeypatch, "checkpoint=all", "dense=8")
    record = read(run, "all-val.json")
    scored = {each["checkpoint"]: each for each in record["checkpoints"]}
    assert list(scored) == ["epoch-0001", "epoch-0002", "epoch-0003", "best", "last"]
    history = [scored[f"epoch-000{epoch}"]["scores"]["plain"]["top1"] for epoch in (1, 2, 3)]
    assert history == pytest.approx([each["val_top1"] for each in trained[1].history])
    assert scored["last"]["scores"] == scored["epoch-0003"]["scores"]
    assert {"plain", "tta", "dense"} == scored["best"]["scores"].keys() == record["variants"].keys()
    assert (run.folder / "evaluation" / "all-val.png").is_file()
    printed = capsys.readouterr().out
    assert printed.count("epoch-0002") == 3
    assert "dense, stride 8, 2 views" in printed


def test_figures_of_a_classifier_without_mistakes_and_of_a_class_without_images_are_drawn(tmp_path):
    scores = measure(torch.eye(3)[:2], torch.tensor([0, 1]), ("cat", "dog", "emu"))
    figures.confusion_matrix(scores.confusion, ("cat", "dog", "emu"), tmp_path / "confusion.png", "pets")
    none = np.zeros((0, 32, 32, 3), dtype=np.uint8)
    figures.worst_mistakes(none, [], [], [], [], tmp_path / "worst.png", "pets")
    figures.confusion_matrix([[1, 0, 0], [3, 1, 0], [0, 0, 0]], ("cat", "dog", "emu"), tmp_path / "other.png", "pets")
    assert differ(tmp_path / "confusion.png", tmp_path / "other.png")
    assert (pixels(tmp_path / "worst.png") < 100).any()  # the words that say there are none


def test_a_diverged_model_is_scored_without_numbers(run, monkeypatch):
    state = checkpoint.load(run.checkpoint("best"))
    state["model"] = {key: value * float("nan") for key, value in state["model"].items()}
    checkpoint.save(state, run.checkpoint("best"))
    assay_evaluate(monkeypatch)
    assert read(run, "best-val.json")["scores"]["plain"]["cross_entropy"] is None


@pytest.mark.parametrize(
    ("arguments", "plain", "tta", "dense"),
    [
        ([], [View()], [View(), View(36)], None),
        (["views=[{size: 36}]"], [View(36)], None, None),
        (["flip=true"], [View()], [View(), View(flip=True)], None),
        (["sizes=[36,40]"], [View(36)], [View(36), View(40)], None),
        (["sizes=[36]", "flip=true"], [View(36)], [View(36), View(36, flip=True)], None),
        (["views=[{size:40,crop:top_left},{size:40}]", "dense=8"], None, None, [View(40)]),
    ],
)
def test_variants_are_those_requested(arguments, plain, tta, dense):
    variants = choose_variants(evaluate.COMMAND.read(arguments), own=(View(), View(36)))
    for name, views in (("plain", plain), ("tta", tta), ("dense", dense)):
        assert views is None or list(variants[name].views) == views
    assert ("dense" in variants) == (dense is not None)


def test_two_lists_of_views_are_refused():
    with pytest.raises(ConfigError, match="either views= or sizes="):
        choose_variants(EvaluationOptions(views=[{}], sizes=[36]), (View(),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekpoint=all"], "there is no 'chekpoint'; did you mean 'checkpoint'?"),
        (["best"], "expected key=value, got 'best'"),
        (["sizes="], "'sizes=' has no value"),
        (["sizes=36"], "sizes=36: expected for example sizes=[36,40,44]"),
        (["sizes=[36"], "sizes=[36: expected for example sizes=[36,40,44]"),
        (["sizes=36,40"], "sizes=36,40: expected for example sizes=[36,40,44]"),
        (["sizes=[]"], "views: expected at least one"),
        (["sizes=[20]"], "a view of size 20 is smaller than the 32x32 canvas"),
        (["dense=x"], "dense=x: expected for example dense=8"),
        (["dense=7"], "stride must be 1, 2, 4, 8, 16 or 32 pixels, got 7"),
        (["flip=3.5"], "flip=3.5: expected for example flip=true"),
        (["views=[{size: 36, flop: true}]"], "unexpected keyword argument 'flop'; expected views such as {size: 36, "),
        (["views={size: 36}"], "views={size: 36}: expected for example views=[{size: 36}, "),
        (["split=train"], "split must be val or test, got 'train'"),
        (["device=tpu"], "device must be auto, cpu or cuda, got 'tpu'"),
        (["checkpoint=9"], "has no checkpoint '9'; its checkpoints: epoch-0001, epoch-0002, epoch-0003, best, last"),
        (["checkpoint=../best"], "has no checkpoint '../best'"),
        (["run=nowhere"], "'nowhere' is not a run"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(run, monkeypatch, arguments, message):
    with pytest.raises(SystemExit) as ended:
        assay_evaluate(monkeypatch, *arguments)
    assert str(ended.value).startswith("assay-evaluate: ")  # what Python prints on stderr, exiting with 1
    assert message in str(ended.value)
    assert "\n" not in str(ended.value)
    assert not (run.folder / "evaluation").exists()


def refusal(monkeypatch, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        assay_evaluate(monkeypatch, *arguments)
    return str(ended.value)


def test_other_data_than_the_run_was_trained_on_is_refused(run, monkeypatch):
    (run.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"data": CONFIG["data"] | {"seed": 1}}))
    assert "was not trained on the data set 'digits' as it is now" in refusal(monkeypatch)
    assert not (run.folder / "evaluation").exists()


def test_all_of_a_run_that_kept_no_epoch_says_how_to_keep_them(run, monkeypatch):
    for path in run.folder.glob("checkpoints/epoch-*.pt"):
        path.unlink()
    assert "train with save_every=1" in refusal(monkeypatch, "checkpoint=all")


def test_a_damaged_checkpoint_is_refused(run, monkeypatch):
    run.checkpoint("last").write_bytes(b"half a checkpo")
    assert "not a readable checkpoint" in refusal(monkeypatch, "checkpoint=last")


def test_help_says_that_test_images_are_for_the_end(monkeypatch, capsys):
    assay_evaluate(monkeypatch, "--help")
    assert "split       val (the default) or test. Training scores the test" in capsys.readouterr().out
