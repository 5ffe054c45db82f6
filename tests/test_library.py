"""The three packages as a library: a program trains, exports and predicts by their public names alone."""

import ast
import importlib
import inspect
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import assay_deploy
import assay_export
import assay_research
from assay_deploy.images.decode import read_image
from assay_research.data.digits import save_test_images
from tests.test_architecture import MEMBERS

PACKAGES = (assay_research, assay_export, assay_deploy)
HEAVY = ("torch", "onnxruntime", "numpy", "PIL", "hydra", "omegaconf")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_there_documented_and_known_to_type_checkers(package) -> None:
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.If)
        for imported in node.body
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }
    assert [*package.__all__] == sorted(package.__all__)
    assert typed == {*package.__all__} - {"__version__"}
    for name in typed:
        public = getattr(package, name)
        assert inspect.getdoc(public), name
        assert public.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("member", MEMBERS)
def test_importing_a_package_imports_nothing_heavy(member: str) -> None:
    code = f"import sys, assay_{member}; print(sorted(set({HEAVY}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> assay_export.Exported:
    folder = tmp_path_factory.mktemp("library")
    experiment = assay_research.Experiment.compose(f"runs={folder / 'runs'}", "figures=false", "device=cpu")
    experiment.train(epochs=2)
    assert experiment.run is not None
    assert assay_research.Run.newest(str(folder / "runs")).folder == experiment.run.folder
    return assay_export.export_bundle(experiment.run, str(folder / "bundles"), "digits", formats=["onnx"])


def test_verdicts_tell_that_each_artifact_is_the_model(exported: assay_export.Exported) -> None:
    assert {verdict.path for verdict in exported.verdicts} == {"model.onnx", "model_tta.onnx"}
    assert all(verdict.passed for verdict in exported.verdicts)


@pytest.mark.parametrize("tta", [False, True])
def test_paths_bytes_and_arrays_give_the_same_predictions(
    exported: assay_export.Exported, tmp_path: Path, tta: bool
) -> None:
    save_test_images(tmp_path)
    paths = sorted(tmp_path.rglob("*.png"))[::60]
    arrays = np.stack([read_image(path) for path in paths])
    model = assay_deploy.load(str(exported.folder), tta=tta, provider="cpu")
    by_path = model.predict([str(path) for path in paths])
    assert [result.path for result in by_path] == paths
    for given in (paths, [path.read_bytes() for path in paths], arrays, list(arrays)):
        for one, other in zip(by_path, model.predict(given), strict=True):
            assert isinstance(one, assay_deploy.Prediction)
            assert isinstance(other, assay_deploy.Prediction)
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
            assert other.label == model.labels[other.index]
            assert other.path == (one.path if given is paths else None)


def test_one_bad_image_leaves_the_others_their_results(exported: assay_export.Exported) -> None:
    good = io.BytesIO()
    Image.new("RGB", (40, 30)).save(good, "PNG")
    model = assay_deploy.load(exported.folder, provider="cpu")
    results = model.predict([good.getvalue(), b"no image", Path("nowhere.png")])
    assert [type(each).__name__ for each in results] == ["Prediction", "Unreadable", "Unreadable"]
    assert results[1].path is None
    assert results[2].path == Path("nowhere.png")


def test_wrong_arguments_are_refused_in_words(exported: assay_export.Exported) -> None:
    model = assay_deploy.load(exported.folder, provider="cpu")
    for one in ("a.png", Path("a.png"), b"bytes"):
        with pytest.raises(TypeError, match=r"expected a sequence of images"):
            model.predict(one)  # type: ignore[arg-type]
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"expected a uint8 \[height, width, 3\] RGB array, got"):
            model.predict([array])
    with pytest.raises(assay_deploy.AssayError, match="there is no engine 'tensorrt'; expected onnxruntime"):
        assay_deploy.load(exported.folder, engine="tensorrt")
    with pytest.raises(assay_deploy.BundleError, match="no bundle at 'nowhere'"):
        assay_deploy.load("nowhere")


def test_public_names_import_by_star() -> None:
    for package in PACKAGES:
        names: dict[str, object] = {}
        exec(f"from {package.__name__} import *", names)
        assert {*package.__all__} <= names.keys()
        importlib.reload(package)  # leaves the lazy names as they were
        assert {*package.__all__} <= {name for name in package.__all__ if getattr(package, name)}
