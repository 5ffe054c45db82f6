"""The command `assay-export`: options, exit codes and output."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from assay_deploy.bundle.manifest import PRECISIONS
from assay_deploy.engines.registry import DEFAULT, ENGINES
from assay_deploy.errors import AssayError
from assay_export._version import __version__
from assay_export.errors import ExportError
from assay_export.formats.names import DEFAULT_FORMATS, NAMES
from assay_research.config.commandline import Command
from assay_research.config.option import option
from assay_research.config.schema import MOVED, NEWEST, RUNS
from assay_research.terminal import say

if TYPE_CHECKING:
    from assay_export.export import Exported
    from assay_export.gate.verdict import ParityError
    from assay_research.runs.run import Run

# Torch takes seconds to import, and help, errors and completion do not need it: functions import it where they use it.

OUTPUTS_DIFFER, ANSWERS_DIFFER, DOES_NOT_RUN = 3, 4, 5
"""Exit codes for artifacts that fail the gate: the highest one of all failures. Any other error gives 1."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of the command line."""

    run: str | None = option(None, NEWEST, folder=True)
    formats: list[str] = option(
        DEFAULT_FORMATS,
        "aoti packages are compiled for this kind of machine and need a C++ compiler; aoti-cuda also needs a GPU",
        choices=NAMES,
    )
    precisions: list[str] = option(
        ("fp32",),
        "Precisions of the ONNX graphs; must include fp32. fp16 needs a GPU, int8 is for classifiers. A precision "
        "that loses too much accuracy is left out of the bundle and listed in parity.html",
        choices=PRECISIONS,
    )
    engines: list[str] = option(
        tuple(ENGINES),
        "Engines that test the ONNX graphs, if installed; must include onnxruntime, the default engine",
        choices=tuple(ENGINES),
    )
    dense: int | None = option(
        None,
        "stride in pixels (1, 2, 4, 8, 16 or 32): also export a VGG-style classifier as a fully convolutional graph, "
        "which takes larger images of any size and averages its predictions over positions this far apart",
        example="8",
    )
    layout: str = option(
        "bundle",
        "triton: also write a Triton model repository, <bundles>/<name>.triton",
        choices=("bundle", "triton"),
    )
    all: bool = option(
        False,
        "true: export the newest run of every experiment in `runs`, each with the precisions that its task supports, "
        "and print one table",
        choices=("true", "false"),
    )
    bundles: str = option("bundles", "the folder that holds bundles", folder=True)
    name: str | None = option(
        None, "name of the bundle; default: the experiment's name. An older bundle of that name is replaced"
    )
    checkpoint: str = option("best", "best, last or epoch-0005", common=("best", "last"))
    runs: str = option("runs", RUNS, folder=True)
    data_root: str | None = option(None, MOVED, key="data.root", folder=True)


COMMAND = Command(
    "assay-export",
    __version__,
    ExportOptions,
    about="Export a run as a bundle, and prove that every artifact agrees with the trained model.",
    examples=(
        ("assay-export", "the newest run"),
        ("assay-export run=runs/digits/<time> formats=onnx precisions=fp32,int8", ""),
        ("assay-export all=true bundles=zoo", "every experiment"),
    ),
    notes=f"""
        Exit code: 0, the bundle was written. If an artifact differs from the model, there is no new bundle; its files
        are in <bundles>/<name>.unproven, and parity.html there gives the reason. {OUTPUTS_DIFFER}: its outputs differ
        on the probe images; {ANSWERS_DIFFER}: its predictions on the test images differ; {DOES_NOT_RUN}: it does not
        run. 1: any other error.
    """,
)


def parse(arguments: Sequence[str]) -> ExportOptions:
    """Parse ``key=value`` arguments; if a key is given twice, the last value counts.

    Raises:
        ConfigError: an argument is not ``key=value``, or its key or value is unknown.
        ExportError: two options cannot be combined.
    """
    options = COMMAND.read(arguments)
    if options.all and (options.run or options.name or options.data_root):
        raise ExportError("all=true exports every experiment under its own name; leave out run=, name= and data.root=")
    if DEFAULT not in options.engines:
        raise ExportError(f"engines must include {DEFAULT}; got {','.join(options.engines)}")
    if options.layout == "triton" and "onnx" not in options.formats:
        raise ExportError(f"layout=triton is for ONNX graphs; got formats={','.join(options.formats)}, add onnx")
    return options


def main() -> None:
    """Run the command `assay-export`."""
    arguments = sys.argv[1:]
    if COMMAND.answer(arguments):
        return
    try:
        options = parse(arguments)
        sys.exit(_export_all(options) if options.all else _export_one(options))
    except (AssayError, OSError) as error:
        sys.exit(f"assay-export: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-export: interrupted; no new bundle was written")


def _code(error: "ParityError") -> int:
    from assay_export.gate import verdict as kinds

    codes = {kinds.TENSORS: OUTPUTS_DIFFER, kinds.TASK: ANSWERS_DIFFER, kinds.DOES_NOT_RUN: DOES_NOT_RUN}
    return max(codes[kind] for verdict in error.verdicts for kind in verdict.failures)


def _export_one(options: ExportOptions) -> int:
    """Export one run; return the exit code."""
    from assay_export.gate.verdict import ParityError
    from assay_research.runs.run import Run

    try:
        _export(Run.open(Path(options.run)) if options.run else Run.newest(Path(options.runs)), options)
    except ParityError as error:
        sys.stderr.write(f"assay-export: {error}\n")
        return _code(error)
    return 0


def _export(run: "Run", options: ExportOptions) -> "Exported":
    from assay_deploy.predict import BATCH
    from assay_export import triton
    from assay_export.export import export_bundle
    from assay_export.gate import table

    bundles = Path(options.bundles)
    name = options.name or str(run.config().get("name") or run.folder.resolve().parent.name)
    say(f"run {run.folder}, checkpoint {options.checkpoint}")
    exported = export_bundle(
        run,
        bundles,
        name,
        checkpoint=options.checkpoint,
        formats=options.formats,
        precisions=options.precisions,
        engines=options.engines,
        dense=options.dense,
        root=options.data_root,
        skip_unsupported=options.all,
        say=partial(say, end=""),
    )
    expected = exported.manifest.expected[0]
    say(f"\nEvery artifact compared with the eager model on {expected.n:,} images of {expected.dataset}:\n")
    say(table.table((*exported.verdicts, *exported.left_out)) + "\n" + table.sizes(exported.folder), end="")
    say(f"\nexported in {exported.seconds:.1f} s, proven in {exported.gate_seconds:.1f} s")
    say(f"bundle: {exported.folder}, report: {exported.folder / 'parity.html'}")
    if options.layout == "triton":
        models = triton.write_repository(
            exported.folder, exported.manifest, bundles / f"{name}.triton", max_batch_size=BATCH
        )
        for model in models:
            say(f"Triton model: {model}")
    return exported


def _export_all(options: ExportOptions) -> int:
    """Export the newest run of every experiment, also after failures; return the highest exit code."""
    from assay_export.gate import table
    from assay_export.gate.verdict import ParityError
    from assay_research.runs.run import Run

    rows: dict[str, table.ModelRow] = {}
    codes = [0]
    runs = Path(options.runs)
    for experiment in sorted({run.parent for run in runs.glob("*/*")}):
        try:
            run = Run.newest(runs, experiment.name)
        except AssayError:
            continue  # no finished epoch yet
        try:
            done = _export(run, replace(options, name=experiment.name))
            rows[experiment.name] = table.ModelRow(done.verdicts, done.left_out, done.seconds, done.gate_seconds)
        except ParityError as error:
            rows[experiment.name] = table.ModelRow(error.verdicts)
            codes.append(_code(error))
        except (AssayError, OSError) as error:
            rows[experiment.name] = table.ModelRow(error=str(error))
            codes.append(1)
        say("")
    if not rows:
        raise ExportError(f"no finished epoch of any run under '{runs}': train one with `nox -s train`")
    say(table.matrix(rows), end="")
    return max(codes)


if __name__ == "__main__":
    main()
