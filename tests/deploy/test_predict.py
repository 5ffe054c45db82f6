"""Predictions come in order, whatever the batch, and what cannot be read is named while the rest goes on."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay_deploy.bundle.folder import read_manifest
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.onnxruntime.session import Session
from assay_deploy.images.canvas import place
from assay_deploy.images.decode import read_image
from assay_deploy.images.find import find_images
from assay_deploy.predict import predict
from assay_deploy.tasks.classification import Prediction
from assay_deploy.tasks.detection import Detected
from assay_deploy.tasks.result import Unreadable


@pytest.fixture(scope="module")
def tiny(master_bundle: Path) -> tuple[Session, Manifest]:
    manifest = read_manifest(master_bundle)
    return Session.load(master_bundle, manifest, manifest.artifact("onnx"), provider="cpu", threads=1), manifest


def test_a_prediction_is_the_softmax_of_the_graphs_logits(tiny: tuple[Session, Manifest], images: Path) -> None:
    session, manifest = tiny
    for path, result in zip(find_images([str(images)]), predict(*tiny, find_images([str(images)])), strict=True):
        assert isinstance(result, Prediction)
        logits = session.run(place(read_image(path), manifest.preprocess)[None])["logits"][0].astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)
        assert result.path == path
        assert result.index == int(expected.argmax())
        assert result.label == manifest.labels[result.index]
        assert result.confidence == pytest.approx(expected.max(), abs=1e-5)


def test_predictions_do_not_depend_on_the_batch(tiny: tuple[Session, Manifest], images: Path) -> None:
    paths = find_images([str(images)])
    one_by_one = list(predict(*tiny, paths, batch=1))
    assert len({result.index for result in one_by_one if isinstance(result, Prediction)}) > 2
    for batch in (2, 7, 1000):
        for single, batched in zip(one_by_one, predict(*tiny, paths, batch=batch), strict=True):
            assert isinstance(single, Prediction)
            assert isinstance(batched, Prediction)
            assert (single.path, single.label) == (batched.path, batched.label)
            np.testing.assert_allclose(single.probabilities, batched.probabilities, atol=1e-6)


def test_no_images_give_no_predictions(tiny: tuple[Session, Manifest]) -> None:
    assert list(predict(*tiny, [])) == []


def test_results_keep_the_order_with_unreadable_ones_in_between(
    tiny: tuple[Session, Manifest], images: Path, tmp_path: Path
) -> None:
    paths = find_images([str(images)])
    for position in (0, 3, 3, 20, len(paths)):
        paths.insert(position, tmp_path / f"missing{position}.png")
    results = list(predict(*tiny, paths, batch=4))
    assert [result.path for result in results] == paths
    unreadable = [result for result in results if isinstance(result, Unreadable)]
    assert [result.path for result in unreadable] == [path for path in paths if not path.exists()]
    assert all(str(result.path) in result.error for result in unreadable)


def test_reading_ahead_is_bounded(tiny: tuple[Session, Manifest], images: Path) -> None:
    class Watched(list[Path]):
        furthest = 0

        def __getitem__(self, key: Any) -> Any:
            self.furthest = max(self.furthest, key.stop)
            return super().__getitem__(key)

    paths = Watched(find_images([str(images)]) * 100)
    results = predict(*tiny, paths, batch=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert paths.furthest <= 2 * (2 * max(os.cpu_count() or 1, 2) + 1)


def test_a_detector_gives_boxes_in_the_images_own_pixels(detector_bundle: Path, slides: Path) -> None:
    manifest = read_manifest(detector_bundle)
    session = Session.load(detector_bundle, manifest, manifest.artifact("onnx"), provider="cpu")
    wide, dark, none = predict(session, manifest, sorted(slides.iterdir()))
    assert isinstance(wide, Detected)
    assert wide.size == (4, 16)
    # Half as large on the canvas, and three lines down: top and bottom of the first box lie outside the image.
    assert wide.boxes.tolist() == [[2, 0, 8, 4], [8, 0, 14, 4]]
    assert wide.labels == ("bright thing", "dark thing")
    assert wide.scores[0] == pytest.approx((255 * 16 + 114 * 48) / 64 / 255, abs=1e-6)
    assert isinstance(dark, Detected)
    assert dark.labels == ("dark thing",)
    assert dark.boxes.tolist() == [[4, 2, 7, 8]]
    assert isinstance(none, Unreadable)
