"""A folder of images is read by rules one can rely on, and every way it can be wrong has its own words."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay_deploy.images.canvas import Canvas, place
from assay_deploy.images.decode import read_image
from assay_research.config.build import instantiate
from assay_research.data.image_folder import load
from assay_research.errors import ConfigError, DataError


def fill(folder: Path, n: int, first: int = 0, size: tuple[int, int] = (12, 9)) -> None:
    """Write n PNGs of distinct noise."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(sum(folder.as_posix().encode()))
    for i in range(first, first + n):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Class folders alone."""
    for name in ("dog", "cat", "emu"):
        fill(tmp_path / "pets" / name, 20)
    return tmp_path / "pets"


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """train/ and test/."""
    for name in ("dog", "cat"):
        fill(tmp_path / "pets" / "train" / name, 20)
        fill(tmp_path / "pets" / "test" / name, 5)
    return tmp_path / "pets"


def test_class_folders_alone_are_cut_in_three(root: Path) -> None:
    data = load(str(root), val_fraction=0.2, test_fraction=0.3)
    assert (data.name, data.classes, data.canvas) == ("pets", ("cat", "dog", "emu"), Canvas(32, 32))
    counts = [split.labels.bincount().tolist() for split in (data.train, data.val, data.test)]
    assert counts == [[10] * 3, [4] * 3, [6] * 3]
    names = data.train.names + data.val.names + data.test.names
    assert sorted(names) == sorted(f"{c}/{i:03d}.png" for c in data.classes for i in range(20))


def test_train_and_test_folders_leave_only_val_to_cut(parted: Path) -> None:
    data = load(str(parted), val_fraction=0.25)
    assert data.test.names == tuple(f"test/{c}/{i:03d}.png" for c in ("cat", "dog") for i in range(5))
    assert (len(data.train), len(data.val)) == (30, 10)
    assert all(name.startswith("train/") for name in data.train.names + data.val.names)


def test_three_folders_are_taken_as_they_are(parted: Path) -> None:
    for name in ("dog", "cat"):
        fill(parted / "val" / name, 3)
    data = load(str(parted))
    assert [len(split) for split in (data.train, data.val, data.test)] == [40, 6, 10]
    assert {name.split("/")[0] for name in data.val.names} == {"val"}


def test_train_and_val_folders_leave_only_test_to_cut(parted: Path) -> None:
    (parted / "test").rename(parted / "val")
    data = load(str(parted), test_fraction=0.25)
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 10, 10]


def test_a_class_may_be_called_train(root: Path) -> None:
    (root / "dog").rename(root / "train")
    assert load(str(root)).classes == ("cat", "emu", "train")


def test_seed_and_names_alone_decide_the_cut(root: Path, tmp_path: Path) -> None:
    first, again, other = (load(str(root), seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    root.rename(tmp_path / "moved")
    assert load(str(tmp_path / "moved")).fingerprint() == first.fingerprint()


def test_every_name_leads_to_its_image_and_class(root: Path) -> None:
    data = load(str(root), size=8)
    for split in (data.train, data.val, data.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == (8, 8, 3)
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            assert np.array_equal(image.numpy(), place(read_image(root / name), Canvas(8, 8)))
            assert name.split("/")[0] == data.classes[label]


def test_images_of_every_kind_enter_as_they_would_enter_the_server(root: Path) -> None:
    grey = np.arange(120, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(grey.astype(np.uint16) * 257).save(root / "cat" / "sixteen.png")
    Image.fromarray(grey).convert("CMYK").save(root / "cat" / "cmyk.jpg")
    Image.fromarray(np.dstack([grey] * 4)).save(root / "cat" / "alpha.PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(root / "cat" / "turned.jpg", exif=exif)
    data = load(str(root))
    images = {n: image for s in (data.train, data.val, data.test) for n, image in zip(s.names, s.images, strict=True)}
    for name in ("sixteen.png", "cmyk.jpg", "alpha.PNG", "turned.jpg"):
        expected = place(read_image(root / "cat" / name), data.canvas)
        assert np.array_equal(images[f"cat/{name}"].numpy(), expected)


def test_other_and_hidden_files_are_left_alone_and_subfolders_searched(root: Path) -> None:
    (root / "README.txt").write_text("pets")
    (root / "cat" / "Thumbs.db").write_bytes(b"\0")
    (root / "cat" / "._001.png").write_bytes(b"\0")
    (root / ".cache").mkdir()
    fill(root / "cat" / "from" / "friends", 5)
    data = load(str(root))
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 65
    assert data.classes == ("cat", "dog", "emu")


def test_name_can_be_given(root: Path) -> None:
    assert load(str(root), name="animals").name == "animals"


def test_one_reading_names_every_image_that_is_damaged_and_how(root: Path) -> None:
    whole = (root / "emu" / "000.png").read_bytes()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(root / "emu" / "cut.jpg")
    damaged = {
        "emu/cut.jpg": (root / "emu" / "cut.jpg").read_bytes()[:-150],
        "dog/cut.png": whole[: len(whole) // 2],
        "dog/empty.png": b"",
        "cat/text.jpg": b"not an image",
        "cat/flipped.png": whole[:60] + bytes(255 - byte for byte in whole[60:]),
    }
    for name, content in damaged.items():
        (root / name).write_bytes(content)
    (root / "emu" / "dangling.png").symlink_to("nowhere.png")
    with pytest.raises(DataError) as caught:
        load(str(root))
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("6 of 66 images cannot be read")
    named = [line.split(": ")[0].strip() for line in lines]
    assert named == [str(root / name) for name in sorted([*damaged, "emu/dangling.png"])]


def test_damaged_images_beyond_a_hundred_are_only_counted(root: Path) -> None:
    for i in range(103):
        (root / "emu" / f"broken{i:03d}.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError) as caught:
        load(str(root))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("103 of 163 images cannot be read")
    assert "broken099.jpg" in lines[100]
    assert lines[101].strip() == "and 3 more"
    assert len(lines) == 102


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder '.*nowhere'.*data\.root"):
        load(str(tmp_path / "nowhere"))


def test_root_that_is_not_given_is_an_error_of_the_config() -> None:
    with pytest.raises(ConfigError, match="root"):
        instantiate({"_target_": "assay_research.data.image_folder.load", "root": "???"}, "data")


@pytest.mark.parametrize("classes", [[], ["cat"]])
def test_fewer_than_two_classes_are_refused(tmp_path: Path, classes: list[str]) -> None:
    for name in classes:
        fill(tmp_path / name, 3)
    with pytest.raises(DataError, match=f"class folders in '.*': {len(classes)}; .* two or more"):
        load(str(tmp_path))


def test_empty_class_is_named(root: Path) -> None:
    (root / "fox").mkdir()
    with pytest.raises(DataError, match="no images in the class folder 'fox'"):
        load(str(root))


@pytest.mark.parametrize("which", ["dog", "dog/003.png"])
def test_names_that_are_no_text_are_refused(root: Path, which: str) -> None:
    old = os.fsencode(root / which)
    try:
        Path(os.fsdecode(old)).rename(os.fsdecode(old + b"\xff"))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    if which.endswith(".png"):
        Path(os.fsdecode(old + b"\xff")).rename(os.fsdecode(old + b"\xff.png"))
    with pytest.raises(DataError, match=r"dcff.*: names of folders and images must be UTF-8"):
        load(str(root))


def test_splits_with_different_classes_are_refused(parted: Path) -> None:
    (parted / "test" / "dog").rename(parted / "test" / "emu")
    with pytest.raises(DataError, match=r"1 only in train/ \['dog'\], 1 only in test/ \['emu'\]"):
        load(str(parted))


def test_unlabelled_test_images_are_refused_instead_of_ignored(parted: Path) -> None:
    for name in ("dog", "cat"):
        (parted / "test" / name).rename(parted / f"not_{name}")
        (parted / f"not_{name}" / "000.png").rename(parted / "test" / f"{name}.png")
        shutil.rmtree(parted / f"not_{name}")
    with pytest.raises(DataError, match=r"2 only in train/ \['cat', 'dog'\], 0 only in test/"):
        load(str(parted))


@pytest.mark.parametrize(("old", "new"), [("test", "validation"), ("train", "training")])
def test_misnamed_split_is_refused_instead_of_ignored(parted: Path, old: str, new: str) -> None:
    (parted / old).rename(parted / new)
    with pytest.raises(DataError, match=f"contains .*{new}.*: expected train/ with class folders"):
        load(str(parted))


def test_class_with_one_image_will_do_where_nothing_is_cut(parted: Path) -> None:
    shutil.copytree(parted / "test", parted / "val")
    fill(parted / "train" / "fox", 1)
    fill(parted / "val" / "fox", 1)
    fill(parted / "test" / "fox", 1)
    data = load(str(parted))
    assert [split.labels.tolist().count(2) for split in (data.train, data.val, data.test)] == [1, 1, 1]


def test_class_too_small_to_cut_is_named(root: Path) -> None:
    fill(root / "fox", 1)
    with pytest.raises(DataError, match="the smallest class, 'fox', has 1 image"):
        load(str(root))


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.0, 0.2), (0.2, 1.5), (0.2, -0.1)])
def test_impossible_fractions_are_refused(root: Path, fractions: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="images, got"):
        load(str(root), val_fraction=fractions[0], test_fraction=fractions[1])


def test_impossible_canvas_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="at least one pixel"):
        instantiate({"_target_": "assay_research.data.image_folder.load", "root": str(root), "size": 0}, "data")


@pytest.mark.slow
def test_real_images_are_read_with_their_official_test_split(cifar10_jpeg: Path) -> None:
    data = load(str(cifar10_jpeg))
    assert data.name == "cifar10-jpeg"
    assert [len(split) for split in (data.train, data.val, data.test)] == [45_000, 5_000, 10_000]
    assert data.val.labels.bincount().tolist() == [500] * 10
    assert {name.split("/")[0] for name in data.test.names} == {"test"}
