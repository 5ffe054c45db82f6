"""CIFAR-10 as torchvision downloads it."""

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from assay_deploy.canvas import Canvas
from assay_research.data import ClassificationData, Split
from assay_research.data.splits import cut
from assay_research.errors import DataError


def load(root: str = "~/.cache/assay", download: bool = True, val: int = 5000, seed: int = 0) -> ClassificationData:
    """Read CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test pictures of 32x32 pixels.

    Args:
        root: where torchvision keeps it.
        download: fetch it if it is not there.
        val: training pictures that are held out for validation, stratified by class.
        seed: of that choice.

    Raises:
        DataError: it is not there and cannot be downloaded, or it is damaged.
    """
    folder = Path(root).expanduser()
    try:
        train, test = (CIFAR10(folder, train=part, download=download) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 is not in '{folder}' and cannot be downloaded ({error}). Put cifar-10-batches-py there, or "
            "train on a folder of pictures: data=image_folder data.root=<folder>"
        ) from error
    labels = np.array(train.targets, dtype=np.int64)
    kept, held = cut(np.arange(len(labels)), labels, val / len(labels), seed, "val")
    images = torch.from_numpy(train.data)
    names = tuple(f"{i:05d}" for i in range(len(labels)))
    splits = [
        Split(images[chosen], torch.from_numpy(labels[chosen]), tuple(f"train/{names[i]}" for i in chosen))
        for chosen in (kept, held)
    ]
    test_split = Split(
        torch.from_numpy(test.data), torch.tensor(test.targets), tuple(f"test/{names[i]}" for i in range(len(test)))
    )
    return ClassificationData("cifar10", tuple(train.classes), Canvas(32, 32), *splits, test_split)
