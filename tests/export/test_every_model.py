"""Every model of the zoo, trained for a moment, leaves in every format and precision it has and passes the gate."""

import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay_deploy.bundle.folder import read_manifest
from assay_export.errors import ExportError
from assay_export.export import export_bundle
from assay_export.formats.names import DEFAULT_FORMATS
from assay_research.commands.train import train
from assay_research.config.files import choices
from assay_research.config.overrides import compose
from assay_research.runs.run import Run
from tests.export.conftest import silence

ZOO = choices("model")
DETECTORS = [name for name in ZOO if ".detectors." in compose([f"model={name}"]).model["_target_"]]
SMALL = ["cs231n_barebones_fc", "cs231n_open", "resnet_4", "retinanet_small", "tinyvgg_c"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, and gone afterwards: the whole zoo is gigabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def trained(place: Path, name: str) -> None:
    """Train a model for a few steps on colours or on a dozen drawn images, in a run named after it."""
    overrides = classifier(place, name) if name not in DETECTORS else detector(name)
    run = train(compose([*overrides, f"name={name}", f"runs={place / 'runs'}", "device=cpu", "figures=false"]))
    assert run is not None
    run.checkpoint("last").unlink()  # for resuming; as large again as what is exported


def classifier(place: Path, name: str) -> list[str]:
    images = place / "colours"
    if not images.exists():
        save_colours(images)
    data = ["data=image_folder", f"data.root={images}", "data.val_fraction=0.1", "data.test_fraction=0.2"]
    how = ["optim.lr=0.003", f"epochs={30 if name.startswith('tinyvgg') else 4}"]
    if name.endswith("_fc"):
        how = ["optim.lr=0.0003", "epochs=4"]  # with the rate of the others their logits reach 500
    if name.startswith("vgg_"):
        # The published initialisation needs thousands of steps before anything comes through so many layers.
        how = ["model.init=kaiming", "optim.lr=0.0002", "epochs=2"]
    # Smoothed, or few colours make logits of any size, and what is allowed in 8 bits is for those of usual size.
    return [f"model={name}", *data, "optim=adam", "batch_size=32", "label_smoothing=0.1", *how]


def save_colours(folder: Path) -> None:
    """Ten colours, black and white among them, each under more and more noise, and an image of nothing else.

    A few steps tell them apart, and the probe's black, white and noise are like what the model was trained on, so that
    the ranges of its 8-bit activations hold for them too.
    """
    random = np.random.default_rng(0)
    colours = [*itertools.product((0, 255), repeat=3), (128, 128, 0), (0, 128, 128)]
    for label, colour in enumerate(colours):
        (folder / f"colour{label}").mkdir(parents=True)
        for i in range(60):
            part = 1 if i == 59 else i / 100
            pixels = (1 - part) * np.array(colour) + part * random.integers(0, 256, (32, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"colour{label}" / f"{i}.png")


def detector(name: str) -> list[str]:
    few = ["data.images=16", "data.species=2", "data.height=96", "data.width=96", "data.field=30"]
    how = [f"optim.lr={0.0001 if 'resnet50' in name else 0.0005}", "epochs=4", "data.test_fraction=0.1", "batch_size=4"]
    if name != "retinanet_small":
        how.append("model.score_threshold=0.005")  # more boxes, of which one is little
    return ["experiment=diatoms_smoke", f"model={name}", *few, *how]


def exported(place: Path, *arguments: str) -> list[dict[str, str]]:
    """Export all runs and read the table it ends with: a row a model, by its headings."""
    command = [sys.executable, "-m", "assay_export.cli", "all=true", "bundles=zoo", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stderr
    first, second, *rows = done.stdout.rpartition("\n\n")[2].splitlines()
    starts = [i for i in range(len(first)) if first[i] != " " and (i == 0 or first[i - 2 : i] == "  ")]

    def cells(line: str) -> list[str]:
        return [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]

    headings = [f"{above} {below}".strip() for above, below in zip(cells(first), cells(second), strict=True)]
    return [dict(zip(headings, cells(row), strict=True)) for row in rows]


def assert_all_passed(place: Path, names: list[str], *arguments: str) -> None:
    for name in names:
        trained(place, name)
    table = exported(place, *arguments)
    assert [row["model"] for row in table] == names
    for row in table:
        int8 = "-" if row["model"] in DETECTORS else "passed"
        assert [row[f"{form} fp32"] for form in DEFAULT_FORMATS] == ["passed"] * 3, row
        assert row.get("onnx int8", "-") == int8, row  # detectors alone have no such column
        assert all(re.fullmatch(r"\d+\.\d s", row[key]) for key in ("made in", "proven in"))
        artifacts = read_manifest(place / "zoo" / row["model"]).artifacts
        assert len(artifacts) == (6 if int8 == "-" else 8)  # of one view and of all
        assert has_opinions(place / "zoo" / row["model"])


def has_opinions(bundle: Path) -> bool:
    """True if the outputs depend on the image; those of a dead model would agree in every engine."""
    with np.load(bundle / "probe.npz") as probe:
        if "scores" in probe:
            return len(np.unique(probe["scores"][probe["labels"] >= 0])) > 10
        return float(np.ptp(probe["logits"], axis=0).max()) > 0.1


def test_every_small_model_leaves_and_is_itself(place: Path) -> None:
    assert_all_passed(place, SMALL, "precisions=fp32,int8")


def test_a_diverged_detector_is_refused(place: Path) -> None:
    trained(place, "retinanet_small")
    path = Run.newest(place / "runs").checkpoint("best")
    state = torch.load(path, weights_only=True)
    next(iter(state["model"].values())).fill_(float("nan"))
    torch.save(state, path)
    with pytest.raises(ExportError, match="not finite"):
        export_bundle(Run.newest(place / "runs"), place, "diverged", say=silence)


@pytest.mark.slow
def test_every_classifier_leaves_and_is_itself(place: Path) -> None:
    assert_all_passed(place, [name for name in ZOO if name not in DETECTORS], "precisions=fp32,int8")


@pytest.mark.slow
def test_every_detector_leaves_and_is_itself(place: Path) -> None:
    assert_all_passed(place, DETECTORS, "precisions=fp32,int8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_compiled_model_is_itself(place: Path, name: str) -> None:
    trained(place, name)
    (row,) = exported(place, "formats=aoti-cpu")
    assert row["aoti fp32"] == "passed"
    assert has_opinions(place / "zoo" / name)
