"""Shell completion in bash: a bash function calls the command itself to get the completions."""

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
"""Function from the word under the cursor and the words before it, without the command, to the word's completions."""


def answer(name: str, arguments: Sequence[str], complete: Complete) -> bool:
    """Handle ``-sc install=bash`` and ``-sc query=bash``; return False for other arguments.

    Args:
        name: name of the command.
        arguments: its arguments.
        complete: function that returns completions; those that do not begin with the word are dropped.
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
    # Bash replaces the text after the last of its word breaks, of which `=` is one unless a user removed it.
    # Hydra's script for zsh does not pass the word breaks, and expects whole words.
    cut = len(word.partition("=")[0]) + 1 if "=" in word and "=" in os.environ.get("COMP_WORDBREAKS", "") else 0
    for each in found:
        say(re.sub(r"([^\w@%+=:,./~\[\]-])", r"\\\1", each[cut:]))
    return True


def folders(typed: str) -> list[str]:
    """Return the folders that complete a partly typed path, each with a trailing slash."""
    parent, name = os.path.split(typed)
    inside = sorted(Path(parent or ".").expanduser().iterdir())
    hidden = name.startswith(".")
    return [
        os.path.join(parent, each.name, "")  # noqa: PTH118 - Path would drop `./` and the slash at the end
        for each in inside
        if each.is_dir() and (hidden or not each.name.startswith("."))
    ]
