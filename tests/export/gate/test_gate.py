"""The gate passes what was exported, and fails every fault planted in it."""

import copy
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import CLASSIFICATION, PLAIN, Artifact
from assay_export.formats import aoti, archive, torchscript
from assay_export.formats.registry import default_place
from assay_export.gate.gate import prove
from assay_export.gate.tolerances import TOLERANCES
from assay_export.gate.verdict import DOES_NOT_RUN, TASK, TENSORS, Verdict
from assay_export.precisions import fp16 as half
from assay_export.precisions import int8 as quantized
from assay_export.tasks.registry import TASKS


def judge(bundle, artifact, content: bytes, folder, tolerance: float | None = None) -> Verdict:
    """The gate's verdict on these bytes, put in the artifact's place with their hash in the manifest."""
    tolerances = {output: tolerance or each for output, each in artifact.tolerances.items()}
    altered = replace(artifact, sha256=sha256(content), tolerances=tolerances)
    (folder / artifact.path).write_bytes(content)
    artifacts = tuple(altered if one == artifact else one for one in bundle.manifest.artifacts)
    manifest = replace(bundle.manifest, artifacts=artifacts)
    reference = bundle.references[artifact.variant]
    return prove(
        folder,
        manifest,
        altered,
        default_place(altered, "cpu"),
        TASKS[CLASSIFICATION],
        bundle.probe,
        bundle.data,
        reference,
    )


# Faults in an ONNX graph, through the weight that a node of the plain graph uses.


def alter_onnx(change: Callable[[onnx.ModelProto, Callable[[str], np.ndarray]], None]) -> Callable[[bytes], bytes]:
    """A fault from a function that changes weights, which it gets by name as arrays it may write to."""

    def fault(content: bytes) -> bytes:
        model = onnx.load_model_from_string(content)
        initializers = {weight.name: weight for weight in model.graph.initializer}
        arrays: dict[str, np.ndarray] = {}

        def weight(name: str) -> np.ndarray:
            arrays[name] = numpy_helper.to_array(initializers[name]).copy()
            return arrays[name]

        change(model, weight)
        for name, array in arrays.items():
            initializers[name].CopyFrom(numpy_helper.from_array(array, name))
        return model.SerializeToString()

    return fault


def first_kernel(model: onnx.ModelProto) -> str:
    return next(node.input[1] for node in model.graph.node if node.op_type == "Conv")


def onnx_scaled_kernel(model, weight):
    kernel = weight(first_kernel(model))
    kernel *= 1.01


def onnx_swapped_channels(model, weight):
    kernel = weight(first_kernel(model))
    kernel[:] = kernel[:, ::-1].copy()


def onnx_wrong_mean(model, weight):
    mean = weight("model.mean")
    mean += 0.01


def onnx_not_a_number(model, weight):
    weight(first_kernel(model)).flat[0] = np.nan


def onnx_fixed_batch(model, weight):
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["unshaped" if name == output else name for name in node.output]
    model.graph.initializer.append(helper.make_tensor("fixed", TensorProto.INT64, [2], [19, 10]))
    model.graph.node.append(helper.make_node("Reshape", ["unshaped", "fixed"], [output]))


def view_matrices(model: onnx.ModelProto) -> tuple[str, str]:
    """Names of the weights ``[views, 1, 1, 32, 32]`` that make the views' rows and columns."""
    stored = {initializer.name for initializer in model.graph.initializer}
    used = [name for node in model.graph.node if node.op_type == "MatMul" for name in node.input]
    rows, columns = (name for name in used if name in stored)
    return rows, columns


def onnx_dropped_flip(model, weight):
    _, columns = map(weight, view_matrices(model))
    assert not np.array_equal(columns[0], columns[1])
    columns[1] = columns[0]


def onnx_dropped_size(model, weight):
    rows, columns = map(weight, view_matrices(model))
    assert not np.array_equal(rows[0], rows[2])
    rows[2], columns[2] = rows[0], columns[0]


# Faults in a TorchScript graph.


def alter_torchscript(change: Callable[[torch.jit.ScriptModule], torch.nn.Module | None]) -> Callable[[bytes], bytes]:
    """A fault from a function that changes the loaded module, or returns another one."""

    def fault(content: bytes) -> bytes:
        module = torchscript.load(content)
        with torch.no_grad():
            changed = change(module)
        buffer = io.BytesIO()
        torch.jit.save(module if changed is None else changed, buffer)
        return buffer.getvalue()

    return fault


def torchscript_scaled_kernel(module):
    next(module.parameters()).mul_(1.01)


def torchscript_swapped_channels(module):
    kernel = next(module.parameters())
    kernel.copy_(kernel.flip(1))


def torchscript_wrong_mean(module):
    module.model.mean.add_(0.01)


def torchscript_not_a_number(module):
    next(module.parameters()).view(-1)[0] = float("nan")


def torchscript_fixed_batch(module):
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, images):
            return self.module(images).view(19, 10)

    return torch.jit.trace(Fixed(), torch.zeros(19, 32, 32, 3, dtype=torch.uint8))


# Faults in an exported program.


def alter_program(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[bytes], bytes]:
    """A fault from a function that changes the loaded program's weights, by name."""

    def fault(content: bytes) -> bytes:
        program = torch.export.load(io.BytesIO(content))
        with torch.no_grad():
            change({**program.state_dict, **program.constants})
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        return archive.write(archive.read(buffer.getvalue()))

    return fault


def program_scaled_kernel(weights):
    next(weights[name] for name in weights if weights[name].ndim == 4).mul_(1.01)


def program_swapped_channels(weights):
    kernel = next(weights[name] for name in weights if weights[name].ndim == 4)
    kernel.copy_(kernel.flip(1))


def program_wrong_mean(weights):
    weights["model.mean"].add_(0.01)


def program_not_a_number(weights):
    next(weights[name] for name in weights if weights[name].ndim == 4).view(-1)[0] = float("nan")


# Faults in graphs of a lower precision, which are allowed more.


@pytest.fixture(scope="module")
def lowered(bundle) -> dict[str, tuple[Artifact, bytes]]:
    """The plain ONNX graph by precision; that in float16 is computed in float32 here, as a CPU does it."""
    artifact = bundle.manifest.artifact("onnx")
    content = (bundle.folder / artifact.path).read_bytes()
    contents = {"fp16": half.to_half(content, ()), "int8": quantized.quantize(content, bundle.data.train.images)}
    return {
        precision: (
            replace(artifact, precision=precision, tolerances=TOLERANCES[CLASSIFICATION, "onnx", precision]),
            content,
        )
        for precision, content in contents.items()
    }


def first_quantized(model: onnx.ModelProto) -> tuple[str, str]:
    """Names of the first kernel in 8 bits and of its scales."""
    made = {name: node for node in model.graph.node for name in node.output}
    kernel, scales, _ = made[first_kernel(model)].input
    return kernel, scales


def int8_scaled_kernel(model, weight):
    scales = weight(first_quantized(model)[1])
    scales *= 1.1


def int8_swapped_channels(model, weight):
    kernel = weight(first_quantized(model)[0])
    kernel[:] = kernel[:, ::-1].copy()


def int8_scales_of_other_channels(model, weight):
    scales = weight(first_quantized(model)[1])
    scales[:] = np.roll(scales, 1)


def int8_wrong_mean(model, weight):
    mean = weight("model.mean")
    mean += 0.1


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("position", range(9))
def test_what_was_exported_passes(bundle, position, tmp_path):
    artifact = bundle.manifest.artifacts[position]
    verdict = judge(bundle, artifact, (bundle.folder / artifact.path).read_bytes(), tmp_path)
    assert verdict.passed
    assert verdict.reasons == verdict.failures == ()
    (output,) = artifact.outputs
    assert verdict.differences[output] < verdict.tolerances[output] / 5, "too little room for another processor"
    assert verdict.relative[output] == pytest.approx(
        verdict.differences[output] / np.abs(bundle.references[artifact.variant].probe[output]).max()
    )
    assert verdict.task.agreement == 1
    assert verdict.task.difference == 0
    assert verdict.task.artifact == verdict.task.eager > (0.5 if artifact.dense is None else 0.1)  # never trained on
    assert len(verdict.worst) == 8


@pytest.mark.parametrize(
    ("path", "fault", "reason"),
    [
        ("model.onnx", alter_onnx(onnx_scaled_kernel), "logits differ by up to"),
        ("model.onnx", alter_onnx(onnx_swapped_channels), "logits differ by up to"),
        ("model.onnx", alter_onnx(onnx_wrong_mean), "logits differ by up to"),
        ("model.onnx", alter_onnx(onnx_not_a_number), "gives outputs that are not finite"),
        ("model.onnx", alter_onnx(onnx_fixed_batch), "does not run"),
        ("model.onnx", truncated, "does not run"),
        ("model_tta.onnx", alter_onnx(onnx_scaled_kernel), "probabilities differ by up to"),
        ("model_tta.onnx", alter_onnx(onnx_dropped_flip), "probabilities differ by up to"),
        ("model_tta.onnx", alter_onnx(onnx_dropped_size), "probabilities differ by up to"),
        ("model_dense.onnx", alter_onnx(onnx_scaled_kernel), "logits differ by up to"),
        ("model.torchscript", alter_torchscript(torchscript_scaled_kernel), "logits differ by up to"),
        ("model.torchscript", alter_torchscript(torchscript_swapped_channels), "logits differ by up to"),
        ("model.torchscript", alter_torchscript(torchscript_wrong_mean), "logits differ by up to"),
        ("model.torchscript", alter_torchscript(torchscript_not_a_number), "gives outputs that are not finite"),
        ("model.torchscript", alter_torchscript(torchscript_fixed_batch), "does not run"),
        ("model.torchscript", truncated, "does not run"),
        ("model_tta.torchscript", alter_torchscript(torchscript_scaled_kernel), "probabilities differ by up to"),
        ("exported.pt2", alter_program(program_scaled_kernel), "logits differ by up to"),
        ("exported.pt2", alter_program(program_swapped_channels), "logits differ by up to"),
        ("exported.pt2", alter_program(program_wrong_mean), "logits differ by up to"),
        ("exported.pt2", alter_program(program_not_a_number), "gives outputs that are not finite"),
        ("exported.pt2", truncated, "does not run"),
        ("exported_tta.pt2", alter_program(program_scaled_kernel), "probabilities differ by up to"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_planted_fault_fails(bundle, path, fault, reason, tmp_path):
    artifact = next(one for one in bundle.manifest.artifacts if one.path == path)
    verdict = judge(bundle, artifact, fault((bundle.folder / path).read_bytes()), tmp_path)
    assert not verdict.passed
    assert reason in verdict.reasons[0]
    assert verdict.failures[0] == (TENSORS if "differ" in reason else DOES_NOT_RUN)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_was_lowered_passes(bundle, lowered, precision, tmp_path):
    artifact, content = lowered[precision]
    assert judge(bundle, artifact, content, tmp_path).passed


@pytest.mark.parametrize(
    ("precision", "fault"),
    [
        ("fp16", onnx_scaled_kernel),
        ("fp16", onnx_swapped_channels),
        ("fp16", onnx_wrong_mean),
        ("int8", int8_scaled_kernel),
        ("int8", int8_swapped_channels),
        ("int8", int8_scales_of_other_channels),
        ("int8", int8_wrong_mean),
    ],
)
def test_planted_fault_fails_in_a_lower_precision(bundle, lowered, precision, fault, tmp_path):
    artifact, content = lowered[precision]
    verdict = judge(bundle, artifact, alter_onnx(fault)(content), tmp_path)
    assert verdict.failures[0] == TENSORS


@pytest.mark.slow
def test_planted_fault_fails_in_a_compiled_package(bundle, tmp_path):
    faulty = copy.deepcopy(bundle.graphs[PLAIN])
    with torch.no_grad():
        next(each for each in faulty.parameters() if each.ndim == 4).mul_(1.01)
    plain = bundle.manifest.artifact("onnx")
    artifact = replace(plain, format="aoti", path="aoti-cpu.pt2", tolerances=TOLERANCES[CLASSIFICATION, "aoti", "fp32"])
    verdict = judge(bundle, artifact, aoti.export(faulty, bundle.probe[:2], "cpu"), tmp_path)
    assert verdict.failures[0] == TENSORS


def test_altered_file_under_the_old_hash_fails(bundle, tmp_path):
    artifact = bundle.manifest.artifact("onnx")
    content = alter_onnx(onnx_scaled_kernel)((bundle.folder / artifact.path).read_bytes())
    (tmp_path / artifact.path).write_bytes(content)
    reference = bundle.references[artifact.variant]
    verdict = prove(
        tmp_path,
        bundle.manifest,
        artifact,
        default_place(artifact, "cpu"),
        TASKS[CLASSIFICATION],
        bundle.probe,
        bundle.data,
        reference,
    )
    assert not verdict.passed
    assert "sha256" in verdict.reasons[0]


def test_changed_answers_fail_whatever_the_probe_says(bundle, tmp_path):
    def favour_the_last_class(model, weight):
        bias = weight(model.graph.node[-1].input[2])
        bias[-1] += 5

    artifact = bundle.manifest.artifact("onnx")
    content = alter_onnx(favour_the_last_class)((bundle.folder / artifact.path).read_bytes())
    verdict = judge(bundle, artifact, content, tmp_path, tolerance=1e6)
    assert verdict.failures == (TASK,)
    task, n = verdict.task, len(bundle.data.test)
    assert verdict.reasons[0] == f"{len(task.flipped)} of {n} test images change class, allowed 1"
    assert verdict.reasons[1].startswith("top-1 falls from")
    assert task.agreement == pytest.approx(1 - len(task.flipped) / n)
    assert task.difference == pytest.approx(task.artifact - task.eager)
    low, high = task.interval
    assert -1 <= low < task.difference < high < 0
    names = dict(zip(bundle.data.test.names, bundle.data.test.labels.tolist(), strict=True))
    for flip in task.flipped:
        assert flip.artifact == "9" != flip.eager
        assert flip.label == bundle.data.classes[names[flip.name]]
        assert 0 <= flip.margin <= 5.01
    flipped = {flip.name for flip in task.flipped}
    assert {each.name for each in verdict.worst} <= flipped
    assert all(each.artifact.startswith("9 ") for each in verdict.worst)


def test_test_split_leaves_a_last_smaller_batch(bundle):
    assert 0 < len(bundle.data.test) % TASKS[CLASSIFICATION].batch < TASKS[CLASSIFICATION].batch


def test_every_artifact_has_its_formats_tolerance(bundle):
    for artifact in bundle.manifest.artifacts:
        (output,) = artifact.outputs
        assert artifact.tolerances == {output: TOLERANCES[CLASSIFICATION, artifact.format, artifact.precision][output]}
