"""Command `assay-evaluate [run=<run>] [checkpoint=all]`: score a run's checkpoints."""

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
        Score a run's checkpoints. For a classifier: cross-entropy, top-1, top-5, balanced accuracy, calibration (ECE),
        accuracy of every class, confusion matrix and worst mistakes. For a detector: COCO's twelve metrics, precision
        and recall, confusion matrix with the background, missed, confused, duplicate and false detections, and better
        thresholds. Variants: the plain view, and several views averaged or fused (test-time augmentation).
    """,
    examples=(
        ("assay-evaluate", "the newest run's best checkpoint"),
        ("assay-evaluate run=runs/digits/<time> checkpoint=all", "every epoch that save_every=1 saved in training"),
        ("assay-evaluate 'sizes=[36,40,44]' flip=true", "six views of each image, averaged"),
    ),
    notes="Writes JSON and figures to <run>/evaluation/; for a detector also a Markdown page.",
)


def evaluate(run: Run, options: EvaluationOptions) -> Path:
    """Score the chosen checkpoints, write the results and print the tables.

    Returns:
        Path of the JSON file with the results.

    Raises:
        AssayError: an option is invalid, the run or a checkpoint is damaged, or the data set has changed.
    """
    # Torch takes seconds to import, and help, errors and completion do not need it.
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
    """Run the command `assay-evaluate`."""
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
