"""`assay-train` as a person, a scheduler and a failing machine meet it."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from assay_research.commands import train

SMALL = ["epochs=3", "figures=false", "augment.flip=true", "augment.contrast=0.2", "ema_decay=0.99"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "assay_research.commands.train", *arguments]


def assay_train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=300)


def only_run(folder: Path) -> Path:
    (run,) = folder.glob("runs/*/*")
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return {f"{part}.{key}": value for part in ("model", "ema") for key, value in (state[part] or {}).items()}


def assert_same_run(first: Path, second: Path) -> None:
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    scores = [json.loads((run / "summary.json").read_text()) for run in (first, second)]
    for key in ("test_top1", "test_top1_tta", "best_epoch", "epochs", "ended"):
        assert scores[0][key] == scores[1][key]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a training of three epochs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    result = assay_train(folder, *SMALL)
    assert result.returncode == 0, result.stderr
    return folder


def test_run_holds_all_the_design_promises(finished):
    run = only_run(finished)
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} - {".lock"}
    assert names == {"config.yaml", "metrics.jsonl", "summary.json", "checkpoints/last.pt", "checkpoints/best.pt"}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["val_top1"] == max(record["val_top1"] for record in records)
    assert summary["dataset"] == "digits"
    assert summary["n"]["train"] + summary["n"]["val"] + summary["n"]["test"] == 1797
    assert len(summary["fingerprint"]) == 64
    assert {"commit", "versions", "hardware", "seconds", "seed", "test_top1_tta"} <= summary.keys()
    assert yaml.safe_load((run / "config.yaml").read_text())["augment"]["contrast"] == 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epohcs=3"], "there is no 'epohcs'; did you mean 'epochs'?"),
        (["augment.filp=true"], "there is no 'augment.filp'; did you mean 'flip'?"),
        (["model.widht=2"], "there is no 'model.widht'"),
        (["experiment=tinyvgg_tabel2"], "there is no such experiment; did you mean 'tinyvgg_table2'?"),
        (["experiment=tinyvgg_table2/a36"], "did you mean 'tinyvgg_table2/a_36'?"),
        (["modle=tinyvgg_a"], "there is no 'modle'; did you mean 'model'?"),
        (["epochs=many"], "Value 'many' of type 'str' could not be converted to Integer"),
        (["augment.flip=3.5"], "Value '3.5' is not a valid bool"),
        (["augment.scale=[40]"], "augment.scale must be [S_min, S_max]"),
        (["+model.depth=3"], "has no argument 'depth'"),
        (["optim._target_=builtins.open"], "refused"),
        (["views=[]"], "views: expected at least one"),
        (["views=[{size: 36, flop: true}]"], "views:"),
        (["epochs=0"], "epochs must be at least 1"),
        (["data.size=48"], "images are 48x48 pixels, and augment.scale [32, 36]"),
        (["data.size=16", "augment.scale=null"], "images are 16x16 pixels, and"),
        (["views=[{}, {size: 20}]"], "a view of size 20 is smaller than the 32x32 canvas"),
        (["device=tpu"], "device must be auto, cpu or cuda, got 'tpu'"),
        (["data=image_folder", "data.root=nowhere"], "nowhere"),
        (["resume=nowhere"], "'nowhere' is not a run"),
        (["epochs="], "epochs"),
        (["=3"], "expected key=value, got '=3'"),
        (["model=3"], "model=3: there is no such model"),
        (["data=image_folder", "data.root=photos", "epochs=many"], "Value 'many' of type 'str' could not be converted"),
        (["data=image_folder", "data.root=~/photos"], "needs quotes inside"),
        (["data.seed=-1"], "data.seed must be from 0 to 4294967295, got -1"),
        (["model=retinanet_small"], "the model is a detector, but 'digits' has no boxes"),
        (["optim.weight_decay=-1"], "weight_decay must be 0 or more, got -1"),
        (["+epohcs=3"], "there is no 'epohcs'; did you mean 'epochs'?"),
        (["augmnet.flip=true"], "there is no 'augmnet.flip'; did you mean 'augment'?"),
        (["seed=0,1"], "which needs --multirun"),
        (["seed=-1"], "seed must be from 0 to 4294967295, got -1"),
        (["save_every=-1"], "save_every must be 0 (only best and last) or more, got -1"),
        (["stopping.patience=-1"], "expected stopping.patience >= 0"),
        (["clip_grad_norm=0"], "expected clip_grad_norm > 0"),
        (["optim=muon", "optim.lr=-1"], "lr and other_lr must be 0 or more, got -1"),
        (["optim=by_hand", "optim.lr=-1"], "lr must be 0 or more, got -1"),
        (["views=[{size: large}]"], "a view's size must be a whole number of at least 1 pixel, got 'large'"),
        (["views=[{flip: maybe}]"], "a view's flip must be true or false, got 'maybe'"),
        (["experiment=speedrun", "data=digits", "schedule=constant"], "remove it with ~<group>.warmup"),
    ],
)
def test_bad_input_is_one_message_and_no_run(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["assay-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert str(ended.value).startswith("assay-train: ")  # what Python prints on stderr, exiting with 1
    assert message in str(ended.value)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_ends_the_process_with_1_and_no_traceback(tmp_path):
    result = assay_train(tmp_path, "epohcs=3")
    assert result.returncode == 1
    assert result.stderr.startswith("assay-train: there is no 'epohcs'; did you mean 'epochs'?")
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_where_there_is_none_is_a_clear_error(tmp_path):
    result = assay_train(tmp_path, "device=cuda")
    assert result.returncode == 1
    assert "device=cuda was requested, but torch" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_diverged_training_says_so_and_leaves_json_that_everyone_reads(tmp_path):
    result = assay_train(tmp_path, *SMALL, "optim.lr=1e30")
    assert result.returncode == 0, result.stderr
    assert "training diverged (" in result.stdout
    summary = (only_run(tmp_path) / "summary.json").read_text()
    assert json.loads(summary, parse_constant=pytest.fail)["val_loss"] is None


def test_resume_with_more_epochs_goes_on(finished, tmp_path):
    subprocess.run(["cp", "-r", finished / "runs", tmp_path], check=True)
    run = only_run(tmp_path)
    before = (run / "metrics.jsonl").read_bytes()
    result = assay_train(tmp_path, f"resume={run}", "epochs=4")
    assert result.returncode == 0, result.stderr
    assert only_run(tmp_path) == run
    assert (run / "metrics.jsonl").read_bytes().startswith(before)
    assert json.loads((run / "summary.json").read_text())["epochs"] == 4
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == 4


def test_resume_refuses_what_would_be_another_experiment(finished):
    run = only_run(finished)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for change, message in (
        ("optim.lr=1", "'optim.lr' cannot be changed"),
        ("epochs=2", "epochs=2 is less than the 3"),
        ("model=tinyvgg_b", "'model' cannot be changed"),
    ):
        result = assay_train(finished, f"resume={run}", change)
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_resume_refuses_a_config_that_would_call_something_else(finished, tmp_path):
    subprocess.run(["cp", "-r", finished / "runs", tmp_path], check=True)
    run = only_run(tmp_path)
    text = (run / "config.yaml").read_text()
    assert "assay_research.models.vgg.vgg" in text
    (run / "config.yaml").write_text(text.replace("assay_research.models.vgg.vgg", "builtins.open"))
    result = assay_train(tmp_path, f"resume={run}")
    assert result.returncode == 1
    assert "'builtins.open' refused" in result.stderr
    assert "Traceback" not in result.stderr


def test_terminated_training_saves_stops_and_goes_on_to_the_bit(finished, tmp_path):
    with subprocess.Popen(command(*SMALL), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch 1"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped and saved in epoch" in rest
    result = assay_train(tmp_path, f"resume={only_run(tmp_path)}")
    assert result.returncode == 0, result.stderr
    assert_same_run(only_run(tmp_path), only_run(finished))


def test_training_outlives_its_terminal(finished, tmp_path):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command(*SMALL), cwd=tmp_path, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    seen = b""
    while b"epoch 1/3" not in seen:
        seen += os.read(leader, 4096)
    os.close(leader)  # the terminal is gone: SIGHUP, and every write fails
    assert process.wait(timeout=120) == 0
    assert_same_run(only_run(tmp_path), only_run(finished))


def test_two_trainings_of_one_run_are_refused(tmp_path):
    with subprocess.Popen(
        command("epochs=500", "figures=false"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        while not first.stdout.readline().startswith("epoch"):
            assert first.poll() is None
        second = assay_train(tmp_path, f"resume={only_run(tmp_path)}")
        first.kill()
    assert second.returncode == 1
    assert "another process is training" in second.stderr


def test_sweep_leaves_a_run_for_each_member(tmp_path):
    result = assay_train(tmp_path, "--multirun", "seed=0,1", "epochs=1", "figures=false")
    assert result.returncode == 0, result.stderr
    runs = [path.parent for path in tmp_path.glob("runs/digits/*/summary.json")]
    assert len(runs) == 2
    assert {yaml.safe_load((run / "config.yaml").read_text())["seed"] for run in runs} == {0, 1}
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.slow
def test_killed_five_times_ends_as_if_nothing_had_happened(tmp_path):
    """SIGKILL at moments spread over a whole training, one of them while a checkpoint is being written."""
    arguments = ["epochs=12", "figures=false", "augment.flip=true", "augment.contrast=0.2", "ema_decay=0.99"]
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    assert assay_train(undisturbed, *arguments).returncode == 0

    kills = 0
    while True:
        run = next(iter(disturbed.glob("runs/*/*")), None)
        with subprocess.Popen(
            command(*(arguments if run is None else [f"resume={run}"])),
            cwd=disturbed,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            if kills == 5:
                process.stdout.read()
                break
            lines = 0
            while lines < 2 and process.stdout.readline():
                lines += 1
            if kills == 2:  # while a checkpoint is being written
                (run,) = disturbed.glob("runs/*/*")
                while not list(run.glob("checkpoints/*.partial")):
                    assert process.poll() is None
            else:
                time.sleep(0.07 * kills)
            assert process.poll() is None
            process.kill()
            kills += 1
        for path in disturbed.glob("runs/*/*/checkpoints/*.pt"):
            assert torch.load(path, weights_only=True)["model"]
    assert process.returncode == 0
    assert_same_run(only_run(disturbed), only_run(undisturbed))


def test_an_interrupt_outside_the_epochs_is_one_message(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["assay-train", "probe=overfit_one_batch"])
    monkeypatch.setattr("assay_research.experiment.trainers.load_data", interrupted)
    with pytest.raises(SystemExit, match=r"^assay-train: interrupted$"):
        train.main()
    assert list(tmp_path.iterdir()) == []
