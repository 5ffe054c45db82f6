"""CIFAR-10, downloaded by torchvision: 50,000 training and 10,000 test images of 32x32 pixels in ten classes."""

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from assay_deploy.images.canvas import Canvas
from assay_research.data.classification import ClassificationData, Split
from assay_research.data.reading.splits import split_off
from assay_research.errors import DataError


def load(root: str = "~/.cache/assay", download: bool = True, val: int = 5000, seed: int = 0) -> ClassificationData:
    """Load CIFAR-10 (Krizhevsky, 2009); the test split is the official one.

    Args:
        root: folder that contains ``cifar-10-batches-py``, or that it is downloaded to.
        download: download it, 170 MB, if it is not in `root`.
        val: number of training images for the validation split, the same number of every class.
        seed: random seed of the validation split.

    Raises:
        DataError: the data set is missing and cannot be downloaded, or it is damaged.
    """
    folder = Path(root).expanduser()
    try:
        train, test = (CIFAR10(folder, train=part, download=download) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 is not in '{folder}' and was not downloaded ({error}). With a network, set data.download=true; "
            "without one, unpack cifar-10-python.tar.gz there, or train on a folder of images: "
            "data=image_folder data.root=<folder>"
        ) from error
    labels, classes = np.array(train.targets, dtype=np.int64), tuple(train.classes)
    train_indices, val_indices = split_off(np.arange(len(labels)), labels, val, seed, "val", classes)
    images = torch.from_numpy(np.ascontiguousarray(train.data))  # torchvision keeps the channels first in memory
    splits = [
        Split(images[chosen], torch.from_numpy(labels[chosen]), tuple(f"train/{i:05d}" for i in chosen))
        for chosen in (train_indices, val_indices)
    ]
    official = Split(
        torch.from_numpy(np.ascontiguousarray(test.data)),
        torch.tensor(test.targets),
        tuple(f"test/{i:05d}" for i in range(len(test))),
    )
    return ClassificationData("cifar10", classes, Canvas(32, 32), splits[0], splits[1], official)
