"""Run a proven bundle with ONNX Runtime or OpenVINO, without torch.

import assay_deploy

model = assay_deploy.load("bundles/digits", tta=True)
for result in model.predict(["a.jpg", image_bytes, array]):
print(result.label, result.confidence)
"""

from typing import TYPE_CHECKING

from assay_deploy._version import __version__
from assay_deploy.lazy import lazy

if TYPE_CHECKING:
    from assay_deploy.bundle.folder import read_manifest
    from assay_deploy.bundle.manifest import Manifest
    from assay_deploy.errors import AssayError, BundleError, ImageError, RuntimeUnavailableError
    from assay_deploy.model import Model, load
    from assay_deploy.tasks.classification import Prediction
    from assay_deploy.tasks.detection import Detected
    from assay_deploy.tasks.result import Unreadable

__all__ = [
    "AssayError",
    "BundleError",
    "Detected",
    "ImageError",
    "Manifest",
    "Model",
    "Prediction",
    "RuntimeUnavailableError",
    "Unreadable",
    "__version__",
    "load",
    "read_manifest",
]

__getattr__ = lazy(
    __name__,
    {
        "AssayError": "errors",
        "BundleError": "errors",
        "Detected": "tasks.detection",
        "ImageError": "errors",
        "Manifest": "bundle.manifest",
        "Model": "model",
        "Prediction": "tasks.classification",
        "RuntimeUnavailableError": "errors",
        "Unreadable": "tasks.result",
        "load": "model",
        "read_manifest": "bundle.folder",
    },
)
