"""CIFAR-10 as torchvision downloads it: 50,000 training and 10,000 test images of 32x32 pixels in ten classes."""

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from assay_deploy.images.canvas import Canvas
from assay_research.data.classification import ClassificationData, Split
from assay_research.data.reading.splits import cut
from assay_research.errors import DataError


def load(root: str = "~/.cache/assay", download: bool = True, val: int = 5000, seed: int = 0) -> ClassificationData:
    """Read CIFAR-10 (Krizhevsky, 2009); the test split is the official one.

    Args:
        root: folder that holds, or gets, ``cifar-10-batches-py``.
        download: fetch it, 170 MB, where it is not there.
        val: how many training images become `val`, the same number of every class.
        seed: of that choice.

    Raises:
        DataError: it is not there and cannot be downloaded, or it is damaged.
    """
    folder = Path(root).expanduser()
    try:
        train, test = (CIFAR10(folder, train=part, download=download) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 is not in '{folder}' and was not downloaded ({error}). With a network, data.download=true "
            "fetches it; without one, unpack cifar-10-python.tar.gz there, or train on a folder of images: "
            "data=image_folder data.root=<folder>"
        ) from error
    labels, classes = np.array(train.targets, dtype=np.int64), tuple(train.classes)
    kept, held = cut(np.arange(len(labels)), labels, val, seed, "val", classes)
    images = torch.from_numpy(np.ascontiguousarray(train.data))  # torchvision keeps the channels first in memory
    splits = [
        Split(images[chosen], torch.from_numpy(labels[chosen]), tuple(f"train/{i:05d}" for i in chosen))
        for chosen in (kept, held)
    ]
    official = Split(
        torch.from_numpy(np.ascontiguousarray(test.data)),
        torch.tensor(test.targets),
        tuple(f"test/{i:05d}" for i in range(len(test))),
    )
    return ClassificationData("cifar10", classes, Canvas(32, 32), splits[0], splits[1], official)
