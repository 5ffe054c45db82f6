"""Registry of the precisions below float32 for ONNX graphs. To add one, add its module and an entry here.

`assay_export.gate.tolerances` lists the tasks that support each precision, with the allowed differences.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from assay_export.errors import ExportError
from assay_export.formats.onnx_graph import has_cuda
from assay_export.precisions import fp16, int8


@dataclass(frozen=True)
class Precision:
    """A precision that ONNX graphs can be converted to.

    Attributes:
        name: a name of `assay_deploy.bundle.manifest.PRECISIONS`.
        device: the only device on which it is proven and may run: ``cpu`` or ``cuda``.
        lower: function that converts a float32 graph; takes the serialized graph, training images, uint8
            ``[n, height, width, 3]``, and the task's `distance`.
        check: function that raises ExportError if this machine cannot prove the precision.
    """

    name: str
    device: str
    lower: Callable[[bytes, Tensor, fp16.Distance], bytes]
    check: Callable[[], None] = lambda: None


def _check_fp16() -> None:
    if not has_cuda():
        raise ExportError(
            "fp16 needs a GPU, since ONNX Runtime computes it in float32 on a CPU. This machine has no CUDA device, or "
            "its ONNX Runtime does not support CUDA (`pip install onnxruntime-gpu[cuda,cudnn]`)"
        )


LOWERED = {
    each.name: each
    for each in (
        Precision(
            "fp16",
            "cuda",
            lambda content, images, distance: fp16.lower(content, images, distance, "cuda"),
            _check_fp16,
        ),
        Precision("int8", "cpu", lambda content, images, _: int8.quantize(content, images)),
    )
}
"""Precisions below float32, by name."""
