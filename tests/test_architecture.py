"""The arrows between and inside the members hold: read from every import, and each check catches a planted fault."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.structure import circle, graph, imported_names, imports, upward

ROOT = Path(__file__).parents[1]
MEMBERS = {name: ROOT / name / "src" / f"assay_{name}" for name in ("research", "export", "deploy")}
SOURCES = {**MEMBERS, "benchmarks": ROOT / "benchmarks"}
OURS = ("assay_research", "assay_export", "assay_deploy", "benchmarks")
MAY_IMPORT_OF_OURS = {
    "research": ("assay_deploy.images", "assay_deploy.errors", "assay_deploy.lazy"),
    "export": ("assay_research", "assay_deploy"),
    "deploy": (),
    "benchmarks": ("assay_research", "assay_export", "assay_deploy"),
}
NEVER = {"deploy": ("torch", "torchvision", "onnx")}

TIERS = {
    name: tier
    for tier, names in enumerate(
        (
            ("_version", "errors"),
            ("optim", "schedules", "terminal"),
            ("data", "models"),
            ("config",),
            ("runs", "training"),
            ("loggers",),
            ("reports",),
            ("tasks",),
            ("experiment",),
            ("commands",),
            ("__init__",),
        )
    )
    for name in names
}
"""The wings of research from the lowest: each may import from those below it alone."""

LINES = 350
"""A longer file has a second job."""


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def wrong_arrows(member: str, folder: Path) -> list[str]:
    own = folder.name
    return [
        f"{path} imports {name}"
        for path, name in imports(folder)
        if within(name, NEVER.get(member, ()))
        or (within(name, OURS) and not within(name, (own, *MAY_IMPORT_OF_OURS[member])))
    ]


def canonical(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def declared(member: str) -> set[str]:
    """Distributions that a member may import; the benchmarks are a suite, run where everything is installed."""
    if member == "benchmarks":
        groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
        development = {canonical(entry) for entry in groups["dev"] if isinstance(entry, str)}
        return development.union(*(declared(name) for name in MEMBERS))
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    return {canonical(entry) for entry in (*project["dependencies"], *(e for extra in extras for e in extra))}


def undeclared(folder: Path, allowed: set[str]) -> list[str]:
    providers = importlib.metadata.packages_distributions()
    siblings = {path.stem for path in folder.glob("*.py")}
    return [
        f"{path} imports {name}"
        for path, name in imports(folder)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names
        and not within(name, OURS)
        and top not in siblings
        and not allowed & {canonical(distribution) for distribution in providers.get(top, [top])}
    ]


def foreign_targets(conf: Path) -> list[str]:
    def targets(node: object) -> Iterator[object]:
        if isinstance(node, dict):
            yield from (value for key, value in node.items() if key == "_target_")
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from targets(child)

    return [
        f"{path.relative_to(conf)} builds {target}"
        for path in sorted(conf.rglob("*.yaml"))
        for target in targets(OmegaConf.to_container(OmegaConf.load(path)))
        if not str(target).startswith("assay_research.")
    ]


@pytest.mark.parametrize("member", SOURCES)
def test_imports_follow_the_arrows(member: str) -> None:
    folder = SOURCES[member]
    assert any(folder.rglob("*.py"))
    assert wrong_arrows(member, folder) == []


@pytest.mark.parametrize(
    ("member", "source"),
    [
        ("research", "import assay_export"),
        ("research", "from assay_deploy import bundle"),
        ("research", "from assay_deploy.bundle.manifest import Manifest"),
        ("research", "import assay_deploy"),
        ("research", "def f():\n    from assay_deploy.engines.onnxruntime.session import Session"),
        ("research", "import importlib\nimportlib.import_module('assay_export.gate.gate')"),
        ("deploy", "import torch.nn.functional as F"),
        ("deploy", "def f():\n    if True:\n        from torchvision import io"),
        ("deploy", "import onnx"),
        ("deploy", "from importlib import import_module\nimport_module('torch')"),
        ("deploy", "__import__('assay_research')"),
        ("deploy", "from assay_research.runs.run import Run"),
        ("export", "from benchmarks import suite"),
    ],
)
def test_a_wrong_arrow_is_caught(member: str, source: str, tmp_path: Path) -> None:
    folder = tmp_path / f"assay_{member}"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "planted.py").write_text(source)
    assert len(wrong_arrows(member, folder)) == 1


def test_allowed_and_relative_imports_pass(tmp_path: Path) -> None:
    folder = tmp_path / "assay_research"
    (folder / "deep").mkdir(parents=True)
    (folder / "planted.py").write_text(
        "from assay_deploy.images.canvas import place\nfrom assay_deploy import images\n"
    )
    (folder / "deep" / "planted.py").write_text("from .. import run\nfrom . import sibling\nimport onnxruntime\n")
    assert wrong_arrows("research", folder) == []
    assert imported_names("from ..run import Run", "assay_research.deep") == {"assay_research.run.Run"}


@pytest.mark.parametrize("member", SOURCES)
def test_third_party_imports_are_declared(member: str) -> None:
    assert undeclared(SOURCES[member], declared(member)) == []


def test_an_undeclared_import_is_caught(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("import numpy\ndef f():\n    import onnxscript\n    import sklearn.datasets\n")
    assert undeclared(tmp_path, {"numpy"}) == [
        "planted.py imports onnxscript",
        "planted.py imports sklearn.datasets",
    ]
    assert undeclared(tmp_path, {"numpy", "onnxscript", "scikit-learn"}) == []


def test_configs_only_build_what_research_owns() -> None:
    assert foreign_targets(MEMBERS["research"] / "conf") == []


def test_a_foreign_target_is_caught(tmp_path: Path) -> None:
    (tmp_path / "planted.yaml").write_text("model:\n  layers: [{_target_: builtins.open}]\n")
    assert foreign_targets(tmp_path) == ["planted.yaml builds builtins.open"]


@pytest.mark.parametrize("member", SOURCES)
def test_no_circle_of_imports(member: str) -> None:
    assert circle(graph(SOURCES[member])) == []


def test_wings_import_downward_only() -> None:
    assert upward(graph(MEMBERS["research"]), TIERS) == []


@pytest.mark.parametrize(
    "closing",
    [
        "from assay_planted.wing import first",
        "def f():\n    import assay_planted.wing.first",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .wing.first import name",
        "from . import middle",
    ],
)
def test_a_circle_is_caught(closing: str, tmp_path: Path) -> None:
    folder = tmp_path / "assay_planted"
    (folder / "wing").mkdir(parents=True)
    (folder / "wing" / "first.py").write_text("from assay_planted.middle import name\n")
    (folder / "middle.py").write_text("from assay_planted import last\n")
    (folder / "last.py").write_text("import numpy\n")
    assert circle(graph(folder)) == []
    (folder / "last.py").write_text(closing + "\n")
    assert {"last", "middle"} <= set(circle(graph(folder)))


@pytest.mark.parametrize(
    "source", ["from assay_research.tasks import one", "def f():\n    from ..tasks.one import name"]
)
def test_an_upward_import_is_caught(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "assay_research"
    for name in ("runs/run", "tasks/one", "data/digits"):
        (folder / name).parent.mkdir(parents=True)
        (folder / f"{name}.py").write_text("")
    (folder / "tasks" / "one.py").write_text("from assay_research.runs.run import Run\nfrom . import one\n")
    (folder / "runs" / "run.py").write_text("from assay_research.data import digits\n")
    assert upward(graph(folder), TIERS) == []
    (folder / "runs" / "run.py").write_text(source + "\n")
    assert upward(graph(folder), TIERS) == ["runs.run imports tasks.one"]


def doubled_classes(*folders: Path) -> dict[str, list[str]]:
    """Public classes that several files define, each with the files; every member has its own `Task` protocol."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "Task":
                    found.setdefault(node.name, []).append(path.name)
    return {name: files for name, files in found.items() if len(files) > 1}


def test_no_two_public_classes_share_a_name() -> None:
    assert doubled_classes(*SOURCES.values()) == {}


def test_a_doubled_class_is_caught(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("class Planted:\n    pass\nclass _Own:\n    pass\n")
    assert doubled_classes(tmp_path / "one", tmp_path / "two") == {"Planted": ["one.py", "two.py"]}


def long_files(folder: Path) -> list[str]:
    return [
        f"{path.relative_to(folder)}: {lines} lines"
        for path in sorted(folder.rglob("*.py"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES
    ]


@pytest.mark.parametrize("member", SOURCES)
def test_files_stay_short(member: str) -> None:
    assert long_files(SOURCES[member]) == []


def test_a_long_file_is_caught(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("x = 1\n" * (LINES + 1))
    (tmp_path / "short.py").write_text("x = 1\n" * LINES)
    assert long_files(tmp_path) == [f"planted.py: {LINES + 1} lines"]
