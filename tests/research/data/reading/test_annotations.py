"""Rules of both readers: boxes that count, images of each split, and images that are decoded once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay_deploy.images.canvas import Canvas, place
from assay_deploy.images.decode import read_image
from assay_research.data.detection import DetectionData
from assay_research.data.reading.annotations import (
    Annotations,
    ImageEntry,
    Item,
    Kind,
    Problem,
    listing,
    number,
    validate,
)
from assay_research.data.reading.assembly import assemble
from assay_research.data.reading.images import read_sizes
from assay_research.errors import DataError
from tests.research.data.annotated import image

CANVAS = Canvas(24, 32, "letterbox")


def entry(path: Path, *items: tuple[str, float, float, float, float], split: str | None = None) -> ImageEntry:
    """An image with objects of a class each and their box."""
    listed = [Item(f"object {i}", name, box, False) for i, (name, *box) in enumerate(items, 1)]  # type: ignore[arg-type]
    return ImageEntry(path.name, path.name, path, split, None, listed)


@pytest.fixture
def set_of_40(tmp_path: Path) -> Annotations:
    """40 images with up to three classes each."""
    entries = []
    for i in range(40):
        classes = [name for name, every in (("Navicula", 1), ("Diatoma", 3), ("Meridion", 8)) if i % every == 0]
        items = [(name, 5.0 + k, 4.0, 20.0 + k, 28.0) for k, name in enumerate(classes)]
        entries.append(entry(image(tmp_path / f"{i:02d}.png"), *items))
    return validate(tmp_path, entries, None, [])


def assembled(found: Annotations, cache: Path | None = None, **changed: object) -> DetectionData:
    settings: dict[str, object] = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "keep_empty": False}
    return assemble(found, "set", CANVAS, **settings | changed, cache=cache and str(cache))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("box", "kind", "kept"),
    [
        ((10, 5, 20, 15), None, (10, 5, 20, 15)),
        ((0, 0, 50, 30), None, (0, 0, 50, 30)),
        ((-0.001, 0, 50.004, 30), None, (0, 0, 50, 30)),
        ((-3, 5, 20, 35), Kind.CLIPPED, (0, 5, 20, 30)),
        ((-1e300, -1e300, 1e300, 1e300), Kind.CLIPPED, (0, 0, 50, 30)),
        ((50, 5, 60, 15), Kind.OUTSIDE, None),
        ((10, -9, 20, -2), Kind.OUTSIDE, None),
        ((10, 5, 10, 15), Kind.NO_AREA, None),
        ((20, 5, 10, 15), Kind.NO_AREA, None),
        ((10, 15, 20, 5), Kind.NO_AREA, None),
        ((np.nan, 5, 20, 15), Kind.NO_NUMBERS, None),
        ((10, 5, np.inf, 15), Kind.NO_NUMBERS, None),
    ],
)
def test_each_box_is_kept_cut_or_dropped_and_what_is_not_kept_as_it_was_is_told(
    tmp_path: Path, box: tuple[float, ...], kind: Kind | None, kept: tuple[float, ...] | None
) -> None:
    path = image(tmp_path / "a.png")
    found = validate(tmp_path, [entry(path, ("cell", 1, 1, 9, 9), ("cell", *box))], None, [])  # type: ignore[arg-type]
    assert found.images[0].boxes.tolist() == [[1, 1, 9, 9]] + ([list(kept)] if kept else [])
    assert [problem.kind for problem in found.problems] == ([kind] if kind else [])
    if kind:
        assert str(found.problems[0]).startswith("a.png: object 2 (cell) from ")
        assert str(found.problems[0]).endswith(" in an image of 50x30")


def test_classes_are_sorted_by_falling_frequency_then_name_and_ignored_objects_do_not_count(tmp_path: Path) -> None:
    box = (1.0, 1.0, 9.0, 9.0)
    names = ["b", "c", "c", "a", "d", "d", "d"]
    items = [Item("object", name, box, name == "d") for name in names]
    found = validate(tmp_path, [ImageEntry("a.xml", "a.xml", image(tmp_path / "a.png"), None, None, items)], None, [])
    assert found.classes == ("c", "a", "b", "d")
    assert found.counts() == {"c": 2, "a": 1, "b": 1, "d": 0}
    assert found.images[0].ignored.tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize("name", ["", "bad\0name", "half \ud800 pair", "two\nlines"])
def test_class_name_that_cannot_be_printed_is_a_problem_and_the_report_can_be(tmp_path: Path, name: str) -> None:
    found = validate(tmp_path, [entry(image(tmp_path / "a.png"), (name, 1, 1, 9, 9))], None, [])
    assert [problem.kind for problem in found.problems] == [Kind.NO_OBJECTS, Kind.UNKNOWN_CLASS]
    assert listing(found.problems).encode()


def test_problems_can_be_printed_whatever_a_damaged_file_said() -> None:
    problem = Problem("\x1b[31m.png", Kind.MISSING_IMAGE, "line\nbreak \udcff " + "x" * 10_000)
    assert str(problem).encode()
    assert str(problem).isprintable()
    assert len(str(problem)) < 400


def test_only_classes_wanted_are_kept_and_the_others_told(tmp_path: Path) -> None:
    one = entry(image(tmp_path / "a.png"), ("cat", 1, 1, 9, 9), ("dog", 1, 1, 9, 9))
    other = entry(image(tmp_path / "b.png"), ("dog", 1, 1, 9, 9))
    found = validate(tmp_path, [one, other], ["cat"], [])
    assert found.classes == ("cat",)
    assert [image.empty for image in found.images] == [False, True]
    assert [(problem.kind, problem.file) for problem in found.problems] == [
        (Kind.NO_OBJECTS, "b.png"),
        (Kind.UNKNOWN_CLASS, "a.png"),
        (Kind.UNKNOWN_CLASS, "b.png"),
    ]


def test_class_wanted_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable object .* has the class cart(.*\n)+.*unknown class"):
        validate(tmp_path, [entry(image(tmp_path / "a.png"), ("cat", 1, 1, 9, 9))], ["cart"], [])


def test_image_annotated_twice_counts_the_first_time(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png")
    found = validate(tmp_path, [entry(path, ("cat", 1, 1, 9, 9)), entry(path, ("dog", 1, 1, 9, 9))], None, [])
    assert [image.classes for image in found.images] == [("cat",)]
    assert [problem.kind for problem in found.problems] == [Kind.DUPLICATE]


def test_listing_groups_by_kind_and_counts_what_it_does_not_name() -> None:
    problems = [Problem(f"{i:02d}.xml", Kind.OUTSIDE, "is out") for i in range(8)]
    problems.insert(3, Problem("b.xml", Kind.BROKEN_FILE, "is broken"))
    lines = listing(problems, limit=2).splitlines()
    assert [line.strip() for line in lines] == [
        f"{Kind.BROKEN_FILE}: 1",
        "b.xml: is broken",
        f"{Kind.OUTSIDE}: 8",
        "00.xml: is out",
        "01.xml: is out",
        "and 6 more",
    ]


@pytest.mark.parametrize("value", [None, "", "x", True, [1], {}, "1e", 10**400])
def test_what_is_no_number_is_nan(value: object) -> None:
    assert np.isnan(number(value))


@pytest.mark.parametrize("orientation", [1, 6])  # as stored, and turned by 90 degrees: height and width swap
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "gif", "bmp", "jp2", "avif"])
def test_header_gives_the_size_of_the_upright_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    try:
        Image.fromarray(np.zeros((20, 34, 3), np.uint8)).save(path, exif=exif)
    except (KeyError, ValueError):
        assert suffix == "avif"  # which Pillow may be built without
        return
    assert read_sizes([path]) == [read_image(path).shape[:2]]


def test_cut_splits_hold_every_image_once_on_the_canvas_with_its_boxes(set_of_40: Annotations) -> None:
    data = assembled(set_of_40)
    assert data.classes == ("Navicula", "Diatoma", "Meridion")
    assert [len(split) for split in (data.train, data.val, data.test)] == [24, 8, 8]
    by_name = {image.name: image for image in set_of_40.images}
    seen = []
    for split in (data.train, data.val, data.test):
        assert split.images.dtype == torch.uint8
        for i, name in enumerate(split.names):
            seen.append(name)
            assert np.array_equal(split.images[i].numpy(), place(read_image(by_name[name].path), CANVAS))
            assert split.sizes[i].tolist() == [30, 50]
            assert [data.classes[label] for label in split.labels[i]] == list(by_name[name].classes)
            expected = by_name[name].boxes * [0.64, 19 / 30, 0.64, 19 / 30] + [0, 2, 0, 2]
            assert np.allclose(split.boxes[i].numpy(), expected)
    assert sorted(seen) == sorted(by_name)
    assert data.fingerprint() == assembled(set_of_40).fingerprint() != assembled(set_of_40, seed=1).fingerprint()


@pytest.mark.parametrize("keep_empty", [False, True])
def test_images_without_objects_are_listed_and_in_a_split_only_if_asked_for(tmp_path: Path, keep_empty: bool) -> None:
    paths = [image(tmp_path / f"{i}.png") for i in range(10)]
    entries = [entry(path, *([("cell", 1, 1, 9, 9)] if i else [])) for i, path in enumerate(paths)]
    found = validate(tmp_path, entries, None, [])
    assert [image.name for image in found.images if image.empty] == ["0.png"]
    assert [(problem.file, problem.kind) for problem in found.problems] == [("0.png", Kind.NO_OBJECTS)]
    data = assembled(found, keep_empty=keep_empty)
    names = data.train.names + data.val.names + data.test.names
    assert ("0.png" in names) is keep_empty
    if keep_empty:
        split = next(each for each in (data.train, data.val, data.test) if "0.png" in each.names)
        i = split.names.index("0.png")
        assert split.boxes[i].shape == (0, 4)
        assert split.labels[i].dtype == torch.int64


def test_given_splits_are_kept_and_only_the_missing_one_is_cut(tmp_path: Path) -> None:
    splits = [None] * 12 + ["test"] * 4
    entries = [
        entry(image(tmp_path / f"{i:02d}.png"), ("cell", 1, 1, 9, 9), split=split) for i, split in enumerate(splits)
    ]
    data = assembled(validate(tmp_path, entries, None, []), val_fraction=0.25)
    assert data.test.names == tuple(f"{i:02d}.png" for i in range(12, 16))
    assert (len(data.train), len(data.val)) == (9, 3)


def test_images_in_no_split_are_told_where_there_is_one_for_training(tmp_path: Path) -> None:
    splits = ["train", "train", "val", "test", None]
    entries = [entry(image(tmp_path / f"{i}.png"), ("cell", 1, 1, 9, 9), split=s) for i, s in enumerate(splits)]
    found = validate(tmp_path, entries, None, [])
    assert [(problem.file, problem.kind) for problem in found.problems] == [("4.png", Kind.IN_NO_SPLIT)]
    data = assembled(found)
    assert (data.train.names, data.val.names, data.test.names) == (("0.png", "1.png"), ("2.png",), ("3.png",))


def test_nothing_to_learn_is_an_error_that_lists_why(tmp_path: Path) -> None:
    found = validate(tmp_path, [entry(image(tmp_path / "a.png"), ("cell", 9, 9, 1, 1))], None, [])
    with pytest.raises(DataError, match=r"no image in .* has a usable object\n.*\n.*a\.png: has no objects left"):
        assembled(found)


@pytest.mark.parametrize("fractions", [(0.0, 0.2), (0.5, 0.5), (0.01, 0.2), (2.0, 0.1)])
def test_impossible_cuts_are_refused(set_of_40: Annotations, fractions: tuple[float, float]) -> None:
    with pytest.raises(DataError, match=r"40 training images .* take \d+ for val and \d+ for test: each split needs"):
        assembled(set_of_40, val_fraction=fractions[0], test_fraction=fractions[1])


def test_boxes_keep_an_area_however_thin_they_are(tmp_path: Path) -> None:
    thin = [("cell", 49.9999999, 5.0, 50.0, 15.0), ("cell", 20.0, 5.0, 20.0 + 1e-12, 5.0 + 1e-12)]
    entries = [entry(image(tmp_path / f"{i}.png"), *thin) for i in range(10)]
    boxes = assembled(validate(tmp_path, entries, None, [])).train.boxes[0]
    assert ((boxes[:, 2:] - boxes[:, :2]).prod(1) > 0).all()


def test_image_that_is_cut_short_is_left_out_and_told(
    set_of_40: Annotations, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = assembled(set_of_40, tmp_path / "cache")
    victim = set_of_40.root / whole.val.names[0]
    victim.write_bytes(victim.read_bytes()[:-600])
    capsys.readouterr()
    for _ in range(2):  # the second time it is the cache that knows
        data = assembled(set_of_40, tmp_path / "cache")
        assert data.val.names == whole.val.names[1:]
        assert data.train.names == whole.train.names
        assert torch.equal(data.val.images, whole.val.images[1:])
        assert f"{victim.name}: damaged or truncated" in capsys.readouterr().err
        (problem,) = data.problems
        assert (problem.kind, problem.file) == (Kind.DAMAGED_IMAGE, whole.val.names[0])


def test_cached_images_equal_those_decoded(set_of_40: Annotations, tmp_path: Path) -> None:
    decoded = assembled(set_of_40)
    for _ in range(2):
        assert assembled(set_of_40, tmp_path / "cache").fingerprint() == decoded.fingerprint()
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
