"""Export a run as a bundle, and prove that every artifact in it agrees with the trained model.

```python
import assay_export
from assay_research import Run

exported = assay_export.export_bundle(Run.newest("runs"), "bundles", "digits", formats=["onnx"])
for verdict in exported.verdicts:
    print(verdict.path, verdict.passed, verdict.differences)
```
"""

from typing import TYPE_CHECKING

from assay_deploy.lazy import lazy
from assay_export._version import __version__

if TYPE_CHECKING:
    from assay_export.errors import ExportError
    from assay_export.export import Exported, export_bundle
    from assay_export.gate.verdict import ParityError, Verdict

__all__ = ["ExportError", "Exported", "ParityError", "Verdict", "__version__", "export_bundle"]

__getattr__ = lazy(
    __name__,
    {
        "ExportError": "errors",
        "Exported": "export",
        "ParityError": "gate.verdict",
        "Verdict": "gate.verdict",
        "export_bundle": "export",
    },
)
