"""What an evaluation may be asked for, and the checkpoints that a run kept."""

import torch

from assay_research.data.classification import ClassificationData
from assay_research.data.detection import DetectionData
from assay_research.errors import CheckpointError
from assay_research.runs import checkpoint
from assay_research.runs.run import CHECKPOINTS, Run, Trained


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


def load(
    run: Run, name: str, device: torch.device, data: ClassificationData | DetectionData, fingerprint: str
) -> tuple[Trained, int]:
    """A checkpoint's model and its epoch, if it was trained on these data.

    Args:
        run: that it is of.
        name: of the checkpoint.
        device: where it goes.
        data: as they are now.
        fingerprint: of them.

    Raises:
        CheckpointError: missing, damaged, or of other data.
    """
    state = checkpoint.load(run.checkpoint(name), "meta")  # what it says of itself, without its tensors
    if state.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"'{run.checkpoint(name)}' was not trained on the data set '{data.name}' as it is now: its "
            "pictures, labels or splits have changed, and scores would say nothing. Give the old data set back"
        )
    return run.load(name, device), int(state.get("epoch", 0))
