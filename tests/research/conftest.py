"""Real images, where the machine has them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cifar10_jpeg() -> Path:
    """60,000 JPEGs in train/ and test/, each with ten class folders."""
    return real("cifar10-jpeg")


@pytest.fixture(scope="session")
def bccd() -> Path:
    """364 JPEGs of blood cells in JPEGImages/, and as many XML files in Annotations/."""
    return real("bccd/BCCD")


def real(name: str) -> Path:
    """A folder of real images."""
    folder = Path(os.environ.get("ASSAY_DATA", ""), name)
    if "ASSAY_DATA" not in os.environ or not folder.is_dir():
        pytest.skip(f"needs the environment variable ASSAY_DATA: a folder that holds {name}/")
    return folder
