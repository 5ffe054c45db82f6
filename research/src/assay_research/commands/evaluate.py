"""Score a run's checkpoints: `assay-evaluate [run=<run>] [checkpoint=all]` measures everything, and trains nothing."""

import sys
from pathlib import Path

from assay_deploy.errors import AssayError
from assay_research._version import __version__
from assay_research.config.commandline import Command
from assay_research.config.schema import EvaluationOptions
from assay_research.runs.run import Run

COMMAND = Command(
    "assay-evaluate",
    __version__,
    EvaluationOptions,
    about="""
        Score a run's checkpoints. Of a classifier: cross-entropy, top-1, top-5, calibration (ECE), accuracy of every
        class, confusion matrix and worst mistakes. Of a detector: COCO's twelve figures, precision and recall,
        confusion matrix with the background, what is missed, confused, found twice or not there, and the thresholds
        that would do better. For the plain view, and for several views averaged or fused (test-time augmentation).
    """,
    examples=(
        ("assay-evaluate", "the newest run's best checkpoint"),
        ("assay-evaluate run=runs/digits/<time> checkpoint=all", "every epoch that it kept"),
        ("assay-evaluate 'sizes=[36,40,44]' flip=true", "six views of each image, averaged"),
    ),
    notes="Writes JSON and figures to <run>/evaluation/, of a detector a page to read too.",
)


def evaluate(run: Run, options: EvaluationOptions) -> Path:
    """Score the chosen checkpoints; write what was measured, then print the tables.

    Returns:
        The JSON file that holds it.

    Raises:
        AssayError: a bad option, a run or checkpoint that is damaged, or data that is not what it was trained on.
    """
    # Torch takes seconds to import, and help, errors and completion do without.
    from assay_research.runs.trained import choose_checkpoints, data_of
    from assay_research.tasks.registry import check_options, task_of
    from assay_research.training.device import choose_device

    names = choose_checkpoints(run, options.checkpoint)
    device = choose_device(options.device)
    data = data_of(run, options.data_root)
    task = task_of(data)
    check_options(options, task)
    return task.evaluate_run(run, options, data, names, device)


def main() -> None:
    """The command `assay-evaluate`."""
    arguments = sys.argv[1:]
    if COMMAND.answer(arguments):
        return
    try:
        options = COMMAND.read(arguments)
        evaluate(Run.open(Path(options.run)) if options.run else Run.newest(Path(options.runs)), options)
    except (AssayError, OSError) as error:
        sys.exit(f"assay-evaluate: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-evaluate: interrupted")


if __name__ == "__main__":
    main()
