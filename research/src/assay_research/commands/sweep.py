"""Sweeps: several trainings in one command; each writes its outcome, and one report summarises them at the end."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from assay_research.config.files import EVERYTHING, studies
from assay_research.errors import ConfigError
from assay_research.runs import disk
from assay_research.runs.run import Run

if TYPE_CHECKING:
    from assay_research.data.protocol import Data

# Torch takes seconds to import, and help, errors and completion do not need it: modules that need it are imported late.

MULTIRUN = ("-m", "--multirun")


@dataclass(frozen=True)
class SweepOutcome:
    """Outcome of one training of a sweep.

    Attributes:
        overrides: overrides of the training.
        run: folder of its run; None if there is none.
        error: error message; None if it did not fail.
    """

    overrides: list[str]
    run: str | None
    error: str | None

    def write(self, folder: Path, number: int) -> None:
        """Write the outcome to ``<number>.json`` in the sweep's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        disk.write_atomically(json.dumps(asdict(self)).encode(), folder / f"{number}.json")


def arguments(typed: Sequence[str]) -> tuple[list[str], Path | None]:
    """Convert command-line arguments to Hydra's; names of studies become a sweep over their experiments.

    Args:
        typed: command-line arguments.

    Returns:
        Hydra's arguments, and the sweep's folder, ``<runs>/<study>/<time>``, or None for a single training.

    Raises:
        ConfigError: ``--cfg`` was given for a sweep.
    """
    known = studies()
    given = dict(argument.split("=", 1) for argument in typed if "=" in argument)
    name = given.get("experiment", "")
    named = [each for each in name.split(",") if each in known]
    several = any(flag in typed for flag in MULTIRUN)
    if not named and not several:
        return list(typed), None
    if any(argument.startswith(("--cfg", "-c")) for argument in typed):
        one = known[named[0] if named else EVERYTHING][0]
        raise ConfigError(
            f"--cfg shows the config of one training, but this is a sweep: try experiment={one} --cfg job"
        )
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(given.get("runs", "runs").strip("'\"")) / (name if name in known else "sweeps") / stamp
    flags = [argument for argument in typed if argument.startswith("-") or "=" not in argument]
    passed = [each for each in typed if each not in flags and not (named and each.startswith("experiment="))]
    if named:
        members = [member for each in name.split(",") for member in known.get(each, [each])]
        passed.append("experiment=" + ",".join(dict.fromkeys(members)))
    # Flags come last: Hydra ignores overrides between flags.
    return [*([] if several else ["--multirun"]), *passed, f"hydra.sweep.dir='{folder}'", *flags], folder


@lru_cache(maxsize=1)
def read_once(data: str) -> "Data":
    """Load a data set once for all trainings of a sweep, since reading 60,000 files is slow.

    Args:
        data: the `data` section of a config as YAML text.
    """
    from assay_research.config.build import load_data

    return load_data(OmegaConf.create(data))


def report(folder: Path, figure: bool) -> int:
    """Write the table, the figure and the JSON of a sweep, and print the table and the folder.

    Args:
        folder: folder of the sweep.
        figure: True to plot the figure.

    Returns:
        Number of trainings that failed.
    """
    from assay_research.reports.studies import study

    paths = sorted(folder.glob("[0-9]*.json"), key=lambda path: int(path.stem))
    outcomes = [SweepOutcome(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    common = set.intersection(*(set(outcome.overrides) for outcome in outcomes)) if len(outcomes) > 1 else set()
    members = [
        study.Member(_label(outcome, common), Run(Path(outcome.run)) if outcome.run else None, outcome.error)
        for outcome in outcomes
    ]
    study.report(folder, members, figure)
    failed = sum(outcome.error is not None for outcome in outcomes)
    sys.stdout.write((folder / "results.md").read_text(encoding="utf-8"))
    sys.stdout.write(f"{len(outcomes) - failed} of {len(outcomes)} trained; report: {folder}\n")
    return failed


def _label(outcome: SweepOutcome, common: set[str]) -> str:
    """Label a training by the overrides that differ in the sweep, without the seed; by all overrides if none do."""
    overrides = [each for each in outcome.overrides if not each.startswith("seed=")]
    own = [each for each in overrides if each not in common]
    return " ".join(each.removeprefix("experiment=") for each in own or overrides) or "default"
