"""The arrows between the members hold: read from every import, and each check is shown to catch a planted fault."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
MEMBERS = {name: ROOT / name / "src" / f"assay_{name}" for name in ("research", "export", "deploy")}
SOURCES = {**MEMBERS, "benchmarks": ROOT / "benchmarks"}
OURS = ("assay_research", "assay_export", "assay_deploy", "benchmarks")
MAY_IMPORT_OF_OURS = {
    "research": ("assay_deploy.pictures", "assay_deploy.errors"),
    "export": ("assay_research", "assay_deploy"),
    "deploy": (),
    "benchmarks": ("assay_research", "assay_export", "assay_deploy"),
}
NEVER = {"deploy": ("torch", "torchvision", "onnx")}


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imported_names(source: str, package: str) -> set[str]:
    """Dotted names that a module of `package` imports, at any depth and by `importlib.import_module` too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            names |= {".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def imports(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*.py")):
        package = ".".join([folder.name, *path.parent.relative_to(folder).parts])
        for name in sorted(imported_names(path.read_text(encoding="utf-8"), package)):
            yield path.relative_to(folder), name


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


def side_effects(noxfile: Path) -> list[str]:
    """Processes, connections and written files that importing a noxfile causes, by Python's own audit events."""
    script = """
import json, os, runpy, sys
import nox, nox.virtualenv
events = []
watched = ("subprocess.", "socket.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.mkdir", "os.rename",
           "os.remove", "os.rmdir", "shutil.")
def watch(event, arguments):
    if event.startswith(watched) or (event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        events.append(f"{event} {arguments[0]}")
sys.addaudithook(watch)
runpy.run_path(sys.argv[1])
found = list(events)
print(json.dumps(found))
"""
    ran = subprocess.run(
        [sys.executable, "-B", "-c", script, noxfile],
        cwd=noxfile.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ran.stdout.splitlines()[-1])
    assert isinstance(found, list)
    return found


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
        "from assay_deploy.pictures.canvas import place\nfrom assay_deploy import pictures\n"
    )
    (folder / "deep" / "planted.py").write_text("from .. import run\nfrom . import sibling\nimport onnxruntime\n")
    assert wrong_arrows("research", folder) == []
    assert imported_names("from ..run import Run", "assay_research.deep") == {"assay_research.runs.run.Run"}


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


def test_versions_agree() -> None:
    projects = {
        name: tomllib.loads((ROOT / name / "pyproject.toml").read_text(encoding="utf-8"))["project"] for name in MEMBERS
    }
    modules = [(folder / "__init__.py").read_text(encoding="utf-8") for folder in MEMBERS.values()]
    said = {re.findall(r'(?m)^__version__ = "(.+)"$', module)[0] for module in modules}
    (version,) = said | {project["version"] for project in projects.values()}
    ours = [entry for project in projects.values() for entry in project["dependencies"] if entry.startswith("assay-")]
    assert ours
    assert all(entry.endswith(f"=={version}") for entry in ours)


def test_configs_only_build_what_research_owns() -> None:
    assert foreign_targets(MEMBERS["research"] / "conf") == []


def test_a_foreign_target_is_caught(tmp_path: Path) -> None:
    (tmp_path / "planted.yaml").write_text("model:\n  layers: [{_target_: builtins.open}]\n")
    assert foreign_targets(tmp_path) == ["planted.yaml builds builtins.open"]


def test_importing_the_noxfile_does_nothing() -> None:
    assert side_effects(ROOT / "noxfile.py") == []


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess\nsubprocess.run(['git', '--version'])",
        "import pathlib\npathlib.Path('made').write_text('')",
        "import pathlib\npathlib.Path('made').mkdir()",
        "import shutil, nox\nshutil.copy(__file__, 'copied')",
    ],
)
def test_a_noxfile_that_does_something_is_caught(source: str, tmp_path: Path) -> None:
    (tmp_path / "noxfile.py").write_text(source)
    assert side_effects(tmp_path / "noxfile.py") != []


def test_documents_name_only_sessions_that_exist() -> None:
    sessions = set(re.findall(r"(?m)^@nox\.session.*\n(?:@.*\n)*def (\w+)\(", (ROOT / "noxfile.py").read_text()))
    named = {
        session
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
        for session in re.findall(r"nox -s (\w+)", path.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= sessions


def lock_entries(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {canonical(entry): entry for entry in re.split(r"(?m)^(?=[a-z0-9])", text)[1:]}


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.stem)
def test_locks_are_hashed_and_name_no_place(path: Path) -> None:
    assert all("--hash=sha256:" in entry for entry in lock_entries(path.stem).values())
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert str(ROOT) not in text


def test_locks_hold_everything_declared() -> None:
    development, torch = lock_entries("dev"), lock_entries("torch")
    assert not set(development) & (set(torch) | set(lock_entries("torch-oldest")))
    wanted = declared("benchmarks") - {"assay-deploy", "assay-research", "onnxruntime-gpu"}
    assert wanted <= set(development) | set(torch)
    for extra, runtime in (("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu")):
        image = set(lock_entries(f"deploy-{extra}"))
        assert runtime in image
        assert not image & {"torch", "torchvision", "onnx"}
