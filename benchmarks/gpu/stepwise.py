"""Work through a list of commands within a time budget, over as many calls as it takes, and keep a record of each."""

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
"""Seconds at the end of the budget in which an interrupted step may save what it has."""

TAIL = 15
"""Last lines of a failed step that its record keeps."""

UNFINISHED = 3
"""Exit code that asks for another call."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: in the records; unique.
        command: makes the command line once the steps it needs are done, or raises a `LookupError` that says what
            is missing. It is told whether an earlier call began this step and was cut off.
        figures: reads what came of it, for the record, from its output and whatever it wrote.
        devices: where it computes, as `environment` names them.
        needs: names of the steps that have to be done before.
        resumable: whether a second call goes on where the first was cut off. If not, the step begins anew, and has
            failed if a call's whole budget is too little for it.
        skip: why this machine leaves it out; "" if it does not.
        empty: exit code by which the command says that there was nothing to do.
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
    """What became of each step, ``<folder>/<name>.json`` for programs and ``<name>.md`` for people.

    Args:
        steps: all of them, in order.
        folder: of the two files and of the steps' output, ``<step>.log``.
        name: of the two files.
        environment: this machine, as `benchmarks.measure.environment.describe` says it.

    Raises:
        ValueError: the JSON file that is there is damaged.
    """

    def __init__(self, steps: Sequence[Step], folder: Path, name: str, environment: dict[str, Any]) -> None:
        self.steps, self.folder = steps, folder
        self.json, self.markdown = folder / f"{name}.json", folder / f"{name}.md"
        self.environment = environment
        try:
            self.records: dict[str, Record] = json.loads(self.json.read_text()) if self.json.is_file() else {}
        except ValueError as error:
            raise ValueError(f"'{self.json}' is damaged ({error}); remove it to begin anew") from error

    def hardware(self, step: Step) -> dict[str, str]:
        """Where a step computes on this machine."""
        return {device: self.environment["hardware"].get(device, "none here") for device in step.devices}

    def status(self, step: Step) -> str | None:
        """What became of a step on this machine; what another machine did does not count."""
        record = self.records.get(step.name, {})
        return record.get("status") if record.get("hardware") == self.hardware(step) else None

    def write(self, step: Step, status: str, seconds: float = 0.0, **more: Any) -> None:
        """Record what became of a step, adding the seconds to those of the calls that it goes on from."""
        goes_on = step.resumable and self.status(step) in (INTERRUPTED, RUNNING)
        before = self.records[step.name] if goes_on else {}
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
    """The records as Markdown, in the order of the names."""
    rows, sections = [], []
    for name in names:
        if name not in records:
            rows.append(f"| {name} | not begun | | |")
            continue
        record = records[name]
        hardware = "; ".join(f"{device}: {words}" for device, words in record["hardware"].items())
        rows.append(f"| {name} | {record['status']} | {record['seconds']:.1f} | {hardware} |")
        said = [record["reason"]] if "reason" in record else []
        said += ["```", *record["tail"], "```"] if "tail" in record else []
        said += [f"- {figure}: {value}" for figure, value in record.get("figures", {}).items()]
        sections += ["", f"## {name}: {record['status']}", "", *said] if said else []
    toolchains = {
        f"- commit {record['commit'] or 'unknown'}, "
        + ", ".join(f"{package} {number}" for package, number in record["versions"].items()): None
        for record in records.values()
    }
    head = ["| step | status | seconds | ran on |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, *sections, "", "## versions", "", *toolchains])


def work(ledger: Ledger, end: float, say: Callable[[str], object]) -> int:
    """Do what is not done yet, as far as the budget goes.

    What failed in an earlier call is tried again, after everything else.

    Args:
        ledger: of the steps.
        end: of the budget, on the clock of `time.monotonic`.
        say: is told what happens, a line at a time.

    Returns:
        The exit code: 0 all is done; `UNFINISHED` if another call would go on; 1 if nothing is left but failures.
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
            say("the budget is spent")
            break
        say(f"{step.name} ...")
        do(step, ledger, seconds, whole=not tried)
        record = ledger.records[step.name]
        say(f"{step.name}: {record['status']} after {record['seconds']:.1f} s {record.get('reason', '')}")
        tried.append(step)
    if ready(FAILED):
        return UNFINISHED
    return int(any(ledger.status(step) == FAILED for step in steps))


def do(step: Step, ledger: Ledger, seconds: float, whole: bool) -> None:
    """Run one step and record what became of it.

    Args:
        step: its needs are met.
        ledger: for the record.
        seconds: after which it is told to stop, and `GRACE` later is stopped.
        whole: whether this is all the time a call can give it.
    """
    begun = ledger.status(step) in (INTERRUPTED, RUNNING)
    ledger.write(step, RUNNING)
    log = ledger.folder / f"{step.name.replace(' ', '-')}.log"
    start = time.monotonic()
    try:
        code = _run(step.command(begun), log, seconds)
    except LookupError as error:  # what an earlier step left is not there any more
        ledger.write(step, FAILED, reason=str(error))
        return
    except BaseException:
        ledger.write(step, INTERRUPTED, time.monotonic() - start)
        raise
    took = time.monotonic() - start
    output = log.read_text(encoding="utf-8", errors="replace")
    if code is None and step.resumable:
        ledger.write(step, INTERRUPTED, took, reason="the budget was spent; the next call goes on with it")
    elif code is None and not whole:
        ledger.write(step, INTERRUPTED, took, reason="the budget was spent; the next call begins it anew")
    elif code is None:
        ledger.write(step, FAILED, took, reason=f"needs more than the {seconds:.0f} s that a whole call gave it")
    elif code == step.empty:
        ledger.write(step, SKIPPED, took, reason="there was nothing to do")
    elif code:
        ledger.write(step, FAILED, took, reason=f"exit code {code}", tail=output.splitlines()[-TAIL:])
    else:
        try:
            ledger.write(step, DONE, took, figures=step.figures(output))
        except (OSError, LookupError, ValueError) as error:
            ledger.write(step, FAILED, took, reason=f"it left no figures that can be read: {error!r}")


def _run(command: Sequence[str | Path], log: Path, seconds: float) -> int | None:
    """Exit code of a command that ends with us, whatever ends us; None if its time was up."""
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603 - our own list
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
    """Ask a process to end, then end it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """Have Linux send SIGTERM once the parent is gone, even by SIGKILL: two trainings would share one run else."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
