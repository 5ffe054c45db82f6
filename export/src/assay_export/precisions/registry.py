"""The precisions below float32 that an ONNX graph is lowered to: a new one is its file and a line here.

Which tasks have a precision, and how far it may be from the model, stands in `assay_export.gate.tolerances`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from assay_export.errors import ExportError
from assay_export.formats.onnx_graph import has_cuda
from assay_export.precisions import fp16, int8


@dataclass(frozen=True)
class Precision:
    """A precision that ONNX graphs are lowered to.

    Attributes:
        name: of `assay_deploy.bundle.manifest.PRECISIONS`.
        device: where it is proven, and so may run: ``cpu`` or ``cuda``.
        lower: lowers a float32 graph by training images, uint8 ``[n, height, width, 3]``, and the task's `distance`.
        check: raises an ExportError where this machine cannot prove it.
    """

    name: str
    device: str
    lower: Callable[[bytes, Tensor, fp16.Distance], bytes]
    check: Callable[[], None] = lambda: None


def _check_fp16() -> None:
    if not has_cuda():
        raise ExportError(
            "fp16 is proven on a GPU or not made, for ONNX Runtime computes it in float32 on a CPU. Here is no CUDA "
            "device, or this ONNX Runtime has no CUDA (`pip install onnxruntime-gpu[cuda,cudnn]`)"
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
"""By name."""
