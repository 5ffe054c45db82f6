"""Command `assay-analyze data=voc data.root=<folder>`: analyse a data set and write one HTML report."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from assay_deploy.errors import AssayError
from assay_research._version import __version__
from assay_research.config.commandline import Command, quoted, split
from assay_research.config.files import CONF, choices
from assay_research.config.option import option
from assay_research.config.overrides import check_groups, explain
from assay_research.errors import ConfigError
from assay_research.terminal import say


@dataclass(frozen=True)
class AnalysisOptions:
    """Command-line options, without settings of the data set other than its folder."""

    data: str | None = option(None, "the data set")
    data_root: str | None = option(None, "the data set's folder, if it has one", key="data.root", folder=True)
    out: str | None = option(None, "the folder to write to; by default analyses/<name of the data set>/", folder=True)


@dataclass(frozen=True)
class AnalysisRequest:
    """Parsed command line.

    Attributes:
        data: config of the data set.
        out: folder to write to; None for the default.
    """

    data: DictConfig
    out: Path | None


def compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the config of a data set from ``data=voc`` and its settings.

    Raises:
        ConfigError: the data set or a setting does not exist or is invalid.
    """
    check_groups(overrides)
    try:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return hydra.compose(overrides=[each.replace("data=", "+data=", 1) for each in overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error


COMMAND = Command(
    "assay-analyze",
    __version__,
    AnalysisOptions,
    about="""
        Analyse a data set before training on it: classes, objects per image, sizes and shapes of boxes, outliers,
        positions of objects, images without objects, duplicates and near-duplicates, leakage between the splits, and
        every problem found while reading.
    """,
    usage="data=<data set> [data.<setting>=<value> ...] [out=<folder>]",
    examples=(
        ("assay-analyze data=voc data.root=~/diatoms", ""),
        ("assay-analyze data=coco data.root=~/coco out=report", ""),
        ("assay-analyze data=voc data.root=~/diatoms data.height=96 data.keep_empty=true", ""),
    ),
    groups={"data": "the data set, a file of conf/data as for assay-train"},
    compose=compose,
    notes="Writes report.html, which needs no other file and no network, and its figures as PNG in the same folder.",
)


def parse(arguments: Sequence[str]) -> AnalysisRequest:
    """Parse ``key=value`` arguments and compose the config of the data set.

    Raises:
        ConfigError: an argument is not ``key=value``, a key or the data set is unknown, or ``data=`` is missing.
    """
    own = {"data", "data.root", "out"}
    settings = [each for each in arguments if each.startswith("data.") and each.partition("=")[0] not in own]
    options = COMMAND.read([each for each in arguments if each not in settings])
    if options.data is None:
        raise ConfigError(f"data= is missing: give a data set, one of {', '.join(choices('data'))}")
    for each in settings:
        split(each, COMMAND.name, sorted(own))
    root = [] if options.data_root is None else [quoted("data.root", options.data_root)]
    config = compose([f"data={options.data}", *settings, *root])
    return AnalysisRequest(config.data, Path(options.out).expanduser() if options.out else None)


def analyze(options: AnalysisRequest) -> Path:
    """Read and analyse the data set, write the report and print the findings.

    Returns:
        Path of the report.

    Raises:
        AssayError: a setting is invalid, or the data set is missing or damaged.
    """
    # Torch and matplotlib take seconds to import, and help, errors and completion do not need them.
    from assay_research.config.build import load_data
    from assay_research.reports.dataset import page
    from assay_research.reports.dataset.collection import collect
    from assay_research.reports.dataset.findings import findings
    from assay_research.reports.dataset.statistics import explore

    data = load_data(options.data)
    seen = explore(collect(data), data.problems)
    file_name = "".join(each if each.isalnum() or each in "-_" else "_" for each in data.name)
    written = page.write(seen, options.out or Path("analyses") / file_name)
    for what, value, remark in page.facts(seen):
        say(f"{what:14} {value}  ({remark})")
    for finding in findings(seen):
        say(f"- {finding.message} {finding.advice}".rstrip())
    say(f"written: {written}, and its figures in the same folder")
    return written


def main() -> None:
    """Run the command `assay-analyze`."""
    arguments = sys.argv[1:]
    if COMMAND.answer(arguments):
        return
    try:
        analyze(parse(arguments))
    except (AssayError, OSError) as error:
        sys.exit(f"assay-analyze: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-analyze: interrupted")


if __name__ == "__main__":
    main()
