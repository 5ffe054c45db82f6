"""Write a standalone script that reproduces a drift: the layer as plain operators, with its weights and inputs."""

import io
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay_export.drift.onnx_source import OnnxSource
from assay_export.drift.trace import ConstantValue, Ref, Trace

Array = NDArray[Any]

SCRIPT, INPUTS, MODEL = "reproduce.py", "inputs.npz", "layer.onnx"

_HEAD = '''\
"""Reproduce the first difference between {path} and the model it was exported from: {title}.

It needs Python, numpy, torch{needs}. Model and artifact get the same inputs, the last tensors that agree.
The script prints the largest difference of their results, and exits with 1 if it is more than rounding.
"""

import sys
from pathlib import Path

import numpy as np
{imports}
TOLERANCE = {tolerance!r}  # of the largest value

HERE = Path(__file__).parent


def stored(name):
    """Return an input or a weight."""
    with np.load(HERE / {inputs!r}, allow_pickle=False) as arrays:
        return arrays[name]


'''

_ONNX = '''\
def artifact():
    """Compute the same part of the ONNX graph, in ONNX Runtime without optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(HERE / {model!r}), options, providers=["CPUExecutionProvider"])
    feeds = {feeds}
    return session.run(None, feeds)[0]
'''

_TAIL = """\


if __name__ == "__main__":
    expected, found = eager(), artifact()
    found = found.reshape(expected.shape)
    difference = np.abs(expected.astype(np.float64) - found)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    relative = difference.max() / np.abs(expected).max()
    print(f"eager {expected[worst]:.6g}, artifact {found[worst]:.6g} at {[int(each) for each in worst]}: the largest")
    print(f"difference of {expected.size} values, {difference.max():.3g}, {relative:.3g} of the largest value")
    differ = not relative <= TOLERANCE
    print("they differ" if differ else "they are the same")
    sys.exit(differ)
"""


@dataclass(frozen=True)
class Part:
    """A part of a trace: values, and the inputs that they are computed from.

    Attributes:
        inside: indices of the values that are computed, in order; the last one is the result.
        inputs: indices of the values that they are computed from.
    """

    inside: tuple[int, ...]
    inputs: tuple[int, ...]


def part(trace: Trace, end: int, known: Collection[int]) -> Part:
    """Return the part of a trace that computes the value `end` from known values and the images."""
    inside, inputs, waiting = set(), set(), [end]
    while waiting:
        index = waiting.pop()
        value = trace.values[index]
        if index != end and (index in known or not value.parents or (value.place and value.call is None)):
            inputs.add(index)
        elif index not in inside:
            inside.add(index)
            waiting.extend(value.parents)
    return Part(tuple(sorted(inside)), tuple(sorted(inputs)))


def script_files(
    path: str,
    title: str,
    tolerance: float,
    eager: tuple[Trace, Part, dict[int, Array]],
    artifact: tuple[Trace, Part, dict[int, Array]],
    onnx_source: OnnxSource | None,
) -> dict[str, bytes]:
    """Return the contents of the script and of the files that it reads, by file name.

    Args:
        path: name of the artifact.
        title: name of the layer that differs.
        tolerance: see `assay_export.drift.match.TOLERANCE`.
        eager: the model's trace, the part to reproduce, and the arrays of its inputs by index.
        artifact: the same for the artifact.
        onnx_source: the artifact if it is an ONNX graph, else None.
    """
    arrays: dict[str, Array] = {}
    code = _function("eager", "Compute the layer as the model does", *eager, arrays)
    if onnx_source is None:
        code += "\n\n" + _function("artifact", "Compute the same part of the artifact", *artifact, arrays)
    else:
        trace, inside, given = artifact
        names = {trace.values[index].name: f"artifact_{index}" for index in inside.inputs}
        arrays |= {f"artifact_{index}": given[index] for index in inside.inputs}
        feeds = ", ".join(f"{name!r}: stored({stored!r})" for name, stored in names.items())
        code += "\n\n" + _ONNX.format(model=MODEL, feeds="{" + feeds + "}")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    packages = ["onnxruntime"] * (onnx_source is not None) + ["torch"]
    packages += ["torchvision"] * ("torch.ops.torchvision." in code)  # whose import registers its operators
    needs = "".join(f", {each}" for each in packages if each != "torch")
    imports = "".join(f"import {each}\n" for each in packages)
    head = _HEAD.format(path=path, title=title, tolerance=tolerance, inputs=INPUTS, needs=needs, imports=imports)
    written = {SCRIPT: (head + code + _TAIL).encode(), INPUTS: buffer.getvalue()}
    if onnx_source is not None:
        shown, inside, given = artifact
        inputs = {shown.values[index].name: given[index] for index in inside.inputs}
        written[MODEL] = onnx_source.extract(inputs, shown.values[inside.inside[-1]].name)
    return written


def _function(
    name: str, claim: str, trace: Trace, inside: Part, given: dict[int, Array], arrays: dict[str, Array]
) -> str:
    """Return Python code that repeats the calls of a part; the arrays that it reads are added to `arrays`."""
    lines = [f"def {name}():", f'    """{claim}."""']
    for index in inside.inputs:
        arrays[f"{name}_{index}"] = given[index]
        lines.append(f"    v{index} = torch.from_numpy(stored('{name}_{index}'))")
    weights: dict[int, str] = {}

    def text(leaf: Any) -> str:
        if isinstance(leaf, tuple | list):
            return f"[{', '.join(map(text, leaf))}]"
        if isinstance(leaf, Ref):
            return f"v{leaf.index}"
        if not isinstance(leaf, ConstantValue):
            return _literal(leaf)
        if id(leaf.tensor) not in weights:
            weights[id(leaf.tensor)] = variable = f"w{len(weights)}"
            key = f"{name}_{variable}_{leaf.name or 'constant'}"
            arrays[key] = leaf.tensor.detach().numpy()
            lines.append(f"    {variable} = torch.from_numpy(stored({key!r}))")
        return weights[id(leaf.tensor)]

    for index in inside.inside:
        value = trace.values[index]
        assert value.call is not None
        call = value.call
        arguments = [text(each) for each in call.arguments]
        arguments += [f"{key}={text(each)}" for key, each in call.keywords.items()]
        picked = "" if call.output is None else f"[{call.output}]"
        place = f"  # {value.place}" if value.place and value.place.name else ""
        # Inputs are stored contiguously, whatever their strides were, so a view may not be possible any more.
        function = str(call.function).replace("aten.view.default", "aten.reshape.default")
        lines.append(f"    v{index} = torch.ops.{function}({', '.join(arguments)}){picked}{place}")
    return "\n".join([*lines, f"    return v{inside.inside[-1]}.numpy()", ""])


def _literal(value: Any) -> str:
    """Return Python code for an argument that is not a tensor."""
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)
