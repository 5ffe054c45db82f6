"""CIFAR-10's files become splits: the official test images, and a validation split of equal classes."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from assay_research.data.cifar10 import load
from assay_research.errors import DataError

NAMES = ["airplane", "cat"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set in CIFAR-10's own file format, 2 x 20 training and 6 test images of two classes."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(n: int) -> dict[str, object]:
        return {"data": random.integers(0, 256, (n, 3072), dtype=np.uint8), "labels": [i % 2 for i in range(n)]}

    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch(20)), write("data_batch_2", batch(20))])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(6))])
    name, digest = write("batches.meta", {"label_names": NAMES})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": digest})
    return tmp_path


def test_test_split_is_the_official_one_and_val_is_cut_from_train(small: Path) -> None:
    data = load(str(small), val=10)
    assert (data.name, data.classes) == ("cifar10", tuple(NAMES))
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 6)
    assert data.val.labels.bincount().tolist() == [5, 5]
    assert sorted(data.train.names + data.val.names) == [f"train/{i:05d}" for i in range(40)]
    assert data.test.names == tuple(f"test/{i:05d}" for i in range(6))


def test_images_are_the_files_pixels_channels_last_in_memory(small: Path) -> None:
    data = load(str(small), val=10)
    for split, batches in ((data.train, ["data_batch_1", "data_batch_2"]), (data.test, ["test_batch"])):
        files = [pickle.loads((small / "cifar-10-batches-py" / name).read_bytes()) for name in batches]
        planes = np.concatenate([file["data"] for file in files]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([file["labels"] for file in files])
        assert split.images.is_contiguous()
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            index = int(name.rpartition("/")[2])
            assert torch.equal(image, torch.from_numpy(planes[index]).permute(1, 2, 0))
            assert label == labels[index]


def test_seed_decides_val(small: Path) -> None:
    first, again, other = (load(str(small), val=10, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not in '.*' .*data\.download=true.*data=image_folder"):
        load(str(tmp_path), download=False)


def test_damaged_file_is_refused(small: Path) -> None:
    path = small / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="not found or corrupted"):
        load(str(small), download=False)


def test_download_that_fails_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="was not downloaded"):
        load(str(tmp_path / "taken"), download=True)
