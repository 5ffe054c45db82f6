"""Real pictures, where the machine has them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cifar10_jpeg() -> Path:
    """60,000 JPEGs in train/ and test/, each with ten class folders."""
    folder = Path(os.environ.get("ASSAY_DATA", "")) / "cifar10-jpeg"
    if "ASSAY_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("needs the environment variable ASSAY_DATA: a folder that holds cifar10-jpeg/")
    return folder
