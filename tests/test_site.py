"""Links of the documentation site: fitted where their target is a page, text where it is a file, an error otherwise."""

import runpy
import tomllib
from pathlib import Path

import pytest

from tests.test_architecture import ROOT

SITE = runpy.run_path(str(ROOT / "docs" / "site.py"))


@pytest.fixture(scope="module", autouse=True)
def staged(tmp_path_factory: pytest.TempPathFactory) -> None:
    SITE["stage"].__globals__["STAGED"] = tmp_path_factory.mktemp("site")
    SITE["stage"]()


@pytest.mark.parametrize(
    ("page", "link", "fitted"),
    [
        ("README.md", "[export](docs/export.md#int8)", "[export](export.md#int8)"),
        ("README.md", "[deploy](deploy)", "deploy"),
        ("README.md", "[up](#top)", "[up](#top)"),
        ("docs/export.md", "[start](../README.md#serving)", "[start](index.md#serving)"),
        ("docs/results.md", "![curves](results/bccd.png)", "![curves](results/bccd.png)"),
        ("docs/results.md", "[paper](https://arxiv.org/abs/1910.13302)", "[paper](https://arxiv.org/abs/1910.13302)"),
    ],
)
def test_links_lead_somewhere_on_the_site(page: str, link: str, fitted: str) -> None:
    assert SITE["relink"](f"see {link}.", Path(page)) == f"see {fitted}."


def test_a_link_to_nothing_ends_the_build() -> None:
    with pytest.raises(SystemExit, match=r"docs/export.md: a link to nowhere.md, which does not exist"):
        SITE["relink"]("[gone](nowhere.md)", Path("docs/export.md"))


def test_every_page_of_the_navigation_is_staged() -> None:
    def pages(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        return [page for child in (node.values() if isinstance(node, dict) else node) for page in pages(child)]

    wanted = pages(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"])
    written = {path.relative_to(_staged()).as_posix() for path in _staged().rglob("*.md")}
    assert set(wanted) == written


def _staged() -> Path:
    folder = SITE["stage"].__globals__["STAGED"]
    assert isinstance(folder, Path)
    return folder
