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
from assay_export.precisions.network import nodes_outside_network

IMAGES = 256
"""Number of training images for the calibration."""

BATCH = 64
"""Batch size of the calibration; all activations of a batch are in memory."""

OPERATORS = ["Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Add", "Slice", "Pad", "Reshape"]
"""Operators that ONNX Runtime computes in 8 bits, or that only move values, which then stay in 8 bits."""


def quantize(content: bytes, images: Tensor) -> bytes:
    """Quantise the network of a classifier; preprocessing and postprocessing stay in float32.

    The format is QDQ: a float32 graph with QuantizeLinear and DequantizeLinear nodes, which an engine fuses into its
    8-bit kernels. Weights are int8 and symmetric, with a scale for each output channel; activations are uint8 with a
    zero point, which suits ONNX Runtime's x86 kernels: with int8 activations ResNet-14 took 1.3 times as long.

    The range of an activation is the least and largest value it has on `IMAGES` training images. On TinyVGG D,
    with and without BatchNorm, and ResNet-14, trained on digits, none changes more than 4 of 359 test images,
    and none loses accuracy. Clipping to the 99.99th percentile moved logits by up to 1.6 times as much and changed
    more images; ONNX Runtime's entropy method has as many bins as levels, clips nothing, and gives the same ranges.

    On x86 without VNNI (Intel before Cascade Lake, AMD before Zen 4) ONNX Runtime adds pairs of products in 16 bits,
    which may saturate. Weights of 7 bits rule that out, but move logits by up to 1.8 times as much everywhere else.

    The same graph and images give the same bytes with the same versions of onnx and onnxruntime and the same
    processor.

    Args:
        content: the float32 graph, serialized.
        images: images of the training split, uint8 ``[n, height, width, 3]``; `IMAGES` evenly spaced ones are used.

    Raises:
        ExportError: the graph has no convolution or linear layer.
        RuntimeUnavailableError: ONNX Runtime is not installed.
    """
    ort: Any = import_module(f"{import_runtime().__name__}.quantization")
    model = onnx.load_model_from_string(content)
    origin = {entry.key: entry.value for entry in model.metadata_props}
    excluded = nodes_outside_network(model)
    # Without this entry it warns that BatchNorm should be folded first, which it is.
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
    """Batches of images for the calibration, with the interface of onnxruntime's CalibrationDataReader."""

    def __init__(self, images: Tensor) -> None:
        self.batches = iter(images.split(BATCH))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch as the graph's input; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
