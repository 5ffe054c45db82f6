"""Largest allowed differences of an artifact from its model, for every task, format and precision.

Models of a task cannot be exported in a format and precision without a row here.
"""

from collections.abc import Mapping

from assay_deploy.bundle.manifest import CLASSIFICATION, DETECTION

_BOXES = {"boxes": 0.05, "scores": 1e-3, "labels": 0.01}

TOLERANCES: dict[tuple[str, str, str], Mapping[str, float]] = {
    # Logits and probabilities: absolute differences.
    #
    # The same kernels as eager. What differs is rounding, where a batch of one takes another algorithm than a
    # batch of nineteen: up to 1.9e-5 on logits up to 16 (TinyVGG A, C and E, with and without BatchNorm, trained).
    # Soft-max and the average over views shrink it to a tenth.
    (CLASSIFICATION, "torchscript", "fp32"): {"logits": 2e-4, "probabilities": 1e-4},
    (CLASSIFICATION, "exported_program", "fp32"): {"logits": 2e-4, "probabilities": 1e-4},
    # Other kernels, and BatchNorm folded into weights: up to 1.6e-5 on the same models on the same processor. The
    # bundle is tested with this tolerance on others, and on GPUs, whose sums run in yet another order. A kernel
    # scaled by 1.01, the smallest fault the tests plant, moves a logit by 2e-1 and a probability by 2e-2.
    (CLASSIFICATION, "onnx", "fp32"): {"logits": 1e-3, "probabilities": 1e-4},
    (CLASSIFICATION, "aoti", "fp32"): {"logits": 1e-3, "probabilities": 1e-4},
    # Rounded after every layer as a GPU does it: up to 0.020 of 20.8 and 0.0037 on TinyVGG D and ResNet-14, on a CPU.
    (CLASSIFICATION, "onnx", "fp16"): {"logits": 0.1, "probabilities": 0.02},
    # 8 bits a weight and an activation: up to 0.72 of 20.8 and 0.084 on TinyVGG D and ResNet-14, trained on digits.
    (CLASSIFICATION, "onnx", "int8"): {"logits": 1.5, "probabilities": 0.2},
    # Boxes in canvas pixels, scores, and as labels the share of all scores that belongs to boxes without a partner. A
    # box that lies within rounding of a threshold, or of the overlap at which another suppresses it, may be there or
    # not.
    (DETECTION, "torchscript", "fp32"): _BOXES,
    (DETECTION, "exported_program", "fp32"): _BOXES,
    (DETECTION, "onnx", "fp32"): _BOXES,
    (DETECTION, "aoti", "fp32"): _BOXES,
    # The network rounded after every layer as a GPU does it, emulated on a CPU; RetinaNet on drawn diatoms, 192x256.
    # 99 of 100 pairs are within 0.09 pixels and 8e-4. The others are flips: of two boxes of like scores that overlap
    # rounding decides which suppresses the other. Those are a tenth of a side apart, whatever rounds: up to 3.1 pixels,
    # 0.047 and 1.3 % on the probe, 6.1 and 0.17 on the test split, most of them where two views are fused. Twenty
    # pixels are for sides of 200. Flips hide what is typical, which `ON_TEST_SPLIT` holds much closer.
    (DETECTION, "onnx", "fp16"): {"boxes": 20.0, "scores": 0.3, "labels": 0.05},
}
"""(task, format, precision) -> output -> largest allowed difference from the eager model on the probe, measured by the
task's `differences`."""

# In any precision. In emulated float16 they were 0.011 and 1.6e-4 at most; to scale a last layer by 1.01 moves them to
# 0.16 or 4e-3.
_TYPICAL = {"boxes": 0.1, "scores": 2e-3}

ON_TEST_SPLIT: dict[tuple[str, str], Mapping[str, float]] = {
    # flips: share of the test images that may change class. In fp32 rounding alone flips an image only where two
    # classes tie to five digits; the smallest planted fault flips 1 in 70. drop: how much lower top-1 may be.
    (CLASSIFICATION, "fp32"): {"flips": 5e-4, "drop": 5e-4},
    (CLASSIFICATION, "fp16"): {"flips": 5e-3, "drop": 2e-3},
    (CLASSIFICATION, "int8"): {"flips": 0.05, "drop": 1e-2},
    # drop: how much lower mAP may be; in emulated float16 it moved by 1.5e-4 at most. unmatched: share of all scores
    # that may belong to boxes without a partner; in emulated float16 it was 0.4 % at most. boxes, scores: how far pairs
    # may differ on average, canvas pixels and score.
    (DETECTION, "fp32"): {"drop": 1e-3, "unmatched": 0.01, **_TYPICAL},
    (DETECTION, "fp16"): {"drop": 2e-3, "unmatched": 0.02, **_TYPICAL},
}
"""(task, precision) -> figure -> largest allowed change on the test split, in the figures that the task compares."""


def precisions_of(task: str) -> tuple[str, ...]:
    """Return the precisions in which ONNX graphs of a task can be exported."""
    return tuple(precision for name, form, precision in TOLERANCES if (name, form) == (task, "onnx"))
