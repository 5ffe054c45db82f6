"""Commands `assay-runs list` and `assay-runs prune`: list runs, and delete selected ones."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from assay_deploy.errors import AssayError
from assay_research._version import __version__
from assay_research.config import completion
from assay_research.errors import CheckpointError, ConfigError
from assay_research.runs.disk import readable
from assay_research.runs.inventory import Entry, checkpoints_to_delete, delete, find, remove_empty, runs_to_delete
from assay_research.runs.run import Run
from assay_research.terminal import aligned

DESCRIPTION = """\
List the runs under a folder, newest first, or delete some. Only what an option selects is deleted,
only with --yes, and never a run that is being trained.

  assay-runs list
  assay-runs list --json
  assay-runs prune --unfinished                       show what would be deleted
  assay-runs prune --keep-best 1 --checkpoints --yes  delete
  eval "$(assay-runs -sc install=bash)"               enable Tab completion in bash
"""


def table(entries: Sequence[Entry]) -> str:
    """Format the runs as a table with aligned columns."""

    def score(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    rows = [("run", "data", "epochs", "val", "test", "size", "state")]
    for entry in entries:
        epochs = f"{entry.epochs}/{entry.planned or '?'}"
        scores = (score(entry.best_val), score(entry.test))
        rows.append((entry.path, entry.data, epochs, *scores, readable(entry.bytes), entry.state))
    return aligned(rows, right=range(2, 6))


def _list(arguments: argparse.Namespace) -> int:
    entries = find(arguments.runs)
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(entry) for entry in entries], indent=2) + "\n")
    elif entries:
        total = readable(sum(entry.bytes for entry in entries))
        sys.stdout.write(f"{table(entries)}{len(entries)} runs, {total}\n")
    else:
        sys.stdout.write(f"no runs in '{arguments.runs}'\n")
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    if not (arguments.unfinished or arguments.keep_best or arguments.checkpoints):
        raise ConfigError("nothing selected: give one or more of --unfinished, --keep-best N and --checkpoints")
    entries = find(arguments.runs)
    whole = runs_to_delete(entries, arguments.unfinished, arguments.keep_best)
    selected: list[tuple[Entry, list[Path] | None]] = [(entry, None) for entry in whole]
    rest = [entry for entry in entries if arguments.checkpoints and entry not in whole]
    selected += [(entry, checkpoints) for entry in rest if (checkpoints := checkpoints_to_delete(entry))]
    freed, failed = 0, 0
    for entry, paths in selected:
        size = entry.bytes if paths is None else sum(path.lstat().st_size for path in paths)
        detail = entry.state if paths is None else ", ".join(path.name for path in paths)
        try:
            if arguments.yes:
                delete(Run(Path(entry.path)), paths)
                remove_empty(Path(entry.path).parent, arguments.runs)
        except (CheckpointError, OSError) as error:
            failed += 1
            sys.stderr.write(f"assay-runs: '{entry.path}' was not deleted: {error}\n")
            continue
        freed += size
        sys.stdout.write(f"{readable(size):>9}  {entry.path}  ({detail})\n")
    result = "deleted" if arguments.yes else "would be deleted; to delete, add --yes"
    sys.stdout.write(f"{readable(freed)} {result}\n" if selected else "nothing to delete\n")
    return 1 if failed else 0


def _complete(word: str, before: Sequence[str]) -> list[str]:
    """Return the completions of the last word of a command line."""
    if before[-1:] == ["--runs"]:
        return completion.folders(word)
    parser, commands = _parser()
    chosen = next((commands[each] for each in before if each in commands), None)
    options = sorted(set(re.findall(r"--[a-z-]+", (chosen or parser).format_help())))
    return options if chosen else [*commands, *options]


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Build the parser; return it and the parsers of its subcommands by name."""

    def at_least_one(text: str) -> int:
        if not text.isdigit() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"expected a number of runs, at least 1, got '{text}'")
        return int(text)

    parser = argparse.ArgumentParser(
        "assay-runs", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"assay-runs {__version__}")
    commands = parser.add_subparsers(required=True, metavar="list|prune")
    shown = commands.add_parser("list", help="list the runs, one line each, newest first")
    shown.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shown.set_defaults(command=_list)
    pruned = commands.add_parser("prune", help="delete what the options select; without --yes, only show it")
    pruned.add_argument("--unfinished", action="store_true", help="runs that have not ended and are not being trained")
    pruned.add_argument(
        "--keep-best",
        type=at_least_one,
        metavar="N",
        help="finished runs, except the N of each experiment with the highest validation score",
    )
    pruned.add_argument(
        "--checkpoints",
        action="store_true",
        help="checkpoints of finished runs, except best.pt: such runs cannot be resumed with more epochs any more",
    )
    pruned.add_argument("--yes", action="store_true", help="delete; without it, only show what would be deleted")
    pruned.set_defaults(command=_prune)
    for each in (shown, pruned):
        each.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")
    return parser, {"list": shown, "prune": pruned}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `assay-runs` and return its exit code: 0, 1 after an error, 141 after a broken pipe."""
    typed = sys.argv[1:] if argv is None else argv
    if completion.answer("assay-runs", typed, _complete):
        return 0
    arguments = _parser()[0].parse_args(typed)
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except AssayError as error:
        sys.stderr.write(f"assay-runs: {error}\n")
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(main())
