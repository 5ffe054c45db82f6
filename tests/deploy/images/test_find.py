"""Files, folders and globs stand for the images that are meant, in order."""

from pathlib import Path

import pytest

from assay_deploy.errors import AssayError
from assay_deploy.images.find import find_images


def test_folders_are_searched_in_order_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.jpg", "a.jpeg", "c.txt", ".hidden.png", ".git/x.png", "b/deep/er/z.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "b" / "deep")
    names = [path.relative_to(tmp_path).as_posix() for path in find_images([str(tmp_path)])]
    assert names == ["a.jpeg", "b/10.jpg", "b/2.PNG", "b/deep/er/z.webp"]
    (tmp_path / "b").rename(tmp_path / "m")  # the link now dangles
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.jpeg", "10.jpg", "2.PNG", "z.webp"]


def test_globs_files_and_folders_mix_and_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d/2.png", "d/1.png", "d/e/3.png", "x.dat", "[1].png", "1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    arguments = ["x.dat", "d/**/*.png", "d", "[1].png", "?.png", "gone.png"]
    assert [path.as_posix() for path in find_images(arguments)] == [
        "x.dat",
        *("d/1.png", "d/2.png", "d/e/3.png") * 2,
        "[1].png",
        "1.png",
        "gone.png",
    ]


def test_nothing_matched_is_an_error_that_names_the_pattern(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"no file matches '.*\*\.jpg'"):
        find_images([str(tmp_path / "*.jpg")])
    with pytest.raises(AssayError, match="no images under '"):
        find_images([str(tmp_path)])
