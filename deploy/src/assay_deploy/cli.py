"""The command line `assay-deploy`: predictions go to stdout, messages to stderr; the exit code gives the outcome."""

import argparse
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from assay_deploy._version import __version__
from assay_deploy.bundle.folder import read_manifest
from assay_deploy.bundle.manifest import PRECISIONS
from assay_deploy.doctor import examine, render
from assay_deploy.engines.engine import PROVIDERS
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.registry import DEFAULT, ENGINES
from assay_deploy.errors import AssayError
from assay_deploy.images.find import find_images
from assay_deploy.predict import BATCH, predict
from assay_deploy.tasks.options import Option, option_values, positive
from assay_deploy.tasks.registry import TASKS
from assay_deploy.tasks.result import Unreadable, line_formatter
from assay_deploy.tasks.task import Task

T = TypeVar("T")

PREDICT_HELP = """\
Run the bundle's model on images and print its predictions on stdout, in the order of the images, as columns separated
by tabs. A classifier prints one line per image: path, label and confidence. A detector prints one line per object:
path, label, score and its box (left, top, right and bottom, in pixels of the original image); an image without objects
has no line. With --json, every image has one line.

A folder stands for all images in it and its subfolders. Quote a glob to let this program expand it; ** is supported:

  assay-deploy predict bundles/tinyvgg_a photo.jpg
  assay-deploy predict bundles/tinyvgg_a photos/ --tta --top 3
  assay-deploy predict bundles/diatoms slides/ --score 0.3
  assay-deploy predict bundles/tinyvgg_a 'photos/**/*.png' --json > predictions.jsonl
  assay-deploy predict bundles/tinyvgg_a photos/ | cut -f 2 | sort | uniq -c
"""

PREDICT_CODES = """\
exit codes: 0 every image was read; 1 some images could not be read: they are listed on stderr, the others are
predicted; 2 nothing was predicted: wrong usage, no image found, invalid bundle, or the engine cannot run as requested
"""

DOCTOR_HELP = """\
Describe a bundle, verify the hash of every file, show on which device each graph runs, compare each graph's outputs
on the probe images with the recorded ones, and list the problems with their fixes.

  assay-deploy doctor bundles/tinyvgg_a
  assay-deploy doctor bundles/tinyvgg_a --provider cuda --json
  assay-deploy doctor bundles/tinyvgg_a --engine openvino
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="assay-deploy: %(message)s", level="INFO" if arguments.verbose else arguments.level)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # problems of an image are reported by ImageError
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names are bytes, printed unchanged
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except AssayError as error:
        sys.stderr.write(f"assay-deploy: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("assay-deploy: interrupted\n")
        return 130
    except OSError as error:  # from stdout: failures of other files are AssayErrors
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        if isinstance(error, BrokenPipeError):
            return 141  # as after SIGPIPE: the reader, such as `head`, has closed the pipe
        sys.stderr.write(f"assay-deploy: cannot write the output ({error.strerror})\n")
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay-deploy", description="Run a proven bundle with ONNX Runtime or OpenVINO, without torch."
    )
    parser.add_argument("--version", action="version", version=f"assay-deploy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    predicting = commands.add_parser(
        "predict",
        parents=[_common()],
        help="classify images, or find objects in them",
        description=PREDICT_HELP,
        epilog=PREDICT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predicting.add_argument("images", nargs="+", help="image files, folders or quoted globs")
    predicting.add_argument(
        "--tta", action="store_true", help="test-time augmentation: average or fuse the predictions of all views"
    )
    predicting.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="numeric precision of the graph (default fp32)"
    )
    for name, option in _task_options().items():
        parse = partial(_parsed, option.parse)
        predicting.add_argument(f"--{name}", dest=name, type=parse, metavar=option.metavar, help=option.help_text)
    batch = partial(_parsed, positive)
    predicting.add_argument(
        "--batch", type=batch, default=BATCH, metavar="N", help=f"images per batch (default {BATCH})"
    )
    predicting.set_defaults(command=_predict, level="WARNING")

    examining = commands.add_parser(
        "doctor",
        parents=[_common()],
        help="check a bundle and the engine on this machine",
        description=DOCTOR_HELP,
        epilog="exit codes: 0 no problems; 1 problems were found; 2 wrong usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    examining.set_defaults(command=_doctor, level="ERROR")  # the report contains the warnings
    return parser


def _common() -> argparse.ArgumentParser:
    """Arguments of both commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("bundle", type=Path, help="bundle folder written by assay-export")
    common.add_argument("--engine", choices=ENGINES, default=DEFAULT, help=f"inference engine (default {DEFAULT})")
    common.add_argument(
        "--provider",
        choices=PROVIDERS,
        default="auto",
        help="auto (default): CUDA if it works, else the CPU; cuda: fail if CUDA does not work",
    )
    common.add_argument(
        "--allow-fallback",
        action="store_true",
        help="with --provider cuda: accept compute nodes that the engine places on the CPU",
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("-v", "--verbose", action="store_true", help="print the device of each graph on stderr")
    return common


def _task_options() -> dict[str, Option]:
    """Options of all tasks, by name."""
    return {option.name: option for task in TASKS.values() for option in task.options}


def _parsed(parse: Callable[[str], T], text: str) -> T:
    """Parse an argument for argparse, which hides the message of a ValueError."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _predict(arguments: argparse.Namespace) -> int:
    bundle: Path = arguments.bundle
    manifest = read_manifest(bundle)
    task = TASKS[manifest.task]
    given = {name: getattr(arguments, name) for name in _task_options()}
    _reject_foreign_options(given, task, bundle)
    artifact = manifest.artifact("onnx", tta=arguments.tta, precision=arguments.precision)
    paths = find_images(arguments.images)
    session = ENGINES[arguments.engine].load(
        bundle,
        manifest,
        artifact,
        provider=arguments.provider,
        threads=max(available_cores() // len(paths), 1),  # cores that one image cannot use run other images
        allow_fallback=arguments.allow_fallback,
    )
    options = option_values(task.options, given, as_json=arguments.json)
    line = line_formatter(task, options, as_json=arguments.json)
    failed = 0
    results, report = _with_bar(predict(session, manifest, paths, batch=arguments.batch), len(paths))
    for result in results:
        if isinstance(result, Unreadable):
            failed += 1
            report(f"assay-deploy: {result.error}\n")
        sys.stdout.write(line(result))
    if failed:
        sys.stderr.write(f"assay-deploy: {failed} of {len(paths)} images could not be read\n")
    return 1 if failed else 0


def _reject_foreign_options(given: Mapping[str, Any], task: Task[Any], bundle: Path) -> None:
    """Raise AssayError if an option of another task was given."""
    own = [option.name for option in task.options]
    foreign = [f"--{name}" for name, value in given.items() if value is not None and name not in own]
    if foreign:
        instead = f". Its own options: {', '.join(f'--{name}' for name in own)}" if own else ""
        raise AssayError(f"{bundle} contains a {task.model_kind}, which does not take {' or '.join(foreign)}{instead}")


def _with_bar(results: Iterator[T], total: int) -> tuple[Iterable[T], Callable[[str], object]]:
    """Add a progress bar on stderr to an iterator of results.

    There is no bar if stderr is not a terminal, or if stdout is one too: then the printed lines show the progress.

    Args:
        results: the results to iterate over.
        total: number of results.

    Returns:
        The results, and a function that writes text to stderr without breaking the bar.
    """
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return results, sys.stderr.write
    from tqdm import tqdm  # importing it takes as long as predicting a few hundred small images

    bar = tqdm(results, total=total, unit=" images", leave=False)
    return bar, partial(bar.write, file=sys.stderr, end="")


def _doctor(arguments: argparse.Namespace) -> int:
    report = examine(
        arguments.bundle,
        engine=arguments.engine,
        provider=arguments.provider,
        allow_fallback=arguments.allow_fallback,
    )
    sys.stdout.write(json.dumps(report) + "\n" if arguments.json else render(report))
    return 1 if report["problems"] else 0
