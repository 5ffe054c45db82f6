"""`assay-analyze` leaves one page that holds everything, and takes nothing that a data set says for markup."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight pictures in VOC's layout, a class with a hostile name and a box without area."""
    root = tmp_path_factory.mktemp("data") / "set"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "Annotations").mkdir()
    random = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(root / "JPEGImages" / f"p{i}.png")
        name = "cell" if i % 2 else HOSTILE.replace("<", "&lt;").replace(">", "&gt;")
        boxes = [(5, 5, 30, 40), (50, 10, 50, 20)] if i == 3 else [(5, 5, 30 + i, 40)]
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
            "</bndbox></object>"
            for a, b, c, d in boxes
        )
        (root / "Annotations" / f"p{i}.xml").write_text(
            f"<annotation><filename>p{i}.png</filename><size><width>80</width><height>60</height><depth>3</depth></size>"
            f"{objects}</annotation>"
        )
    return root


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay_research.analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_page_tells_of_a_folder(folder, tmp_path):
    done = analyze(
        "data=voc", f"data.root={folder}", "data.val_fraction=0.25", "data.test_fraction=0.25", f"out={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "p3.xml" in page  # whose second box has no area
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert 'src="data:image/' in page
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href"))
    assert list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data=voc", "data.root=/nowhere"], "/nowhere"),
        (["data=vox"], "voc"),
        (["nonsense"], "key=value"),
    ],
)
def test_bad_arguments_are_answered_in_a_line(arguments, said, tmp_path):
    done = analyze(*arguments, f"out={tmp_path}")
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
