"""The documents are correct: the page on one's own model works, commands are up to date, translations agree."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay_research.commands import sweep
from assay_research.config.files import CONF
from assay_research.config.overrides import compose
from assay_research.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "your-own-model.md"
MEMBERS = ("deploy", "research", "export")
COMMANDS = {
    "train": ["assay_research.commands.train"],
    "evaluate": ["assay_research.commands.evaluate"],
    "export": ["assay_export.cli"],
    "predict": ["assay_deploy", "predict"],
    "doctor": ["assay_deploy", "doctor"],
}
BLOCK = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")


def named_files(text: str) -> dict[str, str]:
    """Path -> content of the files that a page shows: the path is the last thing in backquotes before the block."""
    files = {}
    for block in BLOCK.finditer(text):
        if block[1] in ("python", "yaml"):
            files[re.findall(r"`(\S+)`", text[: block.start()])[-1]] = block[2]
    return files


def shell_commands(text: str) -> list[list[str]]:
    """The arguments of every nox command in a page's blocks, session first."""
    blocks = [block[2] for block in BLOCK.finditer(text) if block[1] == "sh"]
    lines = [line for block in blocks for line in block.splitlines()]
    return [[word for word in shlex.split(line, comments=True)[2:] if word != "--"] for line in lines]


def make_images(folder: Path) -> None:
    """Sixty noisy images in each of three classes, which differ in colour."""
    random = np.random.default_rng(0)
    for label, colour in {"apple": (200, 40, 40), "leaf": (40, 180, 60), "plum": (110, 40, 170)}.items():
        (folder / label).mkdir(parents=True)
        for i in range(60):
            pixels = np.clip(np.array(colour) + random.normal(0, 40, (36, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Path, list[str]]:
    """A clone in which everything that the page says was done, and what its commands wrote to standard output."""
    clone = tmp_path_factory.mktemp("clone")
    for member in MEMBERS:
        shutil.copytree(ROOT / member / "src", clone / member / "src", ignore=shutil.ignore_patterns("__pycache__"))
    make_images(clone / "photos")
    page = PAGE.read_text(encoding="utf-8")
    for path, content in named_files(page).items():
        assert not (clone / path).exists()
        (clone / path).write_text(content, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(clone / member / "src") for member in MEMBERS)}
    said = []
    for session, *arguments in shell_commands(page):
        command = [sys.executable, "-m", *COMMANDS[session], *arguments]
        result = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, f"{session} {arguments}: {result.stdout}{result.stderr}"
        said.append(result.stdout)
    return clone, said


def test_following_the_page_trains_the_model_it_shows(followed):
    (run,) = followed[0].glob("runs/photos/*")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["dataset"] == "photos"
    assert summary["n"] == {"train": 144, "val": 18, "test": 18}
    assert summary["test_top1"] == 1.0
    assert "assay_research.models.mine.Mine" in (run / "config.yaml").read_text()
    assert list((run / "evaluation").glob("*.json"))


def test_following_the_page_leads_to_a_bundle_that_predicts(followed):
    folder, said = followed
    manifest = json.loads((folder / "bundles" / "photos" / "manifest.json").read_text())
    assert manifest["labels"] == ["apple", "leaf", "plum"]
    lines = [line.split("\t") for line in said[-1].splitlines()]
    assert len(lines) == 60
    assert {label for _, label, _ in lines} == {"leaf"}


def test_the_page_goes_the_whole_way():
    text = PAGE.read_text(encoding="utf-8")
    assert [command[0] for command in shell_commands(text)] == [
        *("train", "train"),
        *list(COMMANDS)[1:3],
        *("doctor", "predict"),
    ]
    assert len(named_files(text)) == 3


def trainings(text: str) -> list[str]:
    """The overrides of every training that a document shows in a line of its own."""
    return re.findall(r"(?m)^    .*(?:nox -s train --|/assay-train) (.+)$", text)


READMES = (ROOT / "README.md", ROOT / "README.ko.md")
DOCUMENTS = [*READMES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = sorted({command for path in DOCUMENTS for command in trainings(path.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("command", SHOWN)
def test_trainings_that_the_documents_show_compose(command):
    typed, _ = sweep.arguments(shlex.split(command, comments=True))
    overrides = [each for each in typed if not each.startswith(("--", "hydra.sweep", "hydra.launcher"))]
    launchers = [each.partition("=")[2] for each in overrides if each.startswith("hydra/launcher=")]
    assert all((CONF / "hydra" / "launcher" / f"{name}.yaml").is_file() for name in launchers)
    rest = [each for each in overrides if not each.startswith("hydra")]
    compose([each if "[" in each else each.partition(",")[0] for each in rest])


def test_a_training_that_is_out_of_date_is_caught():
    (shown,) = trainings("As `nox -s train -- model=tinyvgg_a` says\n\n    nox -s train -- experiment=tinyvgg_a\n")
    assert shown == "experiment=tinyvgg_a"
    with pytest.raises(ConfigError, match="there is no such experiment"):
        compose([shown])


CODE_BLOCK = re.compile(r"(?ms)^```.*?^```$|(?:^    [^\n]*\n(?:\n(?=    ))*)+")
FIGURE = re.compile(r"(?a)[\w.,+-]*\d[\w.,+-]*(?: (?:%|s(?!\w)))?")


def language_independent(text: str) -> dict[str, list]:
    """Parts of a README that a translation must not change, by name."""
    prose = CODE_BLOCK.sub("", text)
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", prose)
    rows = [line.strip("|").split("|") for line in prose.splitlines() if line.startswith("|")]
    return {
        "code blocks": CODE_BLOCK.findall(text),
        "inline code": sorted(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)),
        "headings": re.findall(r"(?m)^#+(?= )", prose),
        "links": sorted(link for link in links if link not in {path.name for path in READMES}),
        "images": re.findall(r"!\[[^\]]*\]\(([^)]+)\)", prose),
        "tables": [[[each.strip(".,") for each in FIGURE.findall(cell)] for cell in row] for row in rows],
    }


def differences(one: str, other: str) -> list[str]:
    """Names of the language-independent parts in which two READMEs differ."""
    first, second = language_independent(one), language_independent(other)
    return [name for name in first if first[name] != second[name]]


def test_translations_of_the_readme_have_the_same_code_links_and_figures():
    english, korean = (path.read_text(encoding="utf-8") for path in READMES)
    parts = language_independent(english)
    assert all(parts[name] for name in parts if name != "images")
    for name, part in language_independent(korean).items():
        assert part == parts[name], f"README.md and README.ko.md differ in {name}"


def test_translations_of_the_readme_link_to_each_other():
    english, korean = ("\n".join(path.read_text(encoding="utf-8").splitlines()[:3]) for path in READMES)
    assert "](README.ko.md)" in english
    assert "](README.md)" in korean


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("    nox -s export\n", "    nox -s bench\n", "code blocks"),
        ("--read-only --network none --gpus all", "--network none --gpus all", "code blocks"),
        ("`epochs=60`", "`epochs=6`", "inline code"),
        ("\n## ", "\n### ", "headings"),
        ("(docs/training.md#tab-in-bash)", "(docs/training.md)", "links"),
        ("\n## ", "\n![TTA](docs/tta.png)\n\n## ", "images"),
        ("3.39 [3.35, 3.40]", "3.39 [3.35, 3.44]", "tables"),
        ("| 10.6 s, 10.0 s |", "| 10.6 ms, 10.0 s |", "tables"),
        ("0.7704, 0.7935", "0.7935, 0.7704", "tables"),
        ("| 935839e+ |", "| 935839e |", "tables"),
    ],
)
def test_a_translation_that_differs_is_caught(old, new, part):
    english, korean = (path.read_text(encoding="utf-8") for path in READMES)
    for text in (english, korean):
        assert old in text
        changed = text.replace(old, new, 1)
        assert differences(english, changed) == [part]
        assert differences(changed, korean) == [part]
