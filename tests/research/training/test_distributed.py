"""Two processes that train together end with the weights of one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from assay_research.config.overrides import compose_settings
from assay_research.errors import ConfigError
from assay_research.experiment.trainers import make_trainer

# No BatchNorm and no dropout; three large steps an epoch, augmented.
COMMON = ["epochs=2", "batch_size=400", "precision=fp32", "figures=false", "optim.lr=0.01", "clip_grad_norm=1.0"]
PROGRAMS = Path(sys.executable).parent
TWO = [PROGRAMS / "torchrun", "--standalone", "--nproc-per-node=2", "--no-python"]


def trained(folder: Path, launcher: list[Path | str], *arguments: str) -> Path:
    command = [*launcher, PROGRAMS / "assay-train", *COMMON, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (run,) = folder.glob("runs/digits/*")
    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("alone"), [])


def assert_same(one: Path, other: Path) -> None:
    first, second = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (one, other))
    for key, value in first["model"].items():
        torch.testing.assert_close(second["model"][key], value, rtol=1e-4, atol=1e-5, msg=key)
    for mine, theirs in zip(first["history"], second["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_two_processes_end_with_the_weights_of_one(alone, tmp_path):
    together = trained(tmp_path, TWO)
    assert_same(alone, together)
    assert json.loads((together / "summary.json").read_text())["hardware"].startswith("2 processes, each on")


def test_terminated_processes_save_and_stop_however_few_steps_an_epoch_has(tmp_path):
    command = [*TWO, PROGRAMS / "assay-train", *COMMON, "epochs=1000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert "stopped and saved in epoch" in process.stdout.read()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=64", "accumulate=3"], "batch_size must be a multiple of accumulate"),
        (["accumulate=0"], "accumulate at least 1"),
        (["sync_batchnorm=true"], "sync_batchnorm=true needs several processes on CUDA"),
        (["compile=fast"], "compile must be null or one of default, reduce-overhead, max-autotune, got 'fast'"),
    ],
)
def test_impossible_settings_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_trainer(compose_settings(["device=cpu", *overrides]))
