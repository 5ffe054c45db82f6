"""List the runs there are, and delete what is asked for by name: `assay-runs list`, `assay-runs prune`."""

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
from assay_research.runs.inventory import Entry, delete, find, remove_empty, spare_checkpoints, superfluous
from assay_research.runs.run import Run
from assay_research.terminal import aligned

DESCRIPTION = """\
List the runs under a folder, newest first, or delete some. Nothing is deleted that was not asked
for by an option, nothing without --yes, and never anything of a run that is training right now.

  assay-runs list
  assay-runs list --json
  assay-runs prune --unfinished                       show what would go
  assay-runs prune --keep-best 1 --checkpoints --yes  delete it
  eval "$(assay-runs -sc install=bash)"               have Tab complete in bash
"""


def table(entries: Sequence[Entry]) -> str:
    """The runs as aligned columns."""

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
        raise ConfigError("say what to delete: --unfinished, --keep-best N or --checkpoints, or several of them")
    entries = find(arguments.runs)
    whole = superfluous(entries, arguments.unfinished, arguments.keep_best)
    doomed: list[tuple[Entry, list[Path] | None]] = [(entry, None) for entry in whole]
    rest = [entry for entry in entries if arguments.checkpoints and entry not in whole]
    doomed += [(entry, spare) for entry in rest if (spare := spare_checkpoints(entry))]
    freed, failed = 0, 0
    for entry, paths in doomed:
        size = entry.bytes if paths is None else sum(path.lstat().st_size for path in paths)
        what = entry.state if paths is None else ", ".join(path.name for path in paths)
        try:
            if arguments.yes:
                delete(Run(Path(entry.path)), paths)
                remove_empty(Path(entry.path).parent, arguments.runs)
        except (CheckpointError, OSError) as error:
            failed += 1
            sys.stderr.write(f"assay-runs: '{entry.path}' stays: {error}\n")
            continue
        freed += size
        sys.stdout.write(f"{readable(size):>9}  {entry.path}  ({what})\n")
    said = "deleted" if arguments.yes else "would be deleted; with --yes it is"
    sys.stdout.write(f"{readable(freed)} {said}\n" if doomed else "nothing to delete\n")
    return 1 if failed else 0


def _complete(word: str, before: Sequence[str]) -> list[str]:
    """What the last word of a command line may become."""
    if before[-1:] == ["--runs"]:
        return completion.folders(word)
    parser, commands = _parser()
    chosen = next((commands[each] for each in before if each in commands), None)
    options = sorted(set(re.findall(r"--[a-z-]+", (chosen or parser).format_help())))
    return options if chosen else [*commands, *options]


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and those of its commands by name."""

    def at_least_one(text: str) -> int:
        if not text.isdigit() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"expected a number of runs, at least 1, got '{text}'")
        return int(text)

    parser = argparse.ArgumentParser(
        "assay-runs", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"assay-runs {__version__}")
    commands = parser.add_subparsers(required=True, metavar="list|prune")
    shown = commands.add_parser("list", help="a line for each run, newest first")
    shown.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    shown.set_defaults(command=_list)
    pruned = commands.add_parser("prune", help="delete what the options name; without --yes, only show it")
    pruned.add_argument("--unfinished", action="store_true", help="runs that have not ended and are not training now")
    pruned.add_argument(
        "--keep-best",
        type=at_least_one,
        metavar="N",
        help="finished runs, but for the N of each experiment with the highest validation accuracy",
    )
    pruned.add_argument(
        "--checkpoints",
        action="store_true",
        help="of finished runs, every checkpoint but best.pt: they can then not be resumed with more epochs",
    )
    pruned.add_argument("--yes", action="store_true", help="delete it")
    pruned.set_defaults(command=_prune)
    for each in (shown, pruned):
        each.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")
    return parser, {"list": shown, "prune": pruned}


def main(argv: Sequence[str] | None = None) -> int:
    """The command `assay-runs`; returns its exit code, 1 where something could not be done."""
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
    except BrokenPipeError:  # the reader, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(main())
