"""Completion in bash: a function asks the command itself what the word under the cursor may become."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from assay_deploy.errors import AssayError
from assay_research.terminal import say

SCRIPT = """\
_assay_complete() {{
    mapfile -t COMPREPLY < <(
        COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT COMP_WORDBREAKS=$COMP_WORDBREAKS "$1" -sc query=bash 2>/dev/null
    )
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *[=./,] ]] && compopt -o nospace
    return 0
}}
complete -F _assay_complete {name}"""

Complete = Callable[[str, Sequence[str]], Iterable[str]]
"""From the word under the cursor and the words before it, the command aside, to what the word may become."""


def answer(name: str, arguments: Sequence[str], complete: Complete) -> bool:
    """Print what ``-sc install=bash`` or ``-sc query=bash`` asks for; False if neither is.

    Args:
        name: of the command.
        arguments: of it.
        complete: tells what a word may become; all that does not begin with the word is dropped here.
    """
    if len(arguments) != 2 or arguments[0] not in ("-sc", "--shell-completion"):
        return False
    if arguments[1] == "install=bash":
        say(SCRIPT.format(name=name))
        return True
    if arguments[1] != "query=bash":
        return False
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "1000000"))]
    try:
        _, *words = shlex.split(line)
        word = "" if line[-1:] == " " and line[-2:] != "\\ " else words.pop()
        found = sorted({each for each in complete(word, words) if each.startswith(word)})
    except (ValueError, IndexError, OSError, AssayError):
        # a quote that is open, a folder that is not there
        return True
    # Bash replaces what stands behind the last of its word breaks, of which `=` is one unless a user took it out.
    # Hydra's script for zsh does not say which there are, and takes whole words.
    cut = len(word.partition("=")[0]) + 1 if "=" in word and "=" in os.environ.get("COMP_WORDBREAKS", "") else 0
    for each in found:
        say(re.sub(r"([^\w@%+=:,./~\[\]-])", r"\\\1", each[cut:]))
    return True


def folders(typed: str) -> list[str]:
    """The folders that a path, typed so far, may become, with a slash at their ends."""
    parent, name = os.path.split(typed)
    inside = sorted(Path(parent or ".").expanduser().iterdir())
    hidden = name.startswith(".")
    return [
        os.path.join(parent, each.name, "")  # noqa: PTH118 - Path would drop `./` and the slash at the end
        for each in inside
        if each.is_dir() and (hidden or not each.name.startswith("."))
    ]
