"""A run's folder is found, read and locked without torch, and a damaged one is refused by name."""

import subprocess
import sys
from pathlib import Path

import pytest

from assay_research.errors import CheckpointError, ConfigError
from assay_research.runs.run import Run

CONFIG = {"name": "small", "views": [{}]}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path, CONFIG)
    run.checkpoint("best").touch()
    return run


def test_two_runs_of_one_second_have_two_folders(tmp_path):
    assert Run.create(tmp_path, CONFIG).folder != Run.create(tmp_path, CONFIG).folder


def test_newest_is_the_run_made_last_among_those_with_weights(run, tmp_path):
    Run.create(tmp_path, CONFIG)
    assert Run.newest(tmp_path).folder == run.folder
    with pytest.raises(CheckpointError, match="train one"):
        Run.newest(tmp_path / "nowhere")
    (tmp_path / "study").mkdir()
    run.folder.parent.rename(tmp_path / "study" / "small")  # where name=study/small puts it
    assert Run.newest(tmp_path).folder == tmp_path / "study" / "small" / run.folder.name
    assert Run.newest(tmp_path, "study/small").folder == tmp_path / "study" / "small" / run.folder.name


@pytest.mark.parametrize("summary", ["", "[1]", "{", '{"commit": '])
def test_damaged_summary_is_refused(run, summary):
    assert run.summary() == {}
    (run.folder / "summary.json").write_text(summary)
    with pytest.raises(CheckpointError, match=r"summary\.json"):
        run.summary()


def test_a_run_is_locked_while_it_is_trained(run):
    with run.lock(), pytest.raises(CheckpointError, match="another process is training"), Run(run.folder).lock():
        pass
    with run.lock():
        pass


def test_what_a_run_holds_is_read_without_torch(run):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from assay_research.commands import runs\n"
        f"assert runs.main(['list', '--runs', {str(run.folder.parent)!r}]) == 0\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "unfinished" in ended.stdout


@pytest.mark.parametrize("config", ["[1, 2]", "{", "\0"])
def test_a_config_that_is_no_mapping_is_refused(run, config):
    (run.folder / "config.yaml").write_text(config)
    with pytest.raises(ConfigError, match=r"config\.yaml' is not a readable config"):
        run.config()


def test_nothing_in_a_saved_config_is_resolved(run, monkeypatch):
    monkeypatch.setenv("ASSAY_SECRET", "secret")
    (run.folder / "config.yaml").write_text("name: ${oc.env:ASSAY_SECRET}\n")
    assert run.config() == {"name": "${oc.env:ASSAY_SECRET}"}
