"""The command `assay-export`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from assay_deploy.errors import AssayError
from assay_export import report
from assay_export.bundle import export_bundle
from assay_export.errors import ExportError, ParityError
from assay_research.config import nearest
from assay_research.errors import AssayError as ResearchError
from assay_research.run import Run

NOT_THE_MODEL = 3
"""Exit code where an artifact fails the gate; 1 is everything else that is wrong."""

HELP = f"""\
Turn a run into a bundle whose every artifact is proven to be the model.

usage: assay-export [run=<folder>] [bundles=<folder>] [name=<name>] [checkpoint=<checkpoint>]

  run         the run's folder; by default the newest one under runs/
  bundles     the folder that holds bundles; by default bundles
  name        of the bundle; by default the experiment's. An older bundle of that name is replaced
  checkpoint  best (the default), last or epoch-0005

exit code: 0, the bundle is there; {NOT_THE_MODEL}, an artifact is not the model, so there is no new bundle, and what
was made is in <bundles>/<name>.unproven with parity.json, which says why; 1, anything else
"""


@dataclass(frozen=True)
class Options:
    """What the command line may say."""

    run: str | None = None
    bundles: str = "bundles"
    name: str | None = None
    checkpoint: str = "best"


def parse(arguments: Sequence[str]) -> Options:
    """Read ``key=value`` arguments; the last of a key counts.

    Raises:
        ExportError: no ``key=value``, an unknown key or an empty value.
    """
    options = Options()
    keys = [field.name for field in fields(Options)]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ExportError(f"expected key=value, got '{argument}'; keys: {', '.join(keys)}. See assay-export --help")
        if key not in keys:
            raise ExportError(f"there is no '{key}'; {nearest(key, keys)}")
        if not value:
            raise ExportError(f"'{argument}' has no value; leave it out for the default")
        options = replace(options, **{key: value})
    return options


def main() -> None:
    """The command `assay-export`."""
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        _say(HELP)
        return
    try:
        _export(parse(arguments))
    except ParityError as error:
        sys.stderr.write(f"assay-export: {error}\n")
        sys.exit(NOT_THE_MODEL)
    except (AssayError, ResearchError, OSError) as error:
        sys.exit(f"assay-export: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-export: interrupted; there is no new bundle")


def _export(options: Options) -> None:
    run = Run.open(Path(options.run)) if options.run else Run.newest(Path("runs"))
    name = options.name or str(run.config().get("name") or run.folder.resolve().parent.name)
    _say(f"run {run.folder}, checkpoint {options.checkpoint}\n")
    exported = export_bundle(run, Path(options.bundles), name, checkpoint=options.checkpoint, say=_say)
    dataset, n = exported.manifest.expected[0].dataset, exported.manifest.expected[0].n
    _say(f"\nEvery artifact against the eager model, on {n:,} pictures of {dataset}:\n\n")
    _say(report.table(exported.verdicts) + "\n" + report.sizes(exported.folder))
    _say(f"\nbundle: {exported.folder}\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
