"""A checkpoint is whole or refused, and never runs code."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from assay_research import optim
from assay_research.errors import CheckpointError
from assay_research.runs import checkpoint
from assay_research.runs.disk import OTHER_FILES


class Harmful:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_state_comes_back_as_it_was(tmp_path):
    state = {"model": {"w": torch.randn(3)}, "epoch": 3, "history": [{"loss": 0.5}], "best": None}
    checkpoint.save(state, tmp_path / "last.pt")
    loaded = checkpoint.load(tmp_path / "last.pt")
    assert torch.equal(loaded["model"].pop("w"), state["model"].pop("w"))
    assert loaded == state
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("write", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_pickle_that_runs_code_is_refused_and_not_run(tmp_path, write):
    path, target = tmp_path / "last.pt", tmp_path / "harmed"
    write({"model": Harmful(target)}, path)
    with pytest.raises(CheckpointError, match="refused"):
        checkpoint.load(path)
    assert not target.exists()


def test_every_truncation_is_refused_by_name(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save({"model": {"w": torch.randn(64)}}, path)
    content = path.read_bytes()
    for length in [0, 1, 4, *range(0, len(content), len(content) // 20)]:
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            checkpoint.load(path)


def test_missing_checkpoint_and_other_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at '.*last\.pt'; checkpoints in its folder: none"):
        checkpoint.load(tmp_path / "last.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match=r"no checkpoint at '.*last\.pt'; checkpoints in its folder: list"):
        checkpoint.load(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of Assay"):
        checkpoint.load(tmp_path / "list.pt")


def test_killed_while_writing_leaves_the_old_checkpoint(tmp_path):
    """SIGKILL arrives while `save` writes a large state over and over; what stands under the name always loads."""
    path = tmp_path / "last.pt"
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from assay_research.runs.checkpoint import save\n"
        "for epoch in range(10**6):\n"
        "    save({'model': {'w': torch.full((4_000_000,), float(epoch))}, 'epoch': epoch}, Path(sys.argv[1]))\n"
        "    print(epoch, flush=True)\n"
    )
    for delay in (0.0, 0.003, 0.01, 0.02):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(3):
                process.stdout.readline()
            signal.sigtimedwait([], delay)
            os.kill(process.pid, signal.SIGKILL)
        loaded = checkpoint.load(path)
        assert loaded["epoch"] >= 2
        assert (loaded["model"]["w"] == loaded["epoch"]).all()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 128, 3), nn.Flatten(), nn.Linear(2048, 10)
    )


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("build", [optim.sgd, optim.adam, optim.adamw, optim.muon, optim.by_hand])
def test_estimate_is_what_a_checkpoint_takes_before_and_after_the_first_step(tmp_path, build, averaged):
    model = network()
    optimizer = build(model)
    average = network() if averaged else None
    before = checkpoint.needed(model, optimizer, 1, average) - OTHER_FILES
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    after = checkpoint.needed(model, optimizer, 1, average) - OTHER_FILES
    state = {
        "model": model.state_dict(),
        "ema": average.state_dict() if average else None,
        "optimizer": optimizer.state_dict(),
    }
    checkpoint.save(state, tmp_path / "last.pt")
    size = (tmp_path / "last.pt").stat().st_size
    assert before == pytest.approx(size, rel=0.05)
    assert after == pytest.approx(size, rel=0.05)
