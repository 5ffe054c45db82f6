"""Tab completes keys and values of every command in a real, interactive bash."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMANDS = ("assay-train", "assay-evaluate", "assay-analyze", "assay-export", "assay-runs")
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash here")


class Bash:
    """An interactive bash on a terminal of its own, in which the commands complete.

    Args:
        folder: that it is in.
    """

    def __init__(self, folder: Path) -> None:
        programs = Path(sys.executable).parent
        leader, follower = pty.openpty()
        self.terminal = leader
        self.process = subprocess.Popen(
            [str(BASH), "--norc", "--noprofile", "-i"], stdin=follower, stdout=follower, stderr=follower, cwd=folder,
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TERM": "dumb", "INPUTRC": "/dev/null"},
            start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        installs = "".join(f'eval "$({command} -sc install=bash)"; ' for command in COMMANDS)
        setup = "shown() { printf '<%s>' \"$@\" END; echo; }"
        self.type(f"{setup}; {installs} bind 'set bell-style none'; echo re''ady\n", until="ready\r\n")

    def type(self, text: str, until: str) -> str:
        """Type, and read what the terminal shows up to these words, for at most 30 seconds."""
        os.write(self.terminal, text.encode())
        seen, end = "", time.monotonic() + 30
        while until not in seen and time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.1)[0]:
                seen += os.read(self.terminal, 4096).decode()
        return seen

    def completed(self, line: str) -> list[str]:
        """The words that a command line has after Tab was pressed at its end; the command itself is not run."""
        command, rest = line.split(" ", 1)
        seen = self.type(f"{command} {rest}\t\x01shown \n", until="<END>")
        return re.findall(r"<(.*?)>", seen)[:-1]

    def close(self) -> None:
        """End it."""
        os.close(self.terminal)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """Bash in a folder with runs and images."""
    folder = tmp_path_factory.mktemp("completion")
    for inside in ("runs/digits/2026-01-31_12-00-00", "my photos/cats", "größe"):
        (folder / inside).mkdir(parents=True)
    (folder / "runs" / "notes.txt").touch()
    started = Bash(folder)
    yield started
    started.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("assay-train sche", "schedule"),
        ("assay-train schedule=pl", "schedule=plateau"),
        ("assay-train experiment=tinyvgg_table2/a", "experiment=tinyvgg_table2/a_36"),
        ("assay-train experiment=vgg_l", "experiment=vgg_lr"),
        ("assay-train optim=adam optim.l", "optim.lr="),
        ("assay-train experiment=tinyvgg_table2 optim.mom", "optim.momentum="),
        ("assay-train stopping.m", "stopping.min_delta="),
        ("assay-train --mul", "--multirun"),
        ("assay-train resume=runs/dig", "resume=runs/digits/"),
        ("assay-train resume=au", "resume=auto"),
        ("assay-evaluate che", "checkpoint="),
        ("assay-evaluate split=te", "split=test"),
        ("assay-evaluate flip=t", "flip=true"),
        ("assay-evaluate run=ru", "run=runs/"),
        ("assay-evaluate data.root=my", "data.root=my photos/"),
        ("assay-evaluate data.root=gr", "data.root=größe/"),
        ("assay-analyze data=vo", "data=voc"),
        ("assay-analyze data=voc data.keep_e", "data.keep_empty="),
        ("assay-export formats=torchscript,on", "formats=torchscript,onnx"),
        ("assay-export all=t", "all=true"),
        ("assay-runs pru", "prune"),
        ("assay-runs prune --unf", "--unfinished"),
        ("assay-runs list --runs ru", "runs/"),
    ],
)
def test_tab_completes(bash, typed, completed):
    assert bash.completed(typed)[-1] == completed


def test_a_word_that_nothing_begins_with_stays(bash):
    assert bash.completed("assay-evaluate nothing=lik")[-1] == "nothing=lik"


def test_words_are_completed_where_bash_does_not_break_them_at_equals_signs(bash):
    bash.type("COMP_WORDBREAKS=${COMP_WORDBREAKS//=}; echo re''ady\n", until="ready\r\n")
    assert bash.completed("assay-evaluate split=te")[-1] == "split=test"


@pytest.mark.parametrize("arguments", [["-sc", "install=bash"], ["-sc", "query=bash"]])
@pytest.mark.parametrize("command", COMMANDS)
def test_answers_of_completion_are_not_for_the_terminal(command, arguments):
    """What is sourced holds the command's name; a query outside of bash has no answer and no error."""
    ran = subprocess.run(
        [Path(sys.executable).with_name(command), *arguments], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    assert ran.stdout.endswith(f" {command}\n") == (arguments[1] == "install=bash")
