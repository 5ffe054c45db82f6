"""Quantise a classifier's ONNX graph to int8: weights per channel, activations by their range on training images."""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_deploy.engines.onnxruntime.runtime import import_runtime
from assay_export.formats.onnx_graph import INPUT
from assay_export.precisions.network import outside

IMAGES = 256
"""Training images whose activations are measured."""

BATCH = 64
"""Of them, at once: all their activations are in memory together."""

OPERATORS = ["Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Add", "Slice", "Pad", "Reshape"]
"""Those that ONNX Runtime computes in 8 bits, or that only move numbers, so that 8 bits stay 8 bits."""


def quantize(content: bytes, images: Tensor) -> bytes:
    """Quantise the network of a classifier; what is before and after it stays in float32.

    The format is QDQ: a float32 graph with pairs of nodes that round, which an engine fuses into 8-bit kernels where
    it has some. Weights are int8 and symmetric, with a scale for each output channel; activations are uint8 with a
    zero point, which is what ONNX Runtime's x86 kernels want: with int8 activations ResNet-14 took 1.3 times as long.

    The range of an activation is the least and largest value it has on `IMAGES` training images. On TinyVGG D,
    with and without BatchNorm, and ResNet-14, trained on digits, none changes more than 4 of 359 test images,
    and none loses accuracy. Clipping to the 99.99th percentile moved logits by up to 1.6 times as much and changed
    more images; ONNX Runtime's entropy method has as many bins as levels, clips nothing, and gives the same ranges.

    On x86 without VNNI (Intel before Cascade Lake, AMD before Zen 4) ONNX Runtime adds pairs of products in 16 bits,
    which may saturate. Weights of 7 bits rule that out, but move logits by up to 1.8 times as much everywhere else.

    The same graph and images give the same bytes, on the same versions of onnx and onnxruntime and the same
    processor.

    Args:
        content: the float32 graph.
        images: of the training split, uint8 ``[n, height, width, 3]``; `IMAGES` from all over it are used.

    Raises:
        ExportError: the graph has no convolution or linear layer.
        RuntimeUnavailableError: ONNX Runtime is not usable.
    """
    ort: Any = import_module(f"{import_runtime().__name__}.quantization")
    model = onnx.load_model_from_string(content)
    origin = {entry.key: entry.value for entry in model.metadata_props}
    excluded = outside(model)
    # Without this mark it warns that folding BatchNorm would be better; it is folded.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    chosen = images[torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).long()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "quantized.onnx")
        ort.quantize_static(
            model,
            path,
            _Images(chosen),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=excluded,
            per_channel=True,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=ort.CalibrationMethod.MinMax,
            # Logits of 8 bits would tie where those of the model do not.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        quantized = onnx.load(path)
    del quantized.metadata_props[:]
    onnx.helper.set_model_props(quantized, origin)
    onnx.checker.check_model(quantized, full_check=True)
    result: bytes = quantized.SerializeToString()
    return result


class _Images:
    """Hands batches of images to the calibration, as onnxruntime's CalibrationDataReader does."""

    def __init__(self, images: Tensor) -> None:
        self.batches = iter(images.split(BATCH))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch, as the graph's input; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
