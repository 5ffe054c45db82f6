"""Build the documentation site: the Markdown of this repository and API pages from docstrings, as ``site/``."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAGED = ROOT / "build" / "docs"
"""Folder that Zensical reads: pages with links that fit the site."""

PAGES = {
    "README.md": "index.md",
    "README.ko.md": "ko.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages outside ``docs/`` -> their names in the site."""

COPIED = ("*.md", "analysis/*", "detection/*", "results/*.png", "notebooks/*.ipynb")
"""Files of ``docs/`` that belong to the site."""

PACKAGES = ("assay_research", "assay_export", "assay_deploy")

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)?(#[^)\s]*)?\)")


def relink(text: str, source: Path) -> str:
    """Return a page's Markdown with its relative links fitted to the site.

    A link to a file of the repository that is no page of the site becomes its text. A link to nothing ends the build.

    Args:
        text: Markdown of the page.
        source: the page's file, relative to the repository.
    """

    def fit(match: re.Match[str]) -> str:
        image, label, target, anchor = match[1], match[2], match[3] or "", match[4] or ""
        if not target or "://" in target:
            return match[0]
        path = (ROOT / source.parent / target).resolve().relative_to(ROOT).as_posix()
        if not (ROOT / path).exists():
            sys.exit(f"{source}: a link to {target}, which does not exist")
        inside = PAGES.get(path, path.removeprefix("docs/"))
        if not (STAGED / inside).is_file():
            return label
        return f"{image}[{label}]({inside}{anchor})"

    return LINK.sub(fit, text)


def stage() -> None:
    """Write all pages, images and API pages below `STAGED`."""
    shutil.rmtree(STAGED, ignore_errors=True)
    copied = [path for pattern in COPIED for path in sorted((ROOT / "docs").glob(pattern))]
    staged = {path: STAGED / path.relative_to(ROOT / "docs") for path in copied}
    staged |= {ROOT / name: STAGED / page for name, page in PAGES.items() if (ROOT / name).is_file()}
    for source, page in staged.items():
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, page)
    for source, page in staged.items():
        if page.suffix == ".md":
            text = relink(source.read_text(encoding="utf-8"), source.relative_to(ROOT))
            page.write_text(text, encoding="utf-8")
    (STAGED / "api").mkdir()
    for package in PACKAGES:
        (STAGED / "api" / f"{package}.md").write_text(f"# {package}\n\n::: {package}\n", encoding="utf-8")


def main() -> None:
    """Stage the pages and build the site; a warning is an error."""
    stage()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", "zensical.toml"]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)  # noqa: S603 - our own arguments


if __name__ == "__main__":
    main()
