"""Loggers hold every epoch once, whatever happened to the run, and never get in a training's way."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from assay_research.config.overrides import compose
from assay_research.errors import ConfigError
from assay_research.loggers import Loggers, Start, build_loggers

CSV = {"csv": {"_target_": "assay_research.loggers.Csv"}}
TENSORBOARD = {"tensorboard": {"_target_": "assay_research.loggers.TensorBoard"}}
CONFIG = {"name": "digits", "optim": {"lr": 0.02}}


def record(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "lr": 0.1 / epoch, "train_loss": 2.0 / epoch, "val_top1": epoch / 10, "seconds": 1.5}


def opened(config: dict[str, Any], folder: Path, epochs: int) -> Loggers:
    """Loggers of a run that has that many epochs already."""
    loggers = build_loggers(config)
    loggers.open(Start(folder, "digits/now", CONFIG, [record(epoch) for epoch in range(1, epochs + 1)]))
    return loggers


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def begun_a_minute_ago(run: Path) -> None:
    """Rename what TensorBoard sorts by name, which begins with the second: two processes never begin in the same."""
    for path in (run / "tensorboard").iterdir():
        second = path.name.split(".")[3]
        path.rename(path.with_name(path.name.replace(second, str(int(second) - 60))))


def steps(events: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a tag."""
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], set()),
        (["logger=[]"], set()),
        (["logger=csv"], {"csv"}),
        (["logger=[csv,tensorboard,wandb]"], {"csv", "tensorboard", "wandb"}),
        (["logger=[wandb]", "logger.wandb.project=diatoms"], {"wandb"}),
    ],
)
def test_none_one_or_several_are_chosen_by_name(overrides, names):
    assert set(build_loggers(compose(overrides).logger).working) == names


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["logger=tensorbord"], "did you mean 'tensorboard'"),
        (["logger=[csv,wanbd]"], "did you mean 'wandb'"),
        (["logger=wandb", "logger.wandb.mode=onlin"], "mode must be offline or online, got 'onlin'"),
        (["logger=csv", "+logger.csv.sep=tab"], "has no argument 'sep'"),
        (["logger=csv", "logger.csv._target_=assay_research.runs.run.Run"], "refused"),
    ],
)
def test_a_bad_choice_is_refused_before_anything_is_written(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_loggers(compose(overrides).logger)


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package):
    for name in [name for name in sys.modules if name == "torch.utils.tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ConfigError, match=f"needs the package {package} .*`pip install {package}`"):
        build_loggers(compose([f"logger={package}"]).logger)


def test_packages_are_imported_only_for_the_logger_that_was_chosen():
    script = """
import sys
from assay_research.loggers import build_loggers
build_loggers({"csv": {"_target_": "assay_research.loggers.Csv"}})
assert not {"tensorboard", "wandb", "torch.utils.tensorboard"} & set(sys.modules)
build_loggers({"tensorboard": {"_target_": "assay_research.loggers.TensorBoard"}})
assert "tensorboard" in sys.modules and "wandb" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_csv_is_a_whole_table_after_every_epoch(tmp_path):
    loggers = opened(CSV, tmp_path, 0)
    for epoch in (1, 2, 3):
        loggers.log(record(epoch))
        assert [{k: float(v) for k, v in row.items()} for row in rows(tmp_path)] == [
            record(each) for each in range(1, epoch + 1)
        ]
    loggers.finish({"test_top1": 0.5})
    loggers.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("history", [0, 2, 3, 5])
def test_csv_of_a_resumed_run_holds_its_checkpoints_epochs_once(tmp_path, history):
    """Killed after epoch 3 was logged; the checkpoint may be older, or of a training that had no logger."""
    first = opened(CSV, tmp_path, 0)
    for epoch in (1, 2, 3):
        first.log(record(epoch))
    second = opened(CSV, tmp_path, history)
    second.log(record(history + 1))
    assert [int(row["epoch"]) for row in rows(tmp_path)] == list(range(1, history + 2))


def test_csv_has_a_column_for_what_only_some_epochs_have(tmp_path):
    loggers = build_loggers(CSV)
    loggers.open(Start(tmp_path, "digits/now", {}, [{"epoch": 1, "val_top1": 0.5}]))
    loggers.log({"epoch": 2, "val_top1": float("nan"), "seconds": 3.0})
    assert rows(tmp_path) == [
        {"epoch": "1", "val_top1": "0.5", "seconds": ""},
        {"epoch": "2", "val_top1": "nan", "seconds": "3.0"},
    ]


def test_tensorboard_holds_every_figure_of_an_epoch_the_config_and_the_summary(tmp_path):
    loggers = opened(TENSORBOARD, tmp_path, 0)
    loggers.log(record(1))
    loggers.finish({"test_top1": 0.75})
    loggers.close()
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert set(accumulator.Tags()["scalars"]) == {"lr", "train/loss", "val/top1", "seconds"}
    texts = {tag: accumulator.Tensors(f"{tag}/text_summary")[0] for tag in ("config", "summary")}
    for tag, content in (("config", CONFIG), ("summary", {"test_top1": 0.75})):
        assert json.loads(texts[tag].tensor_proto.string_val[0]) == content


@pytest.mark.parametrize("history", [0, 2, 3, 5])
def test_tensorboard_of_a_resumed_run_holds_its_checkpoints_epochs_once(tmp_path, history):
    first = opened(TENSORBOARD, tmp_path, 0)
    for epoch in (1, 2, 3):
        first.log(record(epoch))
    del first  # killed: nothing is closed
    begun_a_minute_ago(tmp_path)
    second = opened(TENSORBOARD, tmp_path, history)
    second.log(record(history + 1))
    expected = [(epoch, pytest.approx(2.0 / epoch)) for epoch in range(1, history + 2)]
    assert steps(tmp_path / "tensorboard", "train/loss") == expected


@pytest.mark.parametrize("history", [0, 2, 3])
def test_tensorboard_that_runs_already_drops_what_a_resumed_run_replaces(tmp_path, history):
    first = opened(TENSORBOARD, tmp_path, 0)
    for epoch in (1, 2, 3):
        first.log(record(epoch))
    begun_a_minute_ago(tmp_path)
    running = EventAccumulator(str(tmp_path / "tensorboard"))
    running.Reload()
    second = opened(TENSORBOARD, tmp_path, history)
    running.Reload()
    assert [event.step for event in running.Scalars("train/loss")] == list(range(1, history + 1))
    second.log(record(history + 1))
    running.Reload()
    assert [event.step for event in running.Scalars("train/loss")] == list(range(1, history + 2))


SESSION = """
import os, sys
from pathlib import Path
from assay_research.loggers import Start, build_loggers
folder, done, last, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
loggers = build_loggers({"wandb": {"_target_": "assay_research.loggers.Wandb", "mode": sys.argv[5]}})
history = [{"epoch": i, "train_loss": 2.0 / i} for i in range(1, last + 1)]
loggers.open(Start(folder, "digits/now", {"optim": {"lr": 0.02}}, history[:done]))
for record in history[done:]:
    loggers.log(record)
if how == "killed":
    os.kill(os.getpid(), 9)
loggers.finish({"test_top1": 0.75, "n": {"test": 360}})
loggers.close()
"""


def session(
    folder: Path, done: int, last: int, how: str = "ended", mode: str = "offline", **environment: str
) -> subprocess.CompletedProcess[str]:
    """One process that logs the epochs after `done` up to `last`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-c", SESSION, folder, str(done), str(last), how, mode],
        env=clean | {"HOME": str(folder), "NETRC": str(folder / "none")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def wandb_records(folder: Path) -> list[Record]:
    """What the only run's file holds: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    content, at, whole, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(whole))
            whole = b""
    return found


def wandb_losses(folder: Path) -> list[tuple[int, float]]:
    losses = []
    for each in wandb_records(folder):
        if each.WhichOneof("record_type") == "history":
            items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in each.history.item}
            losses.append((each.history.step.num, items["train/loss"]))
    return losses


def test_wandb_offline_holds_a_killed_and_resumed_run_once_under_one_id(tmp_path):
    killed = session(tmp_path, 0, 3, "killed")
    assert killed.returncode == -9, killed.stderr
    identity = (tmp_path / "wandb" / "id.txt").read_text()
    (tmp_path / "wandb" / f"offline-run-20260131_120000-{identity}").mkdir()  # of an earlier interruption
    ended = session(tmp_path, 2, 4)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout + ended.stderr == ""
    assert wandb_losses(tmp_path) == [(epoch, 2.0 / epoch) for epoch in (1, 2, 3, 4)]
    runs = [each.run for each in wandb_records(tmp_path) if each.WhichOneof("record_type") == "run"]
    assert {(run.run_id, run.project, run.display_name) for run in runs} == {(identity, "assay", "digits/now")}
    summary = [each.summary for each in wandb_records(tmp_path) if each.WhichOneof("record_type") == "summary"]
    assert any(item.value_json == "0.75" for part in summary for item in part.update)


@pytest.mark.slow
def test_wandb_opened_again_for_another_run_keeps_the_two_apart(tmp_path):
    again = SESSION.replace("loggers.finish", "loggers.open(Start(folder / 'other', 'other', {}, []))\nloggers.finish")
    (tmp_path / "other").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", again, tmp_path, "0", "2", "ended", "offline"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    assert wandb_losses(tmp_path) == [(1, 2.0), (2, 1.0)]
    assert wandb_losses(tmp_path / "other") == []


@pytest.fixture
def server():
    """A listener in the place of every server; how many times it was called."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def calls(listening: socket.socket) -> int:
    count = 0
    try:
        while True:
            listening.accept()[0].close()
            count += 1
    except BlockingIOError:
        return count


@pytest.mark.slow
def test_wandb_offline_calls_nobody(tmp_path, server):
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    everywhere = {"WANDB_BASE_URL": address, "HTTPS_PROXY": address, "HTTP_PROXY": address, "NO_PROXY": ""}
    assert session(tmp_path, 0, 1, **everywhere).returncode == 0
    assert calls(server) == 0
    assert session(tmp_path, 1, 2, WANDB_ERROR_REPORTING="true", **everywhere).returncode == 0
    assert calls(server) > 0  # what it does when nobody stops it: the listener does hear


def test_wandb_online_without_a_login_or_a_network_is_one_line_and_training_goes_on(tmp_path):
    result = session(tmp_path, 0, 2, mode="online", WANDB_BASE_URL="http://127.0.0.1:9", WANDB_SILENT="true")
    assert result.returncode == 0, result.stderr
    (said,) = result.stderr.splitlines()
    assert said.startswith("logger=wandb failed and is switched off; training continues: ")


def test_a_logger_that_fails_says_so_once_and_leaves_the_others_alone(tmp_path, capsys):
    (tmp_path / "metrics.csv.partial").symlink_to("/dev/full")  # the disk is full, for this file alone
    loggers = opened(CSV | TENSORBOARD, tmp_path, 1)
    loggers.log(record(2))
    loggers.finish({})
    loggers.close()
    said = capsys.readouterr().err
    assert said.startswith("logger=csv failed and is switched off; training continues: ")
    assert len(said.splitlines()) == 1
    assert [step for step, _ in steps(tmp_path / "tensorboard", "lr")] == [1, 2]


def test_tensorboard_on_a_full_disk_is_one_line_and_no_waiting(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from assay_research.loggers import Start, build_loggers
loggers = build_loggers({"tensorboard": {"_target_": "assay_research.loggers.TensorBoard"}})
loggers.open(Start(Path(sys.argv[1]), "digits/now", {}, []))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for epoch in range(1, 50):
    loggers.log({"epoch": epoch, "train_loss": 1.0})
loggers.finish({})
loggers.close()
print("trained")
"""
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "trained\n"
    assert result.stderr.count("logger=tensorboard failed and is switched off") == 1


def test_loggers_can_be_opened_again_for_another_run(tmp_path):
    loggers = opened(CSV | TENSORBOARD, tmp_path, 0)
    loggers.log(record(1))
    (tmp_path / "other").mkdir()
    loggers.open(Start(tmp_path / "other", "digits/other", CONFIG, []))
    loggers.log(record(1))
    loggers.close()
    for folder in (tmp_path, tmp_path / "other"):
        assert len(rows(folder)) == 1
        assert [step for step, _ in steps(folder / "tensorboard", "lr")] == [1]
