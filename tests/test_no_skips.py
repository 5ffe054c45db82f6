"""`--no-skips` turns every skipped test into a failed run, those that need a GPU excepted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = {
    "by a fixture": "@pytest.fixture\ndef data():\n    pytest.skip('no data')\ndef test_it(data):\n    pass",
    "by a mark": "@pytest.mark.skip(reason='not today')\ndef test_it():\n    pass",
    "as a module": "pytest.skip('no data', allow_module_level=True)",
}
NEEDS_GPU = "@pytest.mark.gpu\ndef test_it():\n    pytest.skip('no GPU')"


def run(tmp_path: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs one\n")
    (tmp_path / "test_passing.py").write_text("def test_it():\n    pass\n")
    (tmp_path / "test_planted.py").write_text(f"import pytest\n{source}\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_skip_fails_the_run(tmp_path: Path, source: str) -> None:
    assert run(tmp_path, source).returncode == pytest.ExitCode.OK
    strict = run(tmp_path, source, "--no-skips")
    assert strict.returncode == pytest.ExitCode.TESTS_FAILED
    assert "--no-skips: 1 skipped" in strict.stdout


def test_a_test_that_needs_a_gpu_may_be_skipped(tmp_path: Path) -> None:
    assert run(tmp_path, NEEDS_GPU, "--no-skips").returncode == pytest.ExitCode.OK
