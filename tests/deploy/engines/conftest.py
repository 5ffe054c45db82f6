"""A machine without any engine."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages that holds what assay-deploy needs and no engine."""
    import assay_deploy

    installed = Path(np.__file__).parents[1]
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "assay_deploy").symlink_to(Path(assay_deploy.__file__).parent)
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs", "tqdm"):
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)
    return folder
