"""Look at a data set before training on it: `assay-analyze data=voc data.root=<folder>` writes one HTML report."""

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
    """What the command line says, but for settings of the data set other than its folder."""

    data: str | None = option(None, "the data set")
    data_root: str | None = option(None, "the folder of a data set that is read from one", key="data.root", folder=True)
    out: str | None = option(None, "where to write; by default analyses/<name of the data set>/", folder=True)


@dataclass(frozen=True)
class AnalysisRequest:
    """What is asked for.

    Attributes:
        data: the config of the data set.
        out: where to write; None for the default.
    """

    data: DictConfig
    out: Path | None


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of a data set: ``data=voc`` and its settings.

    Raises:
        ConfigError: one of them does not fit.
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
        Look at a data set before training on it: classes, objects an image, sizes and shapes of boxes, outliers, where
        objects lie, images without objects, copies and other look-alikes, leakage between the splits, and every
        problem met while reading.
    """,
    usage="data=<data set> [data.<setting>=<value> ...] [out=<folder>]",
    examples=(
        ("assay-analyze data=voc data.root=~/diatoms", ""),
        ("assay-analyze data=coco data.root=~/coco out=report", ""),
        ("assay-analyze data=voc data.root=~/diatoms data.height=96 data.keep_empty=true", ""),
    ),
    groups={"data": "the data set, a file of conf/data as for assay-train"},
    compose=compose,
    notes="Writes report.html, which needs no other file and no network, and its figures as PNG beside it.",
)


def parse(arguments: Sequence[str]) -> AnalysisRequest:
    """Read ``key=value`` arguments, and compose the config of the data set with those that are about it.

    Raises:
        ConfigError: no ``key=value``, no data set, or an unknown key or data set.
    """
    own = {"data", "data.root", "out"}
    settings = [each for each in arguments if each.startswith("data.") and each.partition("=")[0] not in own]
    options = COMMAND.read([each for each in arguments if each not in settings])
    if options.data is None:
        raise ConfigError(f"data= is missing: name a data set, one of {', '.join(choices('data'))}")
    for each in settings:
        split(each, COMMAND.name, sorted(own))
    root = [] if options.data_root is None else [quoted("data.root", options.data_root)]
    config = compose([f"data={options.data}", *settings, *root])
    return AnalysisRequest(config.data, Path(options.out).expanduser() if options.out else None)


def analyze(options: AnalysisRequest) -> Path:
    """Read the data set, explore it, write the report, and print the findings.

    Returns:
        The report.

    Raises:
        AssayError: a setting or a data set that is no good.
    """
    # Torch and matplotlib take seconds to import, and help, errors and completion do without.
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
    say(f"written: {written}, and its figures beside it")
    return written


def main() -> None:
    """The command `assay-analyze`."""
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
