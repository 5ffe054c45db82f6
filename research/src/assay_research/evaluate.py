"""Score a run's checkpoints: `assay-evaluate [run=<run>] [checkpoint=all]` measures everything, and trains nothing."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from tqdm import tqdm

from assay_deploy.canvas import View
from assay_research import checkpoint
from assay_research.analysis.scores import Look, Result, Subject, report_all, report_one, say
from assay_research.config import nearest
from assay_research.data import Split
from assay_research.device import choose_device
from assay_research.errors import AssayError, CheckpointError, ConfigError, DeviceError
from assay_research.evaluation import average, look, measure
from assay_research.run import CHECKPOINTS, Run, Trained, read_views

EVALUATION = "evaluation"
SPLITS = ("val", "test")
EXAMPLES = {"views": "[{size: 36}, {size: 36, flip: true}]", "sizes": "[36,40,44]", "flip": "true", "dense": "8"}
HELP = """\
Score a classifier's checkpoints: cross-entropy, top-1, top-5, calibration (ECE), accuracy of every class, confusion
matrix and worst mistakes; for the plain view, for several views averaged (test-time augmentation), and densely.

usage: assay-evaluate [key=value ...]

  run         the run's folder; by default the newest one under runs/
  checkpoint  best (the default), last, the number of an epoch, or all: every epoch that the run kept (train with
              save_every=1), as a table and a figure over the epochs
  split       val (the default) or test. Training ends by scoring the test pictures once; what is chosen by looking
              at them again is no longer measured by them
  views       what to look at, the plain view first: 'views=[{size: 36}, {size: 36, flip: true}]'; by default the
              run's own views
  sizes       instead of views: test sizes, as in sizes=[36,40,44]; each is cropped to the model's canvas
  flip        with flip=true each of the sizes, or the run's plain view, is looked at mirrored too
  dense       pixels between two answers of dense evaluation, 1 to 32: a VGG-style model slides over the whole
              picture, uncropped, at the size of every view
  device      auto (the default), cpu or cuda

Writes JSON and figures to <run>/evaluation/.
"""


@dataclass
class Options:
    """What the command line may say."""

    run: str | None = None
    checkpoint: str = "best"
    split: str = "val"
    views: list[dict[str, Any]] | None = None
    sizes: list[int] | None = None
    flip: bool = False
    dense: int | None = None
    device: str = "auto"


def parse(arguments: Sequence[str]) -> Options:
    """Read ``key=value`` arguments, lists and mappings as Hydra writes them.

    Raises:
        ConfigError: no ``key=value``, an unknown key, or a value of the wrong kind.
    """
    kinds = {field.name: field.type for field in fields(Options)}
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
            given[key] = value if is_text else OverridesParser.create().parse_override(argument).value()
            OmegaConf.merge(OmegaConf.structured(Options), {key: given[key]})
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(f"{argument}: expected something like {key}={EXAMPLES[key]}") from error
    options = Options(**OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(Options), given)))  # type: ignore[arg-type]
    if options.split not in SPLITS:
        raise ConfigError(f"split must be val or test, got '{options.split}'")
    return options


def choose_looks(options: Options, own: tuple[View, ...]) -> dict[str, Look]:
    """The ways to look at pictures that the options ask for: plain, and if there are more, tta and dense.

    Args:
        options: of the command line.
        own: the run's own views.

    Raises:
        ConfigError: an impossible view, or two lists of views.
    """
    views = own
    if options.views is not None:
        if options.sizes is not None or options.flip:
            raise ConfigError("views= is the whole list of views; give either views= or sizes= and flip=")
        views = read_views(OmegaConf.create({"views": options.views}))
    elif options.sizes is not None or options.flip:
        sizes = [{"size": size} for size in options.sizes or []]
        unmirrored = own[:1] if options.sizes is None else read_views(OmegaConf.create({"views": sizes}))
        flips = (False, True) if options.flip else (False,)
        views = tuple(replace(view, flip=flip) for view in unmirrored for flip in flips)
    looks = {"plain": Look(views[:1])}
    if len(views) > 1:
        looks["tta"] = Look(views)
    if options.dense is not None:
        uncropped = dict.fromkeys(replace(view, crop="center") for view in views)
        looks["dense"] = Look(tuple(uncropped), options.dense)
    return looks


def choose_checkpoints(run: Run, wanted: str) -> list[str]:
    """Names of the checkpoints to score; of ``all``, the epochs in their order, then best and last.

    Raises:
        CheckpointError: the run did not keep them.
    """
    kept = [path.stem for path in (run.folder / CHECKPOINTS).glob("*.pt")]
    epochs = sorted((name for name in kept if name.startswith("epoch-")), key=lambda name: (len(name), name))
    there = [*epochs, *(name for name in ("best", "last") if name in kept)]
    name = f"epoch-{int(wanted):04d}" if wanted.isdecimal() else wanted
    if name in there:
        return [name]
    if name != "all":
        raise CheckpointError(
            f"'{run.folder}' has no checkpoint '{wanted}'; there: {', '.join(there) or 'none'}. "
            "Training keeps every epoch with save_every=1"
        )
    if not epochs:
        raise CheckpointError(
            f"'{run.folder}' kept no checkpoint of its epochs, which checkpoint=all scores: train with save_every=1"
        )
    return there


def evaluate(run: Run, options: Options) -> Path:
    """Score the chosen checkpoints; write what was measured, then print the tables.

    Returns:
        The JSON file that holds it.

    Raises:
        AssayError: a bad option, a run or checkpoint that is damaged, or data that is not what it was trained on.
    """
    names = choose_checkpoints(run, options.checkpoint)
    looks = choose_looks(options, read_views(run.config()))
    device = choose_device(options.device)
    data = run.data()
    subject = Subject(run.name, data, options.split, data.fingerprint(), looks)
    split = subject.pictures.to(device)
    results = []
    with tqdm(total=len(names), unit="checkpoint", leave=False, disable=not sys.stderr.isatty()) as bar:
        for name in names:
            trained, epoch = load(run, name, device, subject)
            logits = answers(trained, looks, split, device, bar)
            scores = {way: measure(said, split.labels, data.classes) for way, said in logits.items()}
            results.append(Result(name, epoch, scores))
            bar.update()
    folder = run.folder / EVALUATION
    folder.mkdir(exist_ok=True)
    if options.checkpoint == "all":
        return report_all(results, subject, folder)
    return report_one(results[0], logits["plain"], subject, folder)


def load(run: Run, name: str, device: torch.device, subject: Subject) -> tuple[Trained, int]:
    """A checkpoint's classifier and its epoch, if it was trained on these data.

    Raises:
        CheckpointError: missing, damaged, or of other data.
    """
    state = checkpoint.load(run.checkpoint(name), "meta")  # what it says of itself, without its tensors
    if state.get("fingerprint") != subject.fingerprint:
        raise CheckpointError(
            f"'{run.checkpoint(name)}' was not trained on the data set '{subject.data.name}' as it is now: its "
            "pictures, labels or splits have changed, and scores would say nothing. Give the old data set back"
        )
    return run.load(name, device), int(state.get("epoch", 0))


def answers(
    trained: Trained, looks: Mapping[str, Look], split: Split, device: torch.device, bar: Any
) -> dict[str, Tensor]:
    """Logarithms of probabilities, float64 ``[n, classes]``, by way of looking; no view is computed twice."""
    model = trained.model.to(memory_format=torch.channels_last)
    seen: dict[tuple[View, int | None], Tensor] = {}
    wanted = dict.fromkeys((view, each.stride) for each in looks.values() for view in each.views)
    for i, (view, stride) in enumerate(wanted):
        bar.set_postfix_str(f"view {i + 1} of {len(wanted)}")
        try:
            seen[view, stride] = look(model, trained.canvas, view, split, device, stride)
        except RuntimeError as error:  # memory, mostly: sizes= and dense= ask for as much as one likes
            reason = str(error).partition("\n")[0]
            raise DeviceError(f"cannot look through {view} on {device}: {reason}; try a smaller size") from error
    return {way: average([seen[view, each.stride] for view in each.views]) for way, each in looks.items()}


def main() -> None:
    """The command `assay-evaluate`."""
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        say(HELP.rstrip())
        return
    try:
        options = parse(arguments)
        evaluate(Run.open(Path(options.run)) if options.run else Run.newest(Path("runs")), options)
    except (AssayError, OSError) as error:
        sys.exit(f"assay-evaluate: {error}")
    except KeyboardInterrupt:
        sys.exit("assay-evaluate: interrupted")


if __name__ == "__main__":
    main()
