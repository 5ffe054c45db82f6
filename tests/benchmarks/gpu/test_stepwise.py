"""Steps are done once, over as many calls as it takes, and their records say what happened and where."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.stepwise import DONE, FAILED, GRACE, INTERRUPTED, SKIPPED, UNFINISHED, Ledger, Step, run_step, work

ROOT = Path(__file__).parents[3]
HERE = {"hardware": {"cpu": "Abacus 5"}, "versions": {"python": "3.12.1"}, "commit": "abc"}
SLEEPY = "import time; time.sleep(600)"


def python(code: str) -> Callable[[bool], list[str]]:
    return lambda _: [sys.executable, "-c", code]


def note(path: Path, word: str) -> str:
    return f"open({str(path)!r}, 'a').write({word + ' '!r})"


def call(steps: list[Step], folder: Path, here: dict[str, Any] = HERE, budget: float = 300) -> tuple[int, Ledger]:
    ledger = Ledger(steps, folder, "gpu", here)
    return work(ledger, time.monotonic() + budget, lambda _: None), ledger


def statuses(ledger: Ledger) -> list[str | None]:
    return [ledger.status(step) for step in ledger.steps]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    steps = [Step("one", python(note(notes, "one"))), Step("two", python(note(notes, "two")), needs=("one",))]
    assert call(steps[:1], tmp_path)[0] == 0
    assert call(steps, tmp_path)[0] == 0
    assert notes.read_text().split() == ["one", "two"]


def test_a_failure_is_recorded_with_its_last_lines_and_the_rest_goes_on(tmp_path: Path) -> None:
    code = "print(*range(40), sep='\\n'); raise SystemExit('no such thing')"
    steps = [
        Step("bad", python(code)),
        Step("after bad", python("pass"), needs=("bad",)),
        Step("good", python("pass")),
    ]
    code, ledger = call(steps, tmp_path)
    assert code == 1
    assert statuses(ledger) == [FAILED, None, DONE]
    assert ledger.records["bad"]["reason"] == "exit code 1"
    assert "no such thing" in ledger.records["bad"]["tail"]
    assert "no such thing" in ledger.markdown.read_text()
    assert "| after bad | not begun |" in ledger.markdown.read_text()


def test_a_failure_is_tried_again_after_everything_else(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    bad = Step("first", python(f"{note(notes, 'bad')}; raise SystemExit(1)"))
    assert call([bad], tmp_path)[0] == 1
    repaired, other = Step("first", python(note(notes, "repaired"))), Step("other", python(note(notes, "other")))
    follower = Step("follower", python(note(notes, "follower")), needs=("first",))
    assert call([repaired, follower, other], tmp_path)[0] == 0
    assert notes.read_text().split() == ["bad", "other", "repaired", "follower"]


def test_nothing_is_begun_once_the_budget_is_spent(tmp_path: Path) -> None:
    code, ledger = call([Step("one", python("pass"))], tmp_path, budget=GRACE)
    assert code == UNFINISHED
    assert statuses(ledger) == [None]


def test_a_resumable_step_is_told_to_go_on(tmp_path: Path) -> None:
    told: list[bool] = []

    def command(begun: bool) -> list[str]:
        told.append(begun)
        return [sys.executable, "-c", "pass" if begun else SLEEPY]

    step = Step("training", command, resumable=True)
    ledger = Ledger([step], tmp_path, "gpu", HERE)
    run_step(step, ledger, seconds=0.5, full_budget=True)
    assert statuses(ledger) == [INTERRUPTED]
    code, ledger = call([step], tmp_path)
    assert (code, told) == (0, [False, True])


def test_an_interrupted_step_is_asked_to_stop_before_it_is_killed(tmp_path: Path) -> None:
    code = """
import signal, sys, time
def save(*_):
    print("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""
    step = Step("training", python(code), resumable=True)
    run_step(step, Ledger([step], tmp_path, "gpu", HERE), seconds=3, full_budget=False)
    assert (tmp_path / "training.log").read_text().split() == ["ready", "saved"]


@pytest.mark.parametrize(("whole", "status"), [(False, INTERRUPTED), (True, FAILED)])
def test_a_step_that_cannot_resume_fails_only_if_a_whole_call_is_too_short(
    tmp_path: Path, whole: bool, status: str
) -> None:
    step = Step("long", python(SLEEPY))
    ledger = Ledger([step], tmp_path, "gpu", HERE)
    run_step(step, ledger, seconds=0.5, full_budget=whole)
    assert statuses(ledger) == [status]


def test_what_another_machine_did_is_not_done(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    step = Step("measure", python(note(notes, "measured")))
    other = {**HERE, "hardware": {"cpu": "Slide rule"}}
    for here in (HERE, other, other):
        _, ledger = call([step], tmp_path, here)
        assert ledger.records["measure"]["hardware"] == here["hardware"]
    assert notes.read_text().split() == ["measured", "measured"]


def test_a_step_for_hardware_that_is_missing_is_skipped_and_says_so(tmp_path: Path) -> None:
    step = Step("gpu tests", python("pass"), devices=("cuda",), skip="there is no CUDA device here")
    code, ledger = call([step], tmp_path)
    assert (code, statuses(ledger)) == (0, [SKIPPED])
    assert "| gpu tests | skipped | 0.0 | cuda: none here |" in ledger.markdown.read_text()
    assert "there is no CUDA device here" in ledger.markdown.read_text()


def test_having_had_nothing_to_do_is_no_failure(tmp_path: Path) -> None:
    assert call([Step("tests", python("raise SystemExit(5)"), empty=5)], tmp_path)[0] == 0


def test_figures_are_read_from_the_output_and_recorded(tmp_path: Path) -> None:
    step = Step("measure", python("print('42 images')"), figures=lambda output: {"images": int(output.split()[0])})
    _, ledger = call([step], tmp_path)
    assert json.loads(ledger.json.read_text())["measure"]["figures"] == {"images": 42}
    assert "- images: 42" in ledger.markdown.read_text()


def test_a_step_without_its_figures_has_failed(tmp_path: Path) -> None:
    step = Step("measure", python("print('nothing')"), figures=lambda output: {"images": int(output)})
    code, ledger = call([step], tmp_path)
    assert (code, statuses(ledger)) == (1, [FAILED])


def test_a_step_whose_input_is_gone_has_failed(tmp_path: Path) -> None:
    def command(_: bool) -> list[str]:
        raise LookupError("there is no run")

    _, ledger = call([Step("export", command)], tmp_path)
    assert ledger.records["export"]["reason"] == "there is no run"


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text("{")
    with pytest.raises(ValueError, match=r"gpu\.json.*damaged.*remove it"):
        Ledger([], tmp_path, "gpu", HERE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_killed_in_the_middle_it_leaves_no_orphan_and_goes_on(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from benchmarks.gpu.stepwise import Ledger, Step, work
sleep = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
step = Step("training", lambda _: [sys.executable, "-c", sleep], resumable=True)
work(Ledger([step], Path("."), "gpu", {HERE!r}), time.monotonic() + 300, lambda _: None)
"""
    suite = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    pid = tmp_path / "pid"
    while not (pid.is_file() and pid.read_text()):
        assert suite.poll() is None
        time.sleep(0.02)
    suite.send_signal(signal.SIGKILL)
    suite.wait()
    while "time.sleep" in cmdline(pid.read_text()):
        time.sleep(0.02)
    told: list[bool] = []

    def command(begun: bool) -> list[str]:
        told.append(begun)
        return [sys.executable, "-c", "pass"]

    assert call([Step("training", command, resumable=True)], tmp_path)[0] == 0
    assert told == [True]


def cmdline(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text()
    except OSError:
        return ""
