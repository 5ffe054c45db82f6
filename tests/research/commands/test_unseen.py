"""No test image is seen before the end: other test images change a test score, and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


def folder_of_images(folder: Path, seed: int, per_class: int) -> None:
    """Noise that is dark on top or on the left, by class."""
    random = np.random.default_rng(seed)
    for label in ("left", "top"):
        (folder / label).mkdir(parents=True)
        for i in range(per_class):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            pixels[:, :16] //= 4 if label == "left" else 1
            pixels[:16] //= 4 if label == "top" else 1
            Image.fromarray(pixels).save(folder / label / f"{i}.png")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two trainings whose data differ in the test images alone."""
    base = tmp_path_factory.mktemp("base")
    folder_of_images(base / "train", 0, 40)
    found = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("unseen")
        shutil.copytree(base / "train", folder / "data" / "train")
        folder_of_images(folder / "data" / "test", seed, 20)
        command = [sys.executable, "-m", "assay_research.commands.train", "data=image_folder", "data.root=data"]
        options = ["epochs=3", "batch_size=16", "figures=false", "save_every=1", "stopping.patience=2"]
        result = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        found += folder.glob("runs/digits/*")
    return found


def test_other_test_images_change_no_weight_no_metric_and_no_choice(runs):
    one, other = runs
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    names = sorted(path.name for path in (one / "checkpoints").glob("*.pt"))
    assert names == ["best.pt", "epoch-0001.pt", "epoch-0002.pt", "epoch-0003.pt", "last.pt"]
    for name in names:
        first, second = (torch.load(run / "checkpoints" / name, weights_only=True) for run in runs)
        assert first["best_epoch"] == second["best_epoch"]
        assert first["fingerprint"] != second["fingerprint"]  # of all images: the data sets do differ
        assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])


def test_validation_images_are_cut_from_the_training_images(runs):
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert summary["n"] == {"train": 72, "val": 8, "test": 40}
