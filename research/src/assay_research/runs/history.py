"""Read the history of a run from `metrics.jsonl`."""

import json

from assay_research.errors import CheckpointError
from assay_research.runs.run import METRICS, Run


def read_history(run: Run) -> list[dict[str, float | None]]:
    """Read the records of `metrics.jsonl`, one per epoch; [] before the end of the first epoch.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = run.folder / METRICS
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' cannot be read as metrics ({error}); resuming the run with resume= rewrites it"
        ) from error
