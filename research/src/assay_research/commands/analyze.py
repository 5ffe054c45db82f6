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
from assay_research.config.build import load_data
from assay_research.config.overrides import CONF, check_groups, choices, explain
from assay_research.errors import ConfigError, nearest
from assay_research.terminal import say

HELP = """\
Look at a data set before training on it: classes, objects a picture, sizes and shapes of boxes, outliers, where objects
lie, pictures without objects, copies and other look-alikes, leakage between the splits, and every problem met while
reading.

usage: assay-analyze data=<data set> [data.<setting>=<value> ...] [out=<folder>]

  data      {choices}; a file of conf/data, as for assay-train
  data.root the folder of a data set that is read from one
  data...   any other setting of that file: data.height=, data.width= (the canvas), data.keep_empty=true, ...
  out       where to write; by default analyses/<name of the data set>/

examples:
  assay-analyze data=voc data.root=~/diatoms
  assay-analyze data=coco data.root=~/coco out=report

Writes report.html, which needs no other file and no network, and its figures as PNG beside it.
"""


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        data: the config of the data set.
        out: where to write; None for the default.
    """

    data: DictConfig
    out: Path | None


def parse(arguments: Sequence[str]) -> Options:
    """Read ``key=value`` arguments, and compose the config of the data set with those that are about it.

    Raises:
        ConfigError: no ``key=value``, no data set, or an unknown key or data set.
    """
    out, chosen, settings = None, None, []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"expected key=value, got '{argument}'; see assay-analyze --help")
        if key == "out":
            out = Path(value).expanduser()
        elif key == "data":
            chosen = argument
        elif key.startswith("data."):
            settings.append(argument)
        else:
            raise ConfigError(f"there is no '{key}'; {nearest(key, ('data', 'data.root', 'out'))}")
        if not value:
            raise ConfigError(f"'{argument}' has no value")
    if chosen is None:
        raise ConfigError(f"data= is missing: name a data set, one of {', '.join(choices('data'))}")
    check_groups([chosen])
    try:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return Options(hydra.compose(overrides=[f"+{chosen}", *settings]).data, out)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, [chosen, *settings])) from error


def analyze(options: Options) -> Path:
    """Read the data set, explore it, write the report, and print the findings.

    Returns:
        The report.

    Raises:
        AssayError: a setting or a data set that is no good.
    """
    from assay_research.reports.dataset import page  # matplotlib, which --help can do without
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
        say(f"- {finding.what} {finding.advice}".rstrip())
    say(f"written: {written}, and its figures beside it")
    return written


def main() -> None:
    """The command `assay-analyze`."""
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        say(HELP.format(choices=", ".join(choices("data"))).rstrip())
        return
    try:
        analyze(parse(arguments))
    except (AssayError, OSError) as error:
        sys.exit(f"assay-analyze: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-analyze: interrupted")


if __name__ == "__main__":
    main()
