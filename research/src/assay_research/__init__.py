"""Train image classifiers and detectors; a resumed training gives bit-identical results.

```python
import assay_research

experiment = assay_research.Experiment.compose("data=digits")
experiment.train(epochs=3)
trained = assay_research.load(experiment.run, "best")
trained.model  # a torch.nn.Module in eval mode
```
"""

from typing import TYPE_CHECKING

from assay_deploy.lazy import lazy
from assay_research._version import __version__

if TYPE_CHECKING:
    from assay_deploy.errors import AssayError
    from assay_research.config.overrides import compose_settings
    from assay_research.config.schema import TrainConfig
    from assay_research.errors import CheckpointError, ConfigError, DataError
    from assay_research.experiment.experiment import Experiment
    from assay_research.runs.run import Run
    from assay_research.runs.trained import Trained, data_of, load

__all__ = [
    "AssayError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Experiment",
    "Run",
    "TrainConfig",
    "Trained",
    "__version__",
    "compose_settings",
    "data_of",
    "load",
]

__getattr__ = lazy(
    __name__,
    {
        "AssayError": "errors",
        "CheckpointError": "errors",
        "ConfigError": "errors",
        "DataError": "errors",
        "Experiment": "experiment.experiment",
        "Run": "runs.run",
        "TrainConfig": "config.schema",
        "Trained": "runs.trained",
        "compose_settings": "config.overrides",
        "data_of": "runs.trained",
        "load": "runs.trained",
    },
)
