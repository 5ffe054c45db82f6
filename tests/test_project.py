"""The project as a whole: the noxfile does nothing by itself, locks hold what is declared, versions agree."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.test_architecture import MEMBERS, ROOT, canonical, declared


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


def test_versions_agree() -> None:
    projects = {
        name: tomllib.loads((ROOT / name / "pyproject.toml").read_text(encoding="utf-8"))["project"] for name in MEMBERS
    }
    modules = [(folder / "_version.py").read_text(encoding="utf-8") for folder in MEMBERS.values()]
    said = {re.findall(r'(?m)^__version__ = "(.+)"$', module)[0] for module in modules}
    (version,) = said | {project["version"] for project in projects.values()}
    ours = [entry for project in projects.values() for entry in project["dependencies"] if entry.startswith("assay-")]
    assert ours
    assert all(entry.endswith(f"=={version}") for entry in ours)


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
