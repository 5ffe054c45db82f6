"""The report of `assay-analyze` needs nothing else, names what is wrong with a data set, and lets no name do harm."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay_research.commands import analyze
from assay_research.config.build import instantiate
from assay_research.data.reading.annotations import Kind
from assay_research.reports.dataset.collection import collect
from assay_research.reports.dataset.statistics import explore
from tests.research.pixels import pixels

HOSTILE = "<script>alert('x')</script>"
DOLLARS = r"$\frac"
OBJECT = """
<object><name>{name}</name><difficult>0</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def escaped(name: str) -> str:
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_unkind(folder: Path) -> Path:
    """Thirty images of 120x80 with two objects each, and three in one whose name is no kinder than the classes'."""
    boxes = [(HOSTILE, (10, 10, 40, 30)), (DOLLARS, (50, 20, 90, 70))]
    objects = {f"{i:02d}": boxes for i in range(29)}
    objects["<img src=x onerror=alert(1)>"] = [*boxes, (HOSTILE, (0, 40, 30, 60))]
    (folder / "JPEGImages").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for i, (stem, inside) in enumerate(objects.items()):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 15, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((120, 80)).save(folder / "JPEGImages" / f"{stem}.png")
        text = "".join(OBJECT.format(*box, name=escaped(name)) for name, box in inside)
        (folder / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{escaped(stem)}.png</filename><size><width>120</width>"
            f"<height>80</height><depth>3</depth></size>{text}</annotation>",
            encoding="utf-8",
        )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """That data set, to be damaged."""
    return write_unkind(tmp_path / "data set")


def assay_analyze(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["assay-analyze", *map(str, arguments)])
    analyze.main()


def refusal(monkeypatch, *arguments: object) -> str:
    """What it says when it refuses; Python prints that on stderr, and exits with 1."""
    with pytest.raises(SystemExit) as ended:
        assay_analyze(monkeypatch, *arguments)
    said = str(ended.value)
    assert said.startswith("assay-analyze: ")
    return said


class Page(HTMLParser):
    """The tags of a page, what they refer to, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value or "")
            elif name == "id":
                self.ids.add(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The folder of a report on that data set."""
    place = tmp_path_factory.mktemp("unkind")
    write_unkind(place / "data set")
    with pytest.MonkeyPatch.context() as monkeypatch:
        root = f"data.root={place / 'data set'}"
        assay_analyze(monkeypatch, "data=voc", root, "data.cache=null", f"out={place / 'report'}")
    return place / "report"


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page(report / "report.html")


def test_report_needs_no_other_file(page):
    assert page.tags.count("img") >= 6
    for link in page.links:
        assert link.startswith("data:image/webp;base64,") or link.removeprefix("#") in page.ids
    assert "url(" not in page.source
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)


def test_names_are_text_and_nothing_else(page):
    assert HOSTILE in page.text
    assert "<img src=x onerror=alert(1)>.png" in page.text
    assert DOLLARS in page.text
    assert page.handlers == []


def test_figures_lie_beside_the_report(report):
    names = {path.name for path in report.glob("*.png")}
    assert names == {
        *("classes.png", "samples.png", "specimens.png", "objects_per_image.png", "boxes.png"),
        *("canvas_sizes.png", "places.png"),
    }
    shown = [pixels(report / name) for name in names]
    assert all((each < 255).any(-1).mean() > 0.01 for each in shown)
    assert len({each.tobytes() for each in shown}) == len(names)


def test_report_names_the_facts(page):
    assert re.search(r"images\s*30\s*24 train, 3 val, 3 test", page.text)
    assert re.search(r"objects\s*61\s*median 2 per image, 2 to 3", page.text)
    assert re.search(r"median object\s*30x20 px", page.text)  # of 31 boxes of 61, and the others are larger


def test_problems_are_listed_by_file(folder, tmp_path, monkeypatch, capsys):
    xmls = folder / "Annotations"
    (xmls / "00.xml").write_text("<annotation><broken")
    inverted = (xmls / "01.xml").read_text().replace("<xmin>50</xmin>", "<xmin>95</xmin>")
    (xmls / "01.xml").write_text(inverted)
    (folder / "JPEGImages" / "02.png").unlink()
    damaged = (folder / "JPEGImages" / "03.png").read_bytes()
    (folder / "JPEGImages" / "03.png").write_bytes(damaged[: len(damaged) // 2])
    (folder / "JPEGImages" / "04.png").write_bytes(b"no image")
    assay_analyze(monkeypatch, "data=voc", f"data.root={folder}", "data.cache=null", f"out={tmp_path / 'report'}")
    text = Page(tmp_path / "report" / "report.html").text
    assert "5 problems found while reading" in text
    problems = text[text.rindex("Problems") :]
    for kind in (Kind.BROKEN_FILE, Kind.NO_AREA, Kind.MISSING_IMAGE, Kind.DAMAGED_IMAGE):
        assert kind in problems
    for file in ("00.xml", "01.xml", "02.xml", "03.png", "04.png"):
        assert file in problems


def test_copies_across_splits_and_empty_images_are_named(folder, tmp_path, monkeypatch, capsys):
    splits = folder / "ImageSets" / "Main"
    splits.mkdir(parents=True)
    for split, stems in {"train": range(20), "val": range(20, 24), "test": range(24, 29)}.items():
        (splits / f"{split}.txt").write_text("".join(f"{stem:02d}\n" for stem in stems))
    (folder / "JPEGImages" / "25.png").write_bytes((folder / "JPEGImages" / "07.png").read_bytes())
    (folder / "Annotations" / "08.xml").write_text("<annotation><filename>08.png</filename></annotation>")
    options = [f"data.root={folder}", "data.cache=null", "data.keep_empty=true", f"out={tmp_path / 'report'}"]
    assay_analyze(monkeypatch, "data=voc", *options)
    said = capsys.readouterr().out
    assert "- Near-duplicate images in different splits: 1 pair, 1 of them exact copies." in said
    assert "- 1 image without any object." in said
    text = Page(tmp_path / "report" / "report.html").text
    assert re.search(r"JPEGImages/07.png\s*JPEGImages/25.png\s*leak: train and test\s*exact copy", text)
    assert re.search(r"Images without objects\s*image\s*split\s*JPEGImages/08.png\s*train", text)
    assert {"pairs.png", "empty.png"} <= {path.name for path in (tmp_path / "report").iterdir()}


def test_a_second_report_replaces_the_first_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    usual = tmp_path / "analyses" / "diatoms-8"
    usual.mkdir(parents=True)
    for name in ("pairs.png", "mine.png"):
        (usual / name).write_bytes(b"from before")
    assay_analyze(monkeypatch, "data=diatoms_smoke", "data.images=60")
    assert (usual / "report.html").is_file()
    assert not (usual / "pairs.png").exists()
    assert (usual / "mine.png").exists()


def test_classes_of_whole_images_are_explored_too(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    for name in ("apple", "plum"):
        (tmp_path / "fruit" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "fruit" / name / f"{i}.png")
    arguments = ["data=image_folder", f"data.root={tmp_path / 'fruit'}", f"out={tmp_path / 'report'}"]
    assay_analyze(monkeypatch, *arguments)
    page = Page(tmp_path / "report" / "report.html")
    assert re.search(r"images\s*40\s*32 train, 4 val, 4 test", page.text)
    assert page.ids == {"classes", "images", "near-duplicates", "problems"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "data= is missing: give a data set, one of "),
        (["voc"], "expected key=value, got 'voc'; see assay-analyze --help"),
        (["data=vco"], "data=vco: there is no such data; did you mean 'voc'?"),
        (["data=voc", "root=x"], "there is no 'root'; did you mean 'data.root'?"),
        (["data=voc", "data.rot=x"], "there is no 'data.rot'; did you mean 'root'?"),
        (["data=voc", "data.root="], "'data.root=' has no value"),
        (["data=voc"], "Missing mandatory value: root"),
        (["data=voc", "data.root=nowhere"], "nowhere"),
        (["data=voc", "data.root=.", "data.height=tall"], "'tall'"),
    ],
    ids=lambda each: " ".join(each) or "nothing" if isinstance(each, list) else "",
)
def test_what_cannot_be_done_is_said(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(monkeypatch, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(folder, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    said = refusal(monkeypatch, "data=voc", f"data.root={folder}", "data.cache=null", f"out={tmp_path / 'taken'}")
    assert str(tmp_path / "taken") in said


def test_interrupted_is_said_in_a_word(monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analyze, "analyze", interrupt)
    assert refusal(monkeypatch, "data=diatoms_smoke") == "assay-analyze: interrupted"


def test_help_names_every_data_set(monkeypatch, capsys):
    assay_analyze(monkeypatch, "--help")
    said = capsys.readouterr().out
    for name in ("voc", "coco", "diatoms", "diatoms_smoke", "image_folder"):
        assert re.search(rf"\b{name}\b", said)


def test_bccd_is_counted_as_published(bccd):
    small = ["data.height=96", "data.width=128", "data.cache=null"]
    config = analyze.parse(["data=voc", f"data.root={bccd}", *small]).data
    data = instantiate(config, "data")
    seen = explore(collect(data), data.problems)
    # 4,155 red cells are annotated, two of them with boxes without area.
    assert dict(zip(data.classes, seen.counts.sum(0), strict=True)) == {"RBC": 4153, "WBC": 372, "Platelets": 361}
    assert [each.file for each in seen.problems] == [f"Annotations/BloodImage_00{i}.xml" for i in (338, 343)]
    assert np.bincount(seen.collection.splits).tolist() == [205, 87, 72]
    assert len(seen.empty) == 0
    names = [Path(name).stem[-3:] for name in seen.collection.names]
    pairs = {frozenset((names[i], names[j])) for i, j in zip(seen.pairs.first, seen.pairs.second, strict=True)}
    assert {frozenset(pair) for pair in (("037", "038"), ("231", "256"), ("386", "391"))} <= pairs
    assert 18 <= len(pairs) <= 22
