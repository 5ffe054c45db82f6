"""The epochs of a run, as `metrics.jsonl` holds them."""

import json

from assay_research.errors import CheckpointError
from assay_research.runs.run import METRICS, Run


def read_history(run: Run) -> list[dict[str, float | None]]:
    """The records of `metrics.jsonl`, an epoch each; [] while no epoch is done.

    Raises:
        CheckpointError: it is damaged.
    """
    path = run.folder / METRICS
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"'{path}' is not readable metrics ({error}); resume= writes it anew") from error
