"""Launchers of sweeps: what they ask for, and that a job which is preempted goes on where it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from assay_research.config.files import CONF
from assay_research.config.overrides import register

TRAIN = [sys.executable, "-m", "assay_research.commands.train"]


def launcher(name: str) -> DictConfig:
    register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composed = hydra.compose("train", [f"hydra/launcher={name}"], return_hydra_config=True)
    settings: DictConfig = composed.hydra.launcher
    return settings


def test_gpus_trains_as_many_at_once_as_there_are_gpus():
    assert launcher("gpus").n_jobs == max(1, torch.cuda.device_count())


def test_slurm_asks_for_one_gpu_and_to_be_queued_again():
    settings = launcher("slurm")
    assert settings.gpus_per_node == 1
    assert settings.max_num_timeout > 0
    assert settings.additional_parameters.requeue is True


def wait_for(path: str, text: str, folder: Path, started: subprocess.Popen[str], seconds: float = 240) -> Path:
    """The file that matches, once it holds the text."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and started.poll() is None:
        for found in folder.glob(path):
            if text in found.read_text():
                return found
        time.sleep(0.1)
    logs = "\n".join(log.read_text() for log in folder.glob("runs/sweeps/*/.submitit/*/*_log.*"))
    pytest.fail(f"no '{text}' in {path}\n{logs}\n{started.communicate()}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the job's process in /proc")
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path):
    command = [*TRAIN, "--multirun", "hydra/launcher=submitit_local", "resume=auto", "seed=0", "epochs=15"]
    started = subprocess.Popen(
        [*command, "figures=false"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = wait_for("runs/sweeps/*/.submitit/*/*_log.out", "epoch  2/15", tmp_path, started)
    controller = int(log.parent.name)
    (job,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(job), signal.SIGUSR2)  # what Slurm sends
    output, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    assert "1 of 1 trained" in output
    said = log.read_text()
    assert "this job is" in said
    assert said.count("run runs/digits/") == 2
    assert " 15 epochs to go" in said
    assert said.count("epoch  1/15") == 1
    (run,) = tmp_path.glob("runs/digits/*")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 15
    assert (run / "summary.json").is_file()
