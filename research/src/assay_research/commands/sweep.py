"""Many trainings in one command: each leaves word of how it went, and the last thing is one report on all."""

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

# Torch takes seconds to import, and help, errors and completion do without: what needs it is imported where it works.

MULTIRUN = ("-m", "--multirun")


@dataclass(frozen=True)
class SweepOutcome:
    """How one training of a sweep went.

    Attributes:
        overrides: what it was told.
        run: its folder; None if it has none.
        error: why it failed; None if it did not.
    """

    overrides: list[str]
    run: str | None
    error: str | None

    def write(self, folder: Path, number: int) -> None:
        """Leave word in the sweep's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        disk.write_atomically(json.dumps(asdict(self)).encode(), folder / f"{number}.json")


def arguments(typed: Sequence[str]) -> tuple[list[str], Path | None]:
    """Hydra's arguments for what was typed: a study's name, or several, become a sweep over their experiments.

    Args:
        typed: the command line.

    Returns:
        The arguments, and the sweep's folder, ``<runs>/<study>/<time>``, or None if it is one training.

    Raises:
        ConfigError: the config of a sweep is asked for.
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
        raise ConfigError(f"--cfg shows the config of one training, not of a sweep: try experiment={one} --cfg job")
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(given.get("runs", "runs").strip("'\"")) / (name if name in known else "sweeps") / stamp
    flags = [argument for argument in typed if argument.startswith("-") or "=" not in argument]
    passed = [each for each in typed if each not in flags and not (named and each.startswith("experiment="))]
    if named:
        members = [member for each in name.split(",") for member in known.get(each, [each])]
        passed.append("experiment=" + ",".join(dict.fromkeys(members)))
    # Together: what stands between flags is lost on Hydra.
    return [*([] if several else ["--multirun"]), *passed, f"hydra.sweep.dir='{folder}'", *flags], folder


@lru_cache(maxsize=1)
def read_once(data: str) -> "Data":
    """The data set of a config's `data` as YAML; members of a sweep share it, and 60,000 files take long to read."""
    from assay_research.config.build import load_data

    return load_data(OmegaConf.create(data))


def report(folder: Path, figure: bool) -> int:
    """Write the table, the figure and the JSON of a sweep, and say where they are.

    Args:
        folder: of the sweep.
        figure: draw it.

    Returns:
        How many of its trainings failed.
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
    """What sets a training apart from the sweep's others, its seed aside; all it was told where nothing else does."""
    told = [each for each in outcome.overrides if not each.startswith("seed=")]
    own = [each for each in told if each not in common]
    return " ".join(each.removeprefix("experiment=") for each in own or told) or "default"
