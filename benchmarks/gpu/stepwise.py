"""Run a list of commands within a time budget, over several calls if needed, and record each result."""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Figures = dict[str, Any]

DONE, FAILED, INTERRUPTED, RUNNING, SKIPPED = "done", "failed", "interrupted", "running", "skipped"

GRACE = 10.0
"""Seconds at the end of the budget in which an interrupted step may save its state."""

TAIL = 15
"""Number of last output lines of a failed step stored in its record."""

UNFINISHED = 3
"""Exit code if another call can continue the work."""


@dataclass(frozen=True)
class Step:
    """Command of the suite with its requirements.

    Attributes:
        name: unique name in the records.
        command: returns the command line once the needed steps are done; raises `LookupError` with a message if a file
            is missing. Its argument is True if an earlier call started this step and was interrupted.
        figures: reads the results for the record from the command's output and files.
        devices: devices on which it computes, as named in the environment.
        needs: names of the steps that must be done before.
        resumable: whether another call continues an interrupted step. If not, the step starts again, and fails if the
            full budget of a call is too short for it.
        skip: reason to skip the step on this machine; "" to run it.
        empty: exit code of the command if there was nothing to do; None if it has no such code.
    """

    name: str
    command: Callable[[bool], Sequence[str | Path]]
    figures: Callable[[str], Figures] = lambda _: {}
    devices: tuple[str, ...] = ("cpu",)
    needs: tuple[str, ...] = ()
    resumable: bool = False
    skip: str = ""
    empty: int | None = None


class Ledger:
    """Records of all steps, written to ``<folder>/<name>.json`` and, as a table, to ``<folder>/<name>.md``.

    Args:
        steps: all steps, in order.
        folder: folder of the two files and of the steps' outputs, ``<step>.log``.
        name: name of the two files without suffix.
        environment: description of this machine from `benchmarks.measure.environment.describe`.

    Raises:
        ValueError: the existing JSON file is damaged.
    """

    def __init__(self, steps: Sequence[Step], folder: Path, name: str, environment: dict[str, Any]) -> None:
        self.steps, self.folder = steps, folder
        self.json, self.markdown = folder / f"{name}.json", folder / f"{name}.md"
        self.environment = environment
        try:
            self.records: dict[str, Record] = json.loads(self.json.read_text()) if self.json.is_file() else {}
        except ValueError as error:
            raise ValueError(f"'{self.json}' is damaged ({error}); remove it to start again") from error

    def hardware(self, step: Step) -> dict[str, str]:
        """Names of the hardware of this machine that a step uses, by device."""
        return {device: self.environment["hardware"].get(device, "none here") for device in step.devices}

    def status(self, step: Step) -> str | None:
        """Status of a step on this machine; None if it was never started here."""
        record = self.records.get(step.name, {})
        return record.get("status") if record.get("hardware") == self.hardware(step) else None

    def write(self, step: Step, status: str, seconds: float = 0.0, **more: Any) -> None:
        """Write the record of a step; a resumed step's seconds are added to those of its earlier calls."""
        continues = step.resumable and self.status(step) in (INTERRUPTED, RUNNING)
        before = self.records[step.name] if continues else {}
        self.records[step.name] = {
            "status": status,
            "seconds": round(before.get("seconds", 0.0) + seconds, 1),
            "hardware": self.hardware(step),
            "versions": self.environment["versions"],
            "commit": self.environment["commit"],
            **more,
        }
        names = [step.name for step in self.steps]
        for path, text in (
            (self.json, json.dumps(self.records, indent=1)),
            (self.markdown, table(names, self.records)),
        ):
            partial = path.with_suffix(".partial")
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(path)


def table(names: Sequence[str], records: dict[str, Record]) -> str:
    """Format the records as Markdown, in the order of the names."""
    rows, sections = [], []
    for name in names:
        if name not in records:
            rows.append(f"| {name} | not begun | | |")
            continue
        record = records[name]
        hardware = "; ".join(f"{device}: {words}" for device, words in record["hardware"].items())
        rows.append(f"| {name} | {record['status']} | {record['seconds']:.1f} | {hardware} |")
        details = [record["reason"]] if "reason" in record else []
        details += ["```", *record["tail"], "```"] if "tail" in record else []
        details += [f"- {figure}: {value}" for figure, value in record.get("figures", {}).items()]
        sections += ["", f"## {name}: {record['status']}", "", *details] if details else []
    toolchains = {
        f"- commit {record['commit'] or 'unknown'}, "
        + ", ".join(f"{package} {number}" for package, number in record["versions"].items()): None
        for record in records.values()
    }
    head = ["| step | status | seconds | ran on |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, *sections, "", "## versions", "", *toolchains])


def work(ledger: Ledger, end: float, log: Callable[[str], object]) -> int:
    """Run the steps that are not done yet until the budget is spent.

    Steps that failed in an earlier call are tried again, after all others.

    Args:
        ledger: records of the steps.
        end: end of the budget, on the clock of `time.monotonic`.
        log: called with each line of progress.

    Returns:
        The exit code: 0 if all steps are done, `UNFINISHED` if another call can continue, 1 if only failed steps are
        left.
    """
    steps, tried = ledger.steps, list[Step]()
    for step in steps:
        if step.skip and ledger.status(step) != SKIPPED:
            ledger.write(step, SKIPPED, reason=step.skip)
    names = {step.name: step for step in steps}

    def ready(*unlike: str) -> list[Step]:
        return [
            step
            for step in steps
            if not step.skip
            and ledger.status(step) not in (DONE, SKIPPED, *unlike)
            and all(ledger.status(names[need]) == DONE for need in step.needs)
        ]

    while left := [step for step in ready() if step not in tried]:
        step = min(left, key=lambda each: ledger.status(each) == FAILED)
        seconds = end - time.monotonic() - GRACE
        if seconds < GRACE:
            log("the budget is spent")
            break
        log(f"{step.name} ...")
        run_step(step, ledger, seconds, full_budget=not tried)
        record = ledger.records[step.name]
        log(f"{step.name}: {record['status']} after {record['seconds']:.1f} s {record.get('reason', '')}")
        tried.append(step)
    if ready(FAILED):
        return UNFINISHED
    return int(any(ledger.status(step) == FAILED for step in steps))


def run_step(step: Step, ledger: Ledger, seconds: float, full_budget: bool) -> None:
    """Run one step and record its result.

    Args:
        step: the step; the steps it needs must be done.
        ledger: records of the steps.
        seconds: time limit, after which the step is terminated; it is killed `GRACE` seconds later.
        full_budget: whether `seconds` is the full budget of a call, so that a longer step can never finish.
    """
    begun = ledger.status(step) in (INTERRUPTED, RUNNING)
    ledger.write(step, RUNNING)
    log = ledger.folder / f"{step.name.replace(' ', '-')}.log"
    start = time.monotonic()
    try:
        code = _run(step.command(begun), log, seconds)
    except LookupError as error:  # a file of an earlier step no longer exists
        ledger.write(step, FAILED, reason=str(error))
        return
    except BaseException:
        ledger.write(step, INTERRUPTED, time.monotonic() - start)
        raise
    took = time.monotonic() - start
    output = log.read_text(encoding="utf-8", errors="replace")
    if code is None and step.resumable:
        ledger.write(step, INTERRUPTED, took, reason="the budget was spent; the next call continues it")
    elif code is None and not full_budget:
        ledger.write(step, INTERRUPTED, took, reason="the budget was spent; the next call starts it again")
    elif code is None:
        ledger.write(
            step,
            FAILED,
            took,
            reason=f"needs more than the {seconds:.0f} s available in one call; use a larger --budget",
        )
    elif code == step.empty:
        ledger.write(step, SKIPPED, took, reason="there was nothing to do")
    elif code:
        ledger.write(step, FAILED, took, reason=f"exit code {code}", tail=output.splitlines()[-TAIL:])
    else:
        try:
            ledger.write(step, DONE, took, figures=step.figures(output))
        except (OSError, LookupError, ValueError) as error:
            ledger.write(step, FAILED, took, reason=f"its figures cannot be read: {error!r}")


def _run(command: Sequence[str | Path], log: Path, seconds: float) -> int | None:
    """Run a command and return its exit code, None if it timed out; it never outlives this process."""
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603 - commands of this suite
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent
        ) as process,
    ):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process, and kill it if it does not end within `GRACE` seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """Make Linux send SIGTERM when the parent ends, even by SIGKILL: otherwise two trainings could share one run."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
