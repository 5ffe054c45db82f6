"""List the runs there are, and delete what is asked for by name: `assay-runs list`, `assay-runs prune`."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from assay_research.disk import readable
from assay_research.errors import AssayError, CheckpointError, ConfigError
from assay_research.metrics import metric_of
from assay_research.run import CHECKPOINTS, CONFIG, METRICS, Run

FINISHED, UNFINISHED, RUNNING = "finished", "unfinished", "running"

DESCRIPTION = """\
List the runs under a folder, newest first, or delete some. Nothing is deleted that was not asked for by an option,
nothing without --yes, and never anything of a run that is training right now.

  assay-runs list
  assay-runs list --json
  assay-runs prune --unfinished                       show what would go
  assay-runs prune --keep-best 1 --checkpoints --yes  delete it
"""


@dataclass(frozen=True)
class Entry:
    """What is known of a run from its files.

    Attributes:
        path: of its folder.
        name: of the experiment; "" where its config cannot be read.
        data: name of the data set.
        epochs: done.
        planned: epochs its config asks for.
        best_val: highest top-1 or mAP over the epochs that are done; None before the first.
        test: score of the finished run, top-1 or mAP.
        bytes: on disk.
        state: finished, unfinished or running.
        written: when its config was, seconds since 1970.
    """

    path: str
    name: str
    data: str
    epochs: int
    planned: int | None
    best_val: float | None
    test: float | None
    bytes: int
    state: str
    written: float


def find(runs: Path) -> list[Entry]:
    """All runs at any depth under a folder, newest first; symbolic links are not followed.

    Raises:
        CheckpointError: there is no such folder.
    """
    if not runs.is_dir():
        raise CheckpointError(f"no folder '{runs}': expected the one that trainings write to, `runs` by default")
    entries = []
    for place, folders, files in os.walk(runs):
        checkpoints = Path(place, CHECKPOINTS)
        if CONFIG in files and checkpoints.is_dir() and not checkpoints.is_symlink():
            folders.clear()
            entries.append(examine(Run(Path(place))))
    return sorted(entries, key=lambda entry: (entry.written, entry.path), reverse=True)


def examine(run: Run) -> Entry:
    """What one run's files say; a damaged one counts as not there."""
    try:
        config: Any = OmegaConf.to_container(run.config())
    except ConfigError:
        config = {}
    try:
        summary = run.summary()
    except CheckpointError:
        summary = {}
    scores = _validation_scores(run.folder / METRICS)
    # A run that is given more epochs keeps its old summary until it has ended again.
    ended = summary.get("epochs") == len(scores)
    return Entry(
        path=str(run.folder),
        name=str(config.get("name") or ""),
        data=str(summary.get("dataset") or _data_name(config.get("data"))),
        epochs=len(scores),
        planned=config.get("epochs"),
        best_val=max((score for score in scores if score is not None), default=None),
        test=_score(summary.get(metric_of(summary).scores[0])) if ended else None,
        bytes=sum(path.lstat().st_size for path in _files(run.folder)),
        state=RUNNING if _is_running(run) else FINISHED if ended else UNFINISHED,
        written=(run.folder / CONFIG).lstat().st_mtime,
    )


def _validation_scores(path: Path) -> list[float | None]:
    try:
        records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [_score(record[metric_of(record).val]) for record in records]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _score(value: object) -> float | None:
    return value if isinstance(value, float) else None


def _data_name(data: object) -> str:
    """``photos`` of a folder of pictures, ``digits`` of the builder in data/digits.py."""
    if not isinstance(data, dict):
        return "?"
    root = data.get("root") if str(data.get("_target_")).endswith("image_folder.load") else None
    return data.get("name") or (Path(str(root)).name if root else str(data.get("_target_", "?")).split(".")[-2:][0])


def _files(folder: Path) -> Iterator[Path]:
    return (Path(place, name) for place, _, names in os.walk(folder) for name in names)


def _is_running(run: Run) -> bool:
    if not (run.folder / ".lock").is_file():
        return False
    try:
        with run.lock():
            return False
    except CheckpointError:
        return True
    except OSError:  # another user's
        return False


def superfluous(entries: Sequence[Entry], unfinished: bool, keep_best: int | None) -> list[Entry]:
    """The runs that may go as a whole.

    Args:
        entries: all of them; newest first, so that of equals the newer stays.
        unfinished: those that have not ended.
        keep_best: of each experiment's finished runs, all but this many with the highest validation accuracy.
    """
    gone = [entry for entry in entries if unfinished and entry.state == UNFINISHED]
    by_experiment: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.state == FINISHED:
            by_experiment.setdefault(entry.name, []).append(entry)
    for group in by_experiment.values() if keep_best else ():
        gone += sorted(group, key=lambda entry: -(entry.best_val or 0))[keep_best:]
    return gone


def spare_checkpoints(entry: Entry) -> list[Path]:
    """A finished run's checkpoints but for `best.pt`, without which it would be no result; [] of any other run."""
    found = sorted(Path(entry.path, CHECKPOINTS).glob("*.pt*"))
    if entry.state != FINISHED or not any(path.name == "best.pt" for path in found):
        return []
    return [path for path in found if path.name != "best.pt"]


def delete(run: Run, checkpoints: Sequence[Path] | None = None) -> None:
    """Delete a run or some of its checkpoints, while nobody can train it.

    Raises:
        CheckpointError: it is training right now.
        OSError: something cannot be deleted.
    """
    with run.lock():
        for path in checkpoints if checkpoints is not None else run.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()
    if checkpoints is None:
        (run.folder / ".lock").unlink(missing_ok=True)
        run.folder.rmdir()


def _remove_empty(experiment: Path, runs: Path) -> None:
    if runs in experiment.parents:
        with suppress(OSError):  # it holds other runs
            experiment.rmdir()


def table(entries: Sequence[Entry]) -> str:
    """The runs as aligned columns."""

    def score(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    rows = [("run", "data", "epochs", "val", "test", "size", "state")]
    for entry in entries:
        epochs = f"{entry.epochs}/{entry.planned or '?'}"
        scores = (score(entry.best_val), score(entry.test))
        rows.append((entry.path, entry.data, epochs, *scores, readable(entry.bytes), entry.state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = "<<>>>><"
    lines = ("  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, aligned, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


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
                _remove_empty(Path(entry.path).parent, arguments.runs)
        except (CheckpointError, OSError) as error:
            failed += 1
            sys.stderr.write(f"assay-runs: '{entry.path}' stays: {error}\n")
            continue
        freed += size
        sys.stdout.write(f"{readable(size):>9}  {entry.path}  ({what})\n")
    said = "deleted" if arguments.yes else "would be deleted; with --yes it is"
    sys.stdout.write(f"{readable(freed)} {said}\n" if doomed else "nothing to delete\n")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    def at_least_one(text: str) -> int:
        if not text.isdigit() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"expected a number of runs, at least 1, got '{text}'")
        return int(text)

    parser = argparse.ArgumentParser(
        "assay-runs", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command `assay-runs`; returns its exit code, 1 where something could not be done."""
    arguments = _parser().parse_args(argv)
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
