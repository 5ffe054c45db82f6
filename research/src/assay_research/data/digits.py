"""Built-in classification data set: the 1,797 handwritten digits of scikit-learn; needs no download."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from assay_deploy.images.canvas import Canvas, place
from assay_research.data.classification import ClassificationData, Split
from assay_research.data.reading.splits import split_off


def load(size: int = 32, val_fraction: float = 0.1, test_fraction: float = 0.2, seed: int = 0) -> ClassificationData:
    """Load the digits (Alpaydin and Kaynak, UCI, 1998), 8x8 grey images, as RGB images on a square canvas.

    Args:
        size: side of the canvas in pixels.
        val_fraction: fraction of all images for the validation split.
        test_fraction: fraction of all images for the test split.
        seed: random seed of the splits, which are stratified by class.

    Raises:
        DataError: the fractions leave a split empty.
    """
    digits = load_digits()
    canvas = Canvas(size, size)
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(np.stack([place(np.stack([image] * 3, axis=-1), canvas) for image in grey]))
    labels = digits.target.astype(np.int64)
    classes = tuple(str(name) for name in digits.target_names)
    rest, test = split_off(np.arange(len(labels)), labels, round(test_fraction * len(labels)), seed, "test", classes)
    train, val = split_off(rest, labels, round(val_fraction * len(labels)), seed, "val", classes)
    splits = (
        Split(images[chosen], torch.from_numpy(labels[chosen]), tuple(f"{i:04d}" for i in chosen))
        for chosen in (train, val, test)
    )
    return ClassificationData("digits", classes, canvas, *splits)


def save_test_images(folder: Path) -> None:
    """Save the test images as ``<folder>/<class>/<index>.png``, on their canvas."""
    data = load()
    for image, label, name in zip(data.test.images.numpy(), data.test.labels, data.test.names, strict=True):
        path = folder / data.classes[int(label)] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def main() -> None:
    """Save the test images in the folder given on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m assay_research.data.digits <folder>")
    try:
        save_test_images(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"cannot write the images: {error}")


if __name__ == "__main__":
    main()
