"""Every kind of image is read as defined, or refused by name."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from assay_deploy.errors import ImageError
from assay_deploy.images.decode import MAX_PIXELS, decode_image, read_image, suffixes

RAMP = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3) * 5
"""A 3x5 image without any symmetry."""

LOSSLESS: dict[str, dict[str, Any]] = {"webp": {"lossless": True}}

UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}
"""What the EXIF standard says of the stored pixels, in numpy's terms."""


def solid(mode: str, color: object) -> Image.Image:
    return Image.new(mode, (4, 4), color)  # type: ignore[arg-type]


def png_that_declares(width: int, height: int) -> bytes:
    """A few bytes of PNG that claim to be a huge image."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_lossless_rgb_comes_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RAMP).save(path, **LOSSLESS.get(suffix, {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RAMP)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(path, exif=exif, **LOSSLESS.get(suffix, {}))
    np.testing.assert_array_equal(read_image(path), UPRIGHT[orientation](RAMP))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientation_is_ignored(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / "image.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), RAMP)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "block", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\xff"]
)
def test_damaged_exif_leaves_the_image_readable(tmp_path: Path, block: bytes) -> None:
    Image.fromarray(RAMP).save(tmp_path / "image.jpg", exif=block)
    assert read_image(tmp_path / "image.jpg").shape == RAMP.shape


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    solid("CMYK", (0, 255, 255, 0)).save(path)
    assert np.abs(read_image(path).astype(int) - (255, 0, 0)).max() <= 3


def test_ycck_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    solid("CMYK", (105, 155, 55, 0)).save(path, quality=100)
    content = path.read_bytes()
    marker = content.index(b"Adobe")
    assert content[marker + 11] == 0  # the transform: none, CMYK
    stored = content[: marker + 11] + b"\x02" + content[marker + 12 :]  # now Y 150, Cb 100, Cr 200
    expected = (255 - 251, 255 - 108, 255 - 100)
    assert np.abs(decode_image(stored, "ycck").astype(int) - expected).max() <= 3


def test_palette_is_expanded(tmp_path: Path) -> None:
    Image.fromarray(RAMP).quantize(15).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), RAMP)


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (solid("RGBA", (200, 0, 0, 0)), {}, (255, 255, 255)),
        (solid("RGBA", (200, 0, 0, 255)), {}, (200, 0, 0)),
        (solid("RGBA", (0, 0, 0, 51)), {}, (204, 204, 204)),
        (solid("LA", (0, 0)), {}, (255, 255, 255)),
        (solid("LA", (90, 255)), {}, (90, 90, 90)),
        (solid("RGB", (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255)),
        (solid("RGB", (1, 2, 3)), {"transparency": (1, 2, 4)}, (1, 2, 3)),
        (solid("L", 7), {"transparency": 7}, (255, 255, 255)),
        (solid("1", 0), {"transparency": 0}, (255, 255, 255)),
        (solid("RGB", (9, 8, 7)).quantize(2), {"transparency": 0}, (255, 255, 255)),
        (solid("RGB", (9, 8, 7)).quantize(2), {"transparency": b"\x00\xff"}, (255, 255, 255)),
    ],
)
def test_transparency_is_composited_on_white(
    tmp_path: Path, image: Image.Image, options: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    image.save(tmp_path / "image.png", **options)
    image = read_image(tmp_path / "image.png")
    assert image.shape == (4, 4, 3)
    assert (image == expected).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "pbm"])
def test_one_bit_is_black_and_white(tmp_path: Path, suffix: str) -> None:
    bits = np.eye(4, dtype=bool)
    Image.fromarray(bits).save(tmp_path / f"image.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"image.{suffix}")[..., 1], bits * 255)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path, suffix: str) -> None:
    grey = np.array([[0, 255, 256, 32768], [65279, 65280, 65535, 4660]], np.uint16)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(grey).save(path)
    image = read_image(path)
    np.testing.assert_array_equal(image, np.stack([grey >> 8] * 3, axis=-1))


def test_big_endian_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path) -> None:
    grey = np.array([[0, 255, 256, 65535]], np.uint16)
    image = Image.frombytes("I;16B", (4, 1), grey.astype(">u2").tobytes())
    image.save(tmp_path / "image.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif")[0, :, 0], grey[0] >> 8)


def test_sixteen_bit_colour_keeps_its_high_byte(tmp_path: Path) -> None:
    wide = np.array([[[0, 255, 256], [32768, 65280, 65535]]], ">u2")
    (tmp_path / "image.ppm").write_bytes(b"P6 2 1 65535\n" + wide.tobytes())
    image = read_image(tmp_path / "image.ppm")
    assert np.abs(image.astype(int) - (wide >> 8)).max() <= 1  # Pillow rounds here


@pytest.mark.parametrize(
    ("values", "expected"), [([0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255]), ([1.0, 1.0, 1.0, 1.0], [255] * 4)]
)
def test_floats_from_black_to_white(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "image.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif")[0, :, 2], expected)


@pytest.mark.parametrize(
    "pixels",
    [
        np.array([[0.0, 1.5]], np.float32),
        np.array([[-0.1, 0.5]], np.float32),
        np.array([[0.1, np.nan]], np.float32),
        np.array([[0.1, np.inf]], np.float32),
        np.array([[0, 65536]], np.int32),
        np.array([[-1, 5]], np.int32),
    ],
)
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, pixels: NDArray[np.generic]) -> None:
    Image.fromarray(pixels).save(tmp_path / "odd.tif")
    with pytest.raises(ImageError, match=r"odd\.tif: .*pixels from .* to .*expected"):
        read_image(tmp_path / "odd.tif")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame_stands_for_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [solid("RGB", color) for color in ("red", "lime", "blue")]
    path = tmp_path / f"image.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **LOSSLESS.get(suffix, {}))
    with Image.open(path) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
    assert (read_image(path) == (255, 0, 0)).all()


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "image.png")
    renamed = (tmp_path / "image.png").rename(tmp_path / "image.jpg")
    np.testing.assert_array_equal(read_image(renamed), RAMP)


@pytest.mark.parametrize("width", [10_000, 60_000, 2_000_000_000])
@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_image_that_declares_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, lifted: bool
) -> None:
    if lifted:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_that_declares(width, width))
    with pytest.raises(ImageError, match=r"bomb\.png: too large to decode.*pixels"):
        read_image(bomb)


def test_our_limit_is_where_pillow_warns_and_its_own_is_left_alone() -> None:
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tif"])
def test_truncated_images_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for part in (0.01, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(ImageError, match=rf"^{path}: "):
            read_image(path)


def test_what_is_no_image_is_refused_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello world")
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nshowpage\n")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, found in {
        "empty.jpg": r"empty file \(0 bytes\)",
        "text.jpg": "not an image .*b'hello wo'",
        "page.eps": "not an image .*b'%!PS-Ado'",
        ".": "a folder",
        "missing.jpg": "No such file",
        "pipe.jpg": "not a regular file",
        "text.jpg/below": "Not a directory",
        "nul\0.jpg": "null",
        "long" * 100: "too long",
    }.items():
        with pytest.raises(ImageError, match=found) as caught:
            read_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_a_image_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.fromarray(RAMP).save(path)
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read everything
        with pytest.raises(ImageError, match="Permission denied"):
            read_image(path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "jp2", "pgm"])
@pytest.mark.filterwarnings("ignore")
def test_random_damage_gives_a_image_or_its_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    generator = np.random.default_rng(3)
    image = Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.convert("L" if suffix == "pgm" else "RGB").save(path, exif=exif)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        where = generator.integers(0, min(len(whole), 200), generator.integers(1, 6))
        damaged[where] = generator.integers(0, 256, len(where))
        try:
            image = decode_image(damaged.tobytes(), "damaged")
        except ImageError as error:
            assert str(error).startswith("damaged: ")  # noqa: PT017
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3


def test_suffixes_are_those_of_the_formats_that_are_read() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2"} <= suffixes()
    assert not {".eps", ".pdf", ".h5", ".mpg", ".txt", ""} & suffixes()
