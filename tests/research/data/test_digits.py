"""The embedded digits: all of them, split once, exactly the pixels scikit-learn has."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from assay_deploy.images.canvas import Canvas, place
from assay_deploy.images.decode import read_image
from assay_research.data.classification import ClassificationData
from assay_research.data.digits import load, main


@pytest.fixture(scope="module")
def digits() -> ClassificationData:
    return load()


def test_every_digit_is_in_one_split(digits: ClassificationData) -> None:
    names = [name for split in (digits.train, digits.val, digits.test) for name in split.names]
    assert sorted(names) == [f"{i:04d}" for i in range(1797)]


def test_splits_hold_about_70_10_20_percent_of_each_class(digits: ClassificationData) -> None:
    totals = np.bincount(load_digits().target)
    for split, share in ((digits.train, 0.7), (digits.val, 0.1), (digits.test, 0.2)):
        assert np.abs(split.labels.bincount().numpy() - share * totals).max() <= 1.5


def test_pixels_and_labels_are_scikit_learns() -> None:
    source = load_digits()
    for split in (load(size=8).train, load(size=8).test):
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            expected = np.round(source.images[int(name)] * 255 / 16)
            assert np.array_equal(image.numpy(), np.stack([expected] * 3, axis=-1))
            assert label == source.target[int(name)]


def test_images_are_uint8_on_the_canvas(digits: ClassificationData) -> None:
    assert digits.canvas == Canvas(32, 32)
    assert digits.val.images.dtype == torch.uint8
    assert digits.val.images.shape[1:] == (32, 32, 3)
    assert digits.val.labels.dtype == torch.int64
    assert digits.classes == tuple("0123456789")


def test_seed_decides_the_split(digits: ClassificationData) -> None:
    assert load().fingerprint() == digits.fingerprint()
    assert load(seed=1).fingerprint() != digits.fingerprint()


def test_saved_images_are_the_held_out_ones_to_the_pixel(
    digits: ClassificationData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["digits", str(tmp_path / "held" / "out")])
    main()
    files = sorted((tmp_path / "held" / "out").rglob("*.png"), key=lambda path: path.stem)
    assert [path.stem for path in files] == list(digits.test.names)
    for path, image, label in zip(files, digits.test.images, digits.test.labels, strict=True):
        assert path.parent.name == digits.classes[label]
        assert np.array_equal(place(read_image(path), digits.canvas), image.numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "usage: "), (["one", "two"], "usage: "), (["/dev/null/folder"], "cannot write the images: ")],
)
def test_saving_nowhere_is_an_error_in_words(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["digits", *arguments])
    with pytest.raises(SystemExit, match=message):
        main()
