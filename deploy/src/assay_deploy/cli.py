"""The command line: predictions on stdout, everything else on stderr, and an exit code that tells."""

import argparse
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from assay_deploy import __version__
from assay_deploy.bundle.folder import read_manifest
from assay_deploy.bundle.manifest import DETECTION, PRECISIONS
from assay_deploy.doctor import examine, render
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.session import PROVIDERS, Session
from assay_deploy.errors import AssayError
from assay_deploy.pictures.find import find_pictures
from assay_deploy.predict import BATCH, predict
from assay_deploy.tasks.classification import _json, _text
from assay_deploy.tasks.detection import _boxes_json, _boxes_text
from assay_deploy.tasks.result import Unreadable

T = TypeVar("T")

PREDICT_HELP = """\
Say on stdout, in the order given, what the bundle's model makes of pictures, in columns separated by tabs. A
classifier: a line a picture, path, label and confidence. A detector: a line an object, path, label, score and its box,
left, top, right and bottom in the picture's own pixels; a picture without objects has no line, but with --json it has.

A folder stands for all pictures under it. Quote a glob to have it expanded here, ** included:

  assay-deploy predict bundles/tinyvgg_a photo.jpg
  assay-deploy predict bundles/tinyvgg_a photos/ --tta --top 3
  assay-deploy predict bundles/diatoms slides/ --score 0.3
  assay-deploy predict bundles/tinyvgg_a 'photos/**/*.png' --json > predictions.jsonl
  assay-deploy predict bundles/tinyvgg_a photos/ | cut -f 2 | sort | uniq -c
"""

PREDICT_CODES = """\
exit codes: 0 every picture was read; 1 some were not, each is named on stderr and the others are predicted;
2 nothing was predicted: wrong usage, no picture found, the bundle was refused, or ONNX Runtime cannot run as asked
"""

DOCTOR_HELP = """\
Say what a bundle is, check every file of it, show where each graph would run, replay its probe, and name what is
wrong and what to do about it.

  assay-deploy doctor bundles/tinyvgg_a
  assay-deploy doctor bundles/tinyvgg_a --provider cuda --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="assay-deploy: %(message)s", level="INFO" if arguments.verbose else arguments.level)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with a picture is in its PictureError
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names are bytes: they come out as they went in
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
    except OSError as error:  # of stdout: whatever else is opened, its failure is an AssayError
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        if isinstance(error, BrokenPipeError):
            return 141  # as if SIGPIPE had ended us: the reader, `head` say, has enough
        sys.stderr.write(f"assay-deploy: cannot write the output ({error.strerror})\n")
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay-deploy", description="Run a proven bundle with ONNX Runtime, without torch."
    )
    parser.add_argument("--version", action="version", version=f"assay-deploy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    predicting = commands.add_parser(
        "predict",
        parents=[_common()],
        help="classify pictures, or find objects in them",
        description=PREDICT_HELP,
        epilog=PREDICT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predicting.add_argument("pictures", nargs="+", help="files, folders or quoted globs")
    predicting.add_argument("--tta", action="store_true", help="average or fuse the bundle's views of each picture")
    predicting.add_argument("--precision", choices=PRECISIONS, default="fp32", help="which graph (default fp32)")
    predicting.add_argument(
        "--top", type=_positive, metavar="K", help="of a classifier: classes shown, default 1, with --json 5"
    )
    predicting.add_argument(
        "--score", type=_fraction, metavar="S", help="of a detector: least score of what is shown, default 0.5"
    )
    predicting.add_argument("--batch", type=_positive, default=BATCH, metavar="N", help="pictures run at once")
    predicting.set_defaults(command=_predict, level="WARNING")

    examining = commands.add_parser(
        "doctor",
        parents=[_common()],
        help="what would run where, and what is wrong",
        description=DOCTOR_HELP,
        epilog="exit codes: 0 nothing is wrong; 1 something is; 2 wrong usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    examining.set_defaults(command=_doctor, level="ERROR")  # what would be warned of is in the report
    return parser


def _common() -> argparse.ArgumentParser:
    """What both commands take."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("bundle", type=Path, help="folder that assay-export made")
    common.add_argument(
        "--provider",
        choices=PROVIDERS,
        default="auto",
        help="auto (default): CUDA where it works, else the CPU; cuda: an error where it does not work",
    )
    common.add_argument(
        "--allow-fallback",
        action="store_true",
        help="with --provider cuda: accept compute nodes that ONNX Runtime places on the CPU",
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("-v", "--verbose", action="store_true", help="say on stderr what runs where")
    return common


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def _predict(arguments: argparse.Namespace) -> int:
    bundle: Path = arguments.bundle
    manifest = read_manifest(bundle)
    detects = manifest.task == DETECTION
    if (arguments.top if detects else arguments.score) is not None:
        raise AssayError(
            f"{bundle} holds a {'detector' if detects else 'classifier'}, which has no "
            f"{'--top; --score' if detects else '--score; --top'} says what of its answer is shown"
        )
    artifact = manifest.artifact("onnx", tta=arguments.tta, precision=arguments.precision)
    paths = find_pictures(arguments.pictures)
    session = Session.load(
        bundle,
        manifest,
        artifact,
        provider=arguments.provider,
        threads=max(available_cores() // len(paths), 1),  # what one picture cannot use, others do
        allow_fallback=arguments.allow_fallback,
    )
    say: Callable[[Any], str]
    if detects:
        least = 0.5 if arguments.score is None else arguments.score
        say = partial(_boxes_json if arguments.json else _boxes_text, least=least)
    else:
        top = arguments.top or (5 if arguments.json else 1)
        say = partial(_json if arguments.json else _text, manifest=manifest, top=top)
    failed = 0
    results, report = _with_bar(predict(session, manifest, paths, batch=arguments.batch), len(paths))
    for result in results:
        if isinstance(result, Unreadable):
            failed += 1
            report(f"assay-deploy: {result.error}\n")
        sys.stdout.write(say(result))
    if failed:
        sys.stderr.write(f"assay-deploy: {failed} of {len(paths)} pictures could not be read\n")
    return 1 if failed else 0


def _with_bar(results: Iterator[T], total: int) -> tuple[Iterable[T], Callable[[str], object]]:
    """Results that move a progress bar on stderr, and a way to write there without breaking it.

    There is none if stderr is no terminal, or if stdout is one too: the lines scroll by and are progress enough.
    """
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return results, sys.stderr.write
    from tqdm import tqdm  # takes as long to import as some hundred small pictures to predict

    bar = tqdm(results, total=total, unit=" pictures", leave=False)
    return bar, partial(bar.write, file=sys.stderr, end="")


def _doctor(arguments: argparse.Namespace) -> int:
    report = examine(arguments.bundle, provider=arguments.provider, allow_fallback=arguments.allow_fallback)
    sys.stdout.write(json.dumps(report) + "\n" if arguments.json else render(report))
    return 1 if report["problems"] else 0
