"""Score a run's checkpoints: `assay-evaluate [run=<run>] [checkpoint=all]` measures everything, and trains nothing."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_deploy.errors import AssayError
from assay_research.errors import ConfigError, nearest
from assay_research.runs.run import Run
from assay_research.runs.trained import choose_checkpoints, data_of
from assay_research.tasks.options import EvaluationOptions
from assay_research.tasks.registry import check_options, task_of
from assay_research.terminal import say
from assay_research.training.device import choose_device

SPLITS = ("val", "test")
EXAMPLES = {
    "views": "[{size: 36}, {size: 36, flip: true}]",
    "sizes": "[36,40,44]",
    "flip": "true",
    "dense": "8",
    "iou": "0.5",
    "score": "0.3",
}
HELP = """\
Score a run's checkpoints. Of a classifier: cross-entropy, top-1, top-5, calibration (ECE), accuracy of every class,
confusion matrix and worst mistakes. Of a detector: COCO's twelve figures, precision and recall, confusion matrix with
the background, what is missed, confused, found twice or not there, and the thresholds that would do better. For the
plain view, and for several views averaged or fused (test-time augmentation).

usage: assay-evaluate [key=value ...]

  run         the run's folder; by default the newest one in `runs`
  runs        the folder that holds runs; by default runs
  data.root   the data set's folder, if it is not where it was when the run was trained
  checkpoint  best (the default), last, the number of an epoch, or all: every epoch that the run kept (train with
              save_every=1), as a table and a figure over the epochs
  split       val (the default) or test. Training ends by scoring the test pictures once; what is chosen by looking
              at them again is no longer measured by them
  views       what to look at, the plain view first: 'views=[{size: 36}, {size: 36, flip: true}]'; by default the
              run's own views
  sizes       instead of views: test sizes, as in sizes=[36,40,44]. A classifier's are cropped to its canvas; a
              detector is shown the whole canvas, larger or smaller
  flip        with flip=true each of the sizes, or the run's plain view, is looked at mirrored too
  device      auto (the default), cpu or cuda

classifiers only:

  dense       pixels between two answers of dense evaluation, a power of two up to 32: a VGG-style model slides over
              the whole picture, uncropped, at the size of every view

detectors only:

  fuse        how boxes of several views become one: wbf (weighted boxes fusion, the default) or nms
  iou         from which IoU on a detection is in an object's place, for all but COCO's figures; 0.5 by default
  score       from which score on detections are judged; by default the one with the best F1

Writes JSON and figures to <run>/evaluation/, of a detector a page to read too.
"""


def parse(arguments: Sequence[str]) -> EvaluationOptions:
    """Read ``key=value`` arguments, lists and mappings as Hydra writes them.

    Raises:
        ConfigError: no ``key=value``, an unknown key, or a value of the wrong kind.
    """
    kinds = {field.name.replace("_", "."): field.type for field in fields(EvaluationOptions)}
    given = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"expected key=value, got '{argument}'; see assay-evaluate --help")
        if key not in kinds:
            raise ConfigError(f"there is no '{key}'; {nearest(key, kinds)}")
        if not value:
            raise ConfigError(f"'{argument}' has no value; leave it out for the default")
        try:
            is_text = kinds[key] in (str, str | None)
            read = value if is_text else OverridesParser.create().parse_override(argument).value()
            given[key.replace(".", "_")] = read
            OmegaConf.merge(OmegaConf.structured(EvaluationOptions), {key.replace(".", "_"): read})
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(f"{argument}: expected something like {key}={EXAMPLES[key]}") from error
    options = EvaluationOptions(
        **OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(EvaluationOptions), given))
    )  # type: ignore[arg-type]
    if options.split not in SPLITS:
        raise ConfigError(f"split must be val or test, got '{options.split}'")
    return options


def evaluate(run: Run, options: EvaluationOptions) -> Path:
    """Score the chosen checkpoints; write what was measured, then print the tables.

    Returns:
        The JSON file that holds it.

    Raises:
        AssayError: a bad option, a run or checkpoint that is damaged, or data that is not what it was trained on.
    """
    names = choose_checkpoints(run, options.checkpoint)
    device = choose_device(options.device)
    data = data_of(run, options.data_root)
    task = task_of(data)
    check_options(options, task)
    return task.evaluate_run(run, options, data, names, device)


def main() -> None:
    """The command `assay-evaluate`."""
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        say(HELP.rstrip())
        return
    try:
        options = parse(arguments)
        evaluate(Run.open(Path(options.run)) if options.run else Run.newest(Path(options.runs)), options)
    except (AssayError, OSError) as error:
        sys.exit(f"assay-evaluate: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-evaluate: interrupted")


if __name__ == "__main__":
    main()
