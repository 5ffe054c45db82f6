"""The file map in CONTRIBUTING.md has a line for each source file, the first line of its docstring.

Run as a program it writes the map anew: `python tests/test_file_map.py`.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
FOLDERS = ("research/src/assay_research", "export/src/assay_export", "deploy/src/assay_deploy", "benchmarks")
BETWEEN = re.compile(r"(?s)(?<=<!-- file map -->\n).*?(?=<!-- end of file map -->)")


def claim(source: str) -> str:
    """The first line of a module's docstring, without its full stop."""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].removesuffix(".")


def file_map(root: Path, folders: Iterable[str]) -> str:
    """A Markdown list of the files, a heading a folder; of a wing's ``__init__.py`` the claim is the wing's."""
    lines = []
    for top in folders:
        for folder in sorted({path.parent for path in (root / top).rglob("*.py")}):
            init = folder / "__init__.py"
            what = claim(init.read_text(encoding="utf-8")) if init.is_file() else ""
            lines += ["", f"**{folder.relative_to(root).as_posix()}/**" + f": {what}" * bool(what), ""]
            for path in sorted(folder.glob("*.py")):
                if path != init:
                    lines.append(f"- `{path.name}`: {claim(path.read_text(encoding='utf-8'))}")
    return "\n".join(lines[1:]) + "\n"


def test_the_file_map_is_that_of_the_tree() -> None:
    written = BETWEEN.search(PAGE.read_text(encoding="utf-8"))
    assert written is not None
    assert written[0] == file_map(ROOT, FOLDERS), "write it anew: python tests/test_file_map.py"


def test_every_file_says_what_it_is(tmp_path: Path) -> None:
    assert re.findall(r"(?m)^- `.*`: $", file_map(ROOT, FOLDERS)) == []
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing" / "planted.py").write_text("x = 1\n")
    assert re.findall(r"(?m)^- `.*`: $", file_map(tmp_path, ["wing"])) == ["- `planted.py`: "]


if __name__ == "__main__":
    PAGE.write_text(BETWEEN.sub(lambda _: file_map(ROOT, FOLDERS), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
