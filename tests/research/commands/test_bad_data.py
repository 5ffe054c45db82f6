"""Bad data and a full disk, as a whole training meets them: one message, nothing half done, and a way to go on."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from assay_research.commands import evaluate, train
from assay_research.runs import checkpoint

SMALL = ["data=image_folder", "name=pets", "epochs=1", "figures=false", "batch_size=8"]


def fill(folder: Path, n: int) -> None:
    """Write n PNGs of distinct noise."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(sum(folder.name.encode()))
    for i in range(n):
        Image.fromarray(random.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")


def assay_train(folder: Path, *arguments: str) -> str:
    """What `assay-train` says when it refuses; "" if it does not."""
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        here.setattr(sys, "argv", ["assay-train", *arguments])
        try:
            train.main()
        except SystemExit as ended:
            said = str(ended)  # what Python prints on stderr, exiting with 1
        else:
            return ""
    assert said.startswith("assay-train: ")
    return said


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        fill(tmp_path / "pets" / name, 20)
    return tmp_path / "pets"


@pytest.fixture
def finished(tmp_path: Path, pets: Path) -> Path:
    """A run that has finished its only epoch."""
    assert assay_train(tmp_path, *SMALL, f"data.root={pets}") == ""
    (run,) = (tmp_path / "runs").glob("*/*")
    return run


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("kept", ["nothing", "images", "one class"])
def test_folder_without_classes_is_one_message_and_no_run(tmp_path, pets, kept):
    if kept == "images":  # all in one heap
        for path in sorted(pets.glob("*/*.png")):
            path.rename(pets / f"{path.parent.name}{path.name}")
    for name in ("cat", "dog") if kept != "one class" else ("dog",):
        shutil.rmtree(pets / name)
    said = assay_train(tmp_path, *SMALL, f"data.root={pets}")
    assert f"class folders in '{pets}': {int(kept == 'one class')}; a classifier needs two or more" in said
    assert not (tmp_path / "runs").exists()


def test_class_with_one_image_is_one_message_and_no_run(tmp_path, pets):
    fill(pets / "emu", 1)
    said = assay_train(tmp_path, *SMALL, f"data.root={pets}")
    assert "each of 3 classes is in both parts; the smallest class, 'emu', has 1 image. Add images" in said
    assert not (tmp_path / "runs").exists()


def test_damaged_images_among_good_ones_are_named_before_the_first_epoch(tmp_path, capsys, pets):
    whole = (pets / "cat" / "007.png").read_bytes()
    (pets / "cat" / "007.png").write_bytes(whole[: len(whole) // 2])
    (pets / "dog" / "011.png").write_bytes(b"")
    said = assay_train(tmp_path, *SMALL, f"data.root={pets}")
    assert "2 of 40 images cannot be read; repair or remove them:" in said
    assert str(pets / "cat" / "007.png") in said
    assert str(pets / "dog" / "011.png") in said
    assert "epoch" not in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_resumed_training_refuses_images_that_were_damaged_since_and_touches_nothing(tmp_path, pets, finished):
    before = content(finished)
    victim = pets / "dog" / "003.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:50])
    assert str(victim) in assay_train(tmp_path, f"resume={finished}", "epochs=2")
    victim.unlink()
    assert "is not the one this run was trained on" in assay_train(tmp_path, f"resume={finished}", "epochs=2")
    assert content(finished) == before


def test_resumed_training_finds_images_that_have_moved(tmp_path, pets, finished):
    """The run's own keys can be given, whatever the config has that Hydra would begin with."""
    pets.rename(tmp_path / "moved")
    assert assay_train(tmp_path, f"resume={finished}", "data.root=moved", "epochs=2") == ""
    assert OmegaConf.load(finished / "config.yaml").data.root == "moved"
    assert "'data.name' cannot be changed" in assay_train(tmp_path, f"resume={finished}", "data.name=dogs")


def test_evaluation_finds_images_that_have_moved(tmp_path, pets, finished, monkeypatch, capsys):
    pets.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["assay-evaluate", f"run={finished}"])
    with pytest.raises(SystemExit, match=r"no folder '.*pets': data.root must be"):
        evaluate.main()
    monkeypatch.setattr(sys, "argv", ["assay-evaluate", "runs=runs", "data.root=moved"])
    evaluate.main()
    assert "top-1" in capsys.readouterr().out


def test_training_that_does_not_fit_on_the_disk_is_not_started(tmp_path, pets):
    """/proc has no byte free."""
    said = assay_train(tmp_path, *SMALL, f"data.root={pets}", "runs=/proc/runs")
    assert "this training will write about" in said
    assert "only 0 B are free" in said


@pytest.mark.parametrize("name", ["last.pt", "config.yaml", "metrics.jsonl", "summary.json"])
def test_full_disk_is_one_message_and_the_run_goes_on_from_its_last_checkpoint(tmp_path, finished, name):
    """Every write to the new file fails as on a full disk."""
    (path,) = finished.rglob(name)
    old = path.read_bytes()
    path.with_name(f"{name}.partial").symlink_to("/dev/full")
    said = assay_train(tmp_path, f"resume={finished}", "epochs=2")
    assert "No space left on device" in said
    assert name in said
    assert path.read_bytes() == old
    assert not list(finished.rglob("*.partial"))
    assert_goes_on(tmp_path, finished)


def test_training_whose_files_may_not_grow_ends_with_one_message_and_no_traceback(tmp_path, finished):
    checkpoints = finished / "checkpoints"
    before = content(checkpoints)
    largest = min(map(len, before.values())) // 2
    result = subprocess.run(
        [sys.executable, "-m", "assay_research.commands.train", f"resume={finished}", "epochs=2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("assay-train: ")]
    assert "File too large" in said
    assert "assay-train resume=" in said
    assert content(checkpoints)[checkpoints / "last.pt"] == before[checkpoints / "last.pt"]
    assert not list(checkpoints.glob("*.partial"))
    assert_goes_on(tmp_path, finished)


def assert_goes_on(folder: Path, run: Path) -> None:
    assert checkpoint.load(run / "checkpoints" / "last.pt")["model"]
    assert assay_train(folder, f"resume={run}", "epochs=2") == ""
    assert checkpoint.load(run / "checkpoints" / "last.pt")["epoch"] == 2
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert json.loads((run / "summary.json").read_text())["epochs"] == 2


def test_loggers_of_a_resumed_training_hold_every_epoch_once_and_one_that_fails_stops_nothing(
    tmp_path, capsys, finished
):
    """The first part had no logger; TensorBoard's folder cannot be made."""
    (finished / "tensorboard").write_text("in the way")
    config = OmegaConf.load(finished / "config.yaml")
    for name in ("Csv", "TensorBoard"):
        config.logger[name.lower()] = {"_target_": f"assay_research.loggers.{name}"}
    OmegaConf.save(config, finished / "config.yaml")
    assert assay_train(tmp_path, f"resume={finished}", "epochs=2") == ""
    assert capsys.readouterr().err.count("logger=tensorboard failed and is switched off") == 1
    rows = (finished / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,lr,train_loss,train_top1,val_loss,val_top1")
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2"]
