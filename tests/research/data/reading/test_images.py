"""Images are decoded once: a cache is what was decoded, or is made anew."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from assay_deploy.images.canvas import Canvas, place
from assay_deploy.images.decode import read_image
from assay_research.data.reading import images as cached_images
from assay_research.data.reading.images import read_placed
from tests.research.data.annotated import image

CANVAS = Canvas(24, 32, "letterbox")


def test_cache_is_mapped_instead_of_decoded_and_writing_to_it_stays_in_memory(tmp_path: Path) -> None:
    paths = [image(tmp_path / f"{i}.png") for i in range(3)]
    first, _ = read_placed(paths, [(30, 50)] * 3, CANVAS, "set", tmp_path / "cache")
    for path in paths:  # nothing that could be decoded any more, and nothing by which to notice
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again, failed = read_placed(paths, [(30, 50)] * 3, CANVAS, "set", tmp_path / "cache")
    assert isinstance(again, np.memmap)
    assert not failed
    assert np.array_equal(first, again)
    again[:] = 0
    untouched, _ = read_placed(paths, [(30, 50)] * 3, CANVAS, "set", tmp_path / "cache")
    assert np.array_equal(first, untouched)


def cut_short(content: bytes) -> bytes:
    return content[:-10]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def emptied(content: bytes) -> bytes:
    return content[:0]


def misshapen(content: bytes) -> bytes:
    return content.replace(b"(3, 24, 32, 3)", b"(3, 32, 24, 3)")


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *((".npy", damage) for damage in (cut_short, flipped, emptied, misshapen)),
        *((".json", damage) for damage in (cut_short, flipped, emptied)),
    ],
)
def test_damaged_cache_is_made_anew(tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    paths = [image(tmp_path / f"{i}.png") for i in range(3)]
    arguments = (paths, [(30, 50)] * 3, CANVAS, "set", tmp_path / "cache")
    expected = read_placed(*arguments)[0].copy()
    (file,) = (tmp_path / "cache").glob(f"*{suffix}")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert file.read_bytes() != whole
    assert np.array_equal(read_placed(*arguments)[0], expected)
    assert file.read_bytes() == whole


def test_cache_depends_on_images_order_and_canvas(tmp_path: Path) -> None:
    paths = [image(tmp_path / f"{i}.png") for i in range(3)]

    def read(paths: list[Path], canvas: Canvas = CANVAS) -> NDArray[np.uint8]:
        return read_placed(paths, [(30, 50)] * len(paths), canvas, "set", tmp_path / "cache")[0]

    first = read(paths)
    assert np.array_equal(read(paths[::-1]), first[::-1])
    assert np.array_equal(read(paths[:2]), first[:2])
    assert read(paths, Canvas(12, 16, "letterbox")).shape == (3, 12, 16, 3)
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(paths[1])
    os.utime(paths[1], ns=(0, 1))
    assert np.array_equal(read(paths)[1], place(read_image(paths[1]), CANVAS))


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [image(tmp_path / "a.png")]
    (tmp_path / "file").write_text("no folder")
    images, failed = read_placed(paths, [(30, 50)], CANVAS, "set", tmp_path / "file" / "cache")
    assert np.array_equal(images[0], place(read_image(paths[0]), CANVAS))
    assert not failed
    assert "images cannot be cached in" in capsys.readouterr().err


def test_interrupted_writing_leaves_no_cache(tmp_path: Path) -> None:
    def interrupted() -> Iterator[NDArray[np.uint8]]:
        yield np.zeros((24, 32, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_images._write(tmp_path / "set.npy", (2, 24, 32, 3), interrupted(), {})
    assert not list(tmp_path.iterdir())
