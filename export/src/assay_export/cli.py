"""The command `assay-export`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from assay_deploy.bundle.manifest import PRECISIONS
from assay_deploy.errors import AssayError
from assay_deploy.predict import BATCH
from assay_export import triton
from assay_export.errors import ExportError
from assay_export.export import Exported, export_bundle
from assay_export.formats.registry import FORMATS, USUAL
from assay_export.gate import table as report
from assay_export.gate.verdict import DOES_NOT_RUN, TASK, TENSORS, ParityError
from assay_research.errors import nearest
from assay_research.runs.run import Run

EXIT_CODES = {TENSORS: 3, TASK: 4, DOES_NOT_RUN: 5}
"""Where artifacts fail the gate, by the worst kind of failure, whose code is the highest; 1 is all else."""

LAYOUTS = ("bundle", "triton")

HELP = f"""\
Turn a run into a bundle whose every artifact is proven to be the model.

usage: assay-export [run=<folder>] [formats=...] [precisions=...] [dense=<pixels>] [layout=triton] [all=true]
                    [bundles=<folder>] [name=<name>] [checkpoint=<checkpoint>] [runs=<folder>] [data.root=<folder>]

  run         the run's folder; by default the newest one in `runs`
  formats     of {", ".join(FORMATS)}, with commas between them (default
              {",".join(USUAL)}). aoti packages are compiled, for this kind of machine; they need a C++
              compiler, and aoti-cuda a GPU
  precisions  of the ONNX graphs: fp32 (the default), and with it fp16, which is proven on a GPU or not made, and of
              classifiers int8. A precision that costs too much accuracy is left out, and parity.html says so
  dense       of a VGG-style classifier also its fully convolutional form, for larger pictures of any size: answers
              every 1, 2, 4, 8, 16 or 32 pixels, averaged
  layout      triton: also write a Triton model repository, <bundles>/<name>.triton
  all         true: the newest run of every experiment in `runs`, each in those of the precisions that its task has,
              then one table
  bundles     the folder that holds bundles; by default bundles
  name        of the bundle; by default the experiment's. An older bundle of that name is replaced
  checkpoint  best (the default), last or epoch-0005
  runs        the folder that holds runs; by default runs
  data.root   the data set's folder, if it is not where it was when the run was trained

  assay-export
  assay-export run=runs/digits/2026-01-31_12-00-00 formats=onnx precisions=fp32,int8
  assay-export all=true bundles=zoo

exit code: 0, the bundle is there. An artifact is not the model, so there is no new bundle, and what was made is in
<bundles>/<name>.unproven with parity.html, which says why: {EXIT_CODES[TENSORS]}, its outputs differ on the probe;
{EXIT_CODES[TASK]}, its answers to the test pictures; {EXIT_CODES[DOES_NOT_RUN]}, it does not run. 1, anything else
"""


@dataclass(frozen=True)
class Options:
    """What the command line may say."""

    run: str | None = None
    bundles: str = "bundles"
    name: str | None = None
    checkpoint: str = "best"
    formats: str = ",".join(USUAL)
    precisions: str = "fp32"
    dense: str | None = None
    layout: str = "bundle"
    all: str = "false"
    runs: str = "runs"
    data_root: str | None = None


def parse(arguments: Sequence[str]) -> Options:
    """Read ``key=value`` arguments; the last of a key counts.

    Raises:
        ExportError: no ``key=value``, an unknown key, or a value that is empty or unknown.
    """
    options = Options()
    keys = [field.name.replace("_", ".") for field in fields(Options)]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ExportError(f"expected key=value, got '{argument}'; keys: {', '.join(keys)}. See assay-export --help")
        if key not in keys:
            raise ExportError(f"there is no '{key}'; {nearest(key, keys)}")
        if not value:
            raise ExportError(f"'{argument}' has no value; leave it out for the default")
        options = replace(options, **{key.replace(".", "_"): value})
    for key, known in (("layout", LAYOUTS), ("all", ("true", "false"))):
        if getattr(options, key) not in known:
            raise ExportError(f"{key} must be {' or '.join(known)}, got '{getattr(options, key)}'")
    if options.dense is not None and not options.dense.isdecimal():
        raise ExportError(f"dense={options.dense}: expected a number of pixels, as in dense=8")
    if options.all == "true" and (options.run or options.name or options.data_root):
        raise ExportError("all=true exports every experiment under its own name; leave out run=, name= and data.root=")
    return options


def main() -> None:
    """The command `assay-export`."""
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        _say(HELP)
        return
    try:
        options = parse(arguments)
        formats = _chosen("formats", options.formats, tuple(FORMATS))
        precisions = _chosen("precisions", options.precisions, PRECISIONS)
        if options.layout == "triton" and "onnx" not in formats:
            raise ExportError(f"layout=triton is for ONNX graphs; got formats={','.join(formats)}, add onnx")
        if options.all == "true":
            sys.exit(_export_all(options, formats, precisions))
        run = Run.open(Path(options.run)) if options.run else Run.newest(Path(options.runs))
        _export(run, options, formats, precisions)
    except ParityError as error:
        sys.stderr.write(f"assay-export: {error}\n")
        sys.exit(_code(error))
    except (AssayError, OSError) as error:
        sys.exit(f"assay-export: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-export: interrupted; there is no new bundle")


def _chosen(key: str, value: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """What a list with commas names, once each."""
    chosen = tuple(dict.fromkeys(value.split(",")))
    for each in chosen:
        if each not in known:
            raise ExportError(f"{key}: there is no '{each}'; {nearest(each, known)}")
    return chosen


def _code(error: ParityError) -> int:
    return max(EXIT_CODES[kind] for verdict in error.verdicts for kind in verdict.failures)


def _export(run: Run, options: Options, formats: Sequence[str], precisions: Sequence[str]) -> Exported:
    bundles = Path(options.bundles)
    name = options.name or str(run.config().get("name") or run.folder.resolve().parent.name)
    _say(f"run {run.folder}, checkpoint {options.checkpoint}\n")
    exported = export_bundle(
        run,
        bundles,
        name,
        checkpoint=options.checkpoint,
        formats=formats,
        precisions=precisions,
        dense=int(options.dense) if options.dense else None,
        root=options.data_root,
        skip_unsupported=options.all == "true",
        say=_say,
    )
    expected = exported.manifest.expected[0]
    _say(f"\nEvery artifact against the eager model, on {expected.n:,} pictures of {expected.dataset}:\n\n")
    _say(report.table((*exported.verdicts, *exported.left_out)) + "\n" + report.sizes(exported.folder))
    _say(f"\nmade in {exported.seconds:.1f} s, proven in {exported.gate_seconds:.1f} s\n")
    _say(f"bundle: {exported.folder}, report: {exported.folder / 'parity.html'}\n")
    if options.layout == "triton":
        models = triton.write_repository(
            exported.folder, exported.manifest, bundles / f"{name}.triton", max_batch_size=BATCH
        )
        _say("".join(f"Triton model: {model}\n" for model in models))
    return exported


def _export_all(options: Options, formats: Sequence[str], precisions: Sequence[str]) -> int:
    """Export the newest run of every experiment, whatever happens to the others; the worst exit code."""
    rows: dict[str, report.Row] = {}
    codes = [0]
    runs = Path(options.runs)
    for experiment in sorted({run.parent for run in runs.glob("*/*")}):
        try:
            run = Run.newest(runs, experiment.name)
        except AssayError:
            continue  # no finished epoch yet
        try:
            done = _export(run, replace(options, name=experiment.name), formats, precisions)
            rows[experiment.name] = report.Row(done.verdicts, done.left_out, done.seconds, done.gate_seconds)
        except ParityError as error:
            rows[experiment.name] = report.Row(error.verdicts)
            codes.append(_code(error))
        except (AssayError, OSError) as error:
            rows[experiment.name] = report.Row(error=str(error))
            codes.append(1)
        _say("\n")
    if not rows:
        raise ExportError(f"no finished epoch of any run under '{runs}': train one with `nox -s train`")
    _say(report.matrix(rows))
    return max(codes)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
