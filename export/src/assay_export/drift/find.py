"""Find the first layer whose output differs between an artifact and its model, and write a script that reproduces it.

Both are run on the same images, and every tensor of the model is searched for among those of the artifact
(`assay_export.drift.match`), by its values, since files have no names of layers. At the first tensor that is missing,
weights and whole tensors are compared to describe the difference (`assay_export.drift.evidence`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from assay_deploy.bundle.difference import largest_differences
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.tasks.registry import TASKS
from assay_export.drift import script as drift_script
from assay_export.drift.evidence import affine, constants, epsilon, folded, rearrangement, relation
from assay_export.drift.match import TOLERANCE, TensorMatch, counterpart, first_missing, has_norms, match, norm_after
from assay_export.drift.onnx_source import OnnxSource
from assay_export.drift.script import Part, part
from assay_export.drift.torch_source import TorchSource
from assay_export.drift.trace import Array, Location, TensorSource, Trace, error
from assay_export.errors import ExportError
from assay_export.formats import exported_program, torchscript
from assay_export.formats.runner import Outputs
from assay_export.gate.verdict import Verdict

SOURCES: Mapping[str, Callable[[bytes], TensorSource]] = {
    "onnx": OnnxSource,
    "torchscript": lambda content: TorchSource(torchscript.load(content)),
    "exported_program": lambda content: TorchSource(exported_program.load(content)),
}
"""Format -> function that loads its file for tracing."""

IMAGES = 2
"""Number of images that are traced, those whose outputs differ most; more would only need more memory."""

Compare = Callable[[Outputs, Outputs], dict[str, float]]
"""Differences of each output, from the artifact's and the model's; see `assay_deploy.tasks.task.Task.differences`."""

REASON = 300
"""Largest number of characters quoted from an engine's error message."""


@dataclass(frozen=True)
class Drift:
    """First difference between an artifact and the model.

    Attributes:
        layer: first layer whose output differs.
        alternative: layer that was folded together with `layer` and may be the faulty one instead; None if there is
            no such layer.
        operation: the ATen operator whose result is compared.
        counterpart: name and operator of the artifact's tensor that it is compared with.
        difference: largest absolute difference of the two tensors.
        relative: the same as a fraction of the largest value.
        index: index of that element in the model's tensor.
        eager, artifact: values of that element.
        agreeing, compared: number of the model's tensors that the artifact has, and number of those compared.
        rounding: largest relative difference of the agreeing tensors.
        evidence: descriptions of the difference.
        files: contents of the script that reproduces it and of the files that it reads, by name.
    """

    layer: Location
    alternative: Location | None
    operation: str
    counterpart: str
    difference: float
    relative: float
    index: tuple[int, ...]
    eager: float
    artifact: float
    agreeing: int
    compared: int
    rounding: float
    evidence: tuple[str, ...]
    files: Mapping[str, bytes]


def find_drift(
    graph: nn.Module,
    form: str,
    content: bytes,
    images: Tensor,
    tolerances: Mapping[str, float],
    path: str = "artifact",
    compare: Compare = largest_differences,
) -> Drift | None:
    """Find the first layer whose output differs between an artifact and the model, on the CPU.

    Args:
        graph: the eager model, in eval mode.
        form: the artifact's format, as the manifest names it.
        content: the artifact's main file.
        images: uint8 ``[batch, height, width, 3]``; those whose outputs differ most are traced.
        tolerances: the gate's tolerances by the names of the outputs, in the order of the outputs.
        path: name of the artifact in the script.
        compare: the task's differences of outputs.

    Returns:
        The first difference; None if the outputs are within the tolerances.

    Raises:
        ExportError: files of this format cannot be traced.
    """
    if form not in SOURCES:
        raise ExportError(f"files of the format {form} cannot be traced, so the layer that differs cannot be found")
    model, artifact = TorchSource(graph), SOURCES[form](content)
    expected, found = model.run(images), artifact.run(images)
    differences = [_difference(expected, found, tolerances, image, compare) for image in range(len(images))]
    if max(differences) <= 1:
        return None
    worst = sorted(range(len(images)), key=lambda i: -differences[i])[:IMAGES]
    return _Comparison.make(graph, artifact, images[worst]).drift(path)


def explain(folder: Path, manifest: Manifest, verdict: "Verdict", graph: nn.Module, probe: Tensor) -> str:
    """Describe in a few lines the first layer that differs in a failed artifact, and write a script that reproduces it.

    The script is written to ``<folder>/drift/<artifact>/reproduce.py``.

    Args:
        folder: the artifact's folder.
        manifest: the manifest of that folder.
        verdict: the gate's verdict on the artifact.
        graph: the eager model of the same variant.
        probe: uint8 ``[images, height, width, 3]``.
    """
    artifact = next(each for each in manifest.artifacts if each.path == verdict.path)
    content = (folder / artifact.path).read_bytes()
    try:
        drift = find_drift(
            graph, artifact.format, content, probe, artifact.tolerances, artifact.path, TASKS[manifest.task].differences
        )
    except ExportError as error:
        return f"  {error}\n"
    except Exception as error:  # an engine may raise anything for a broken graph
        return f"  its tensors cannot be compared, since it does not run: {' '.join(str(error).split())[:REASON]}\n"
    if drift is None:
        return (
            f"  on the CPU, without the engine's optimisations, {artifact.path} agrees with the model on the probe:\n"
            "  the difference occurs only on other images, on another device or with those optimisations\n"
        )
    return describe(drift, write(drift, folder / "drift" / artifact.path))


def write(drift: Drift, folder: Path) -> Path:
    """Write the script and the files that it reads into a folder, which is created; return the script's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in drift.files.items():
        (folder / name).write_bytes(content)
    return folder / drift_script.SCRIPT


def describe(drift: Drift, script: Path) -> str:
    """Describe a drift in lines for a terminal."""
    alternative = f"; it may also be {drift.alternative}, folded into the same weights" if drift.alternative else ""
    worst = f"{drift.artifact:.6g} instead of {drift.eager:.6g} at {list(drift.index)}"
    tensors = f"{drift.agreeing} of {drift.compared} tensors of the model"
    lines = [
        f"first layer that differs from the model: {drift.layer}{alternative}",
        f"at {drift.layer.where}; compared: {drift.operation} with {drift.counterpart} of the artifact",
        f"difference: {worst}, {drift.relative:.2g} of the largest value",
        *(f"evidence: {each}" for each in drift.evidence),
        f"{tensors} are in the artifact and differ by at most {drift.rounding:.1g} of the largest value",
        f"to reproduce it: python {script}",
    ]
    return "".join(f"  {line}\n" for line in lines)


def _difference(
    expected: list[Array], found: list[Array], tolerances: Mapping[str, float], image: int, compare: Compare
) -> float:
    """Return the largest difference of an image's outputs, as a multiple of the tolerance; infinite for NaN."""
    by_name = [
        {name: each[image : image + 1] for name, each in zip(tolerances, answers, strict=True)}
        for answers in (found, expected)
    ]
    parts = [each / tolerances[name] for name, each in compare(by_name[0], by_name[1]).items()]
    return float(np.nan_to_num(np.max(parts), nan=np.inf))


@dataclass(frozen=True)
class _Comparison:
    """Comparison of the tensors of a model and an artifact.

    Attributes:
        graph: the eager model.
        sources, traces: sources and traces of the model and of the artifact.
        images: the traced images, uint8 ``[images, height, width, 3]``.
        found: tensors of the model that the artifact has.
        first: index of the model's first tensor that the artifact does not have.
        end: index of the model's tensor that is compared: `first`, or the output of the BatchNorm folded into its
            layer.
        other: index of the artifact's counterpart of `end`; None if there is none.
    """

    graph: nn.Module
    sources: tuple[TorchSource, TensorSource]
    traces: tuple[Trace, Trace]
    images: Tensor
    found: TensorMatch
    first: int
    end: int
    other: int | None

    @classmethod
    def make(cls, graph: nn.Module, artifact: TensorSource, images: Tensor) -> "_Comparison":
        sources = TorchSource(graph), artifact
        one, other = (source.trace(images) for source in sources)
        found = match(one, other)
        first = first_missing(one, found)
        end = first if has_norms(other) else norm_after(one, first)
        return cls(
            graph, sources, (one, other), images, found, first, end, counterpart(one.values[end], other, found.known)
        )

    def drift(self, path: str) -> Drift:
        """Compare whole arrays, and make the script for an artifact of that name."""
        (one, other), end, opposite = self.traces, self.end, self.other
        if opposite is None:
            # Only the outputs can be compared.
            end, opposite = one.outputs[0], other.outputs[0]
        parts = (
            part(one, end, {index for index, each in enumerate(self.found.found) if each}),
            part(other, opposite, self.found.known),
        )
        same = {index: self._same(index) for index in parts[1].inputs}
        retained = (
            self.sources[0].trace(self.images, {end, *parts[0].inputs, *same.values()}).retained,
            self.sources[1].trace(self.images, {opposite, *parts[1].inside, *parts[1].inputs}).retained,
        )
        expected, found = retained[0][end], retained[1][opposite].reshape(retained[0][end].shape)
        layer, alternative, evidence = self._evidence(parts, retained, expected, found)
        difference = np.abs(expected.astype(np.float64) - found)
        index = np.unravel_index(int(np.nan_to_num(difference, nan=np.inf).argmax()), difference.shape)
        given = {i: retained[0][same[i]].reshape(other.values[i].shape) for i in parts[1].inputs}
        source = self.sources[1] if isinstance(self.sources[1], OnnxSource) else None
        agreeing = [self.found.errors[i] for i, each in enumerate(self.found.found) if each]
        return Drift(
            layer=layer,
            alternative=alternative,
            operation=one.values[end].op,
            counterpart=str(other.values[opposite]),
            difference=float(difference[index]),
            relative=error(expected, found),
            index=tuple(int(each) for each in index),
            eager=float(expected[index]),
            artifact=float(found[index]),
            agreeing=len(agreeing),
            compared=sum(self.found.informative),
            rounding=max(agreeing, default=0.0),
            evidence=evidence,
            files=drift_script.script_files(
                path, str(layer), TOLERANCE, (one, parts[0], retained[0]), (other, parts[1], given), source
            ),
        )

    def _same(self, index: int) -> int:
        """Return the index of the model's tensor that equals the artifact's, so that both sides get the same inputs."""
        return next((i for i, each in enumerate(self.found.found) if index in each), 0)

    def _evidence(
        self,
        parts: tuple[Part, Part],
        retained: tuple[dict[int, Array], dict[int, Array]],
        expected: Array,
        found: Array,
    ) -> tuple[Location, Location | None, tuple[str, ...]]:
        """Return the layer that differs, an alternative to it or None, and descriptions of the difference."""
        one = self.traces[0]
        layer, norm = (one.values[index].place for index in (self.first, self.end))
        assert layer is not None
        assert norm is not None
        if self.other is None:
            shape = list(one.values[self.end].shape)
            return (
                layer,
                None,
                (f"no tensor of the artifact corresponds to its output {shape}, so the model's outputs are compared",),
            )
        messages = []
        if (after := self._after(layer)) is not None:
            messages.append(f"the input of '{after}' already differs")
        for index in parts[1].inside[:-1]:
            for given in parts[0].inputs:
                if one.values[given].sketch is not None and retained[1][index].shape == retained[0][given].shape:
                    what = rearrangement(retained[0][given], retained[1][index])
                    messages += [f"before this layer, the artifact changes the layer's input: {what}"] if what else []
        eps = epsilon(self.graph.get_submodule(norm.name), expected, found)
        what = eps or relation(expected, found)
        if self.first == self.end:
            messages += [what] if what else []
            return layer, None, (*messages, *self._weights(parts))
        if not np.isfinite(found).all() or affine(expected, found) is None:
            # BatchNorm scales and shifts each channel, so it cannot be the cause.
            return layer, None, (*messages, *([what] if what else []), *self._weights(parts))
        return norm, None if eps else layer, (*messages, what or "")

    def _weights(self, parts: tuple[Part, Part]) -> list[str]:
        """Describe which of the layer's weights differ in the artifact."""
        one, other = self.traces
        expected = self.sources[0].weights(one, parts[0].inside)
        if self.first != self.end:
            # Folding leaves the layer's kernel, multiplied by the scale of BatchNorm.
            place, last = (one.values[index].place for index in (self.first, self.end))
            assert place is not None
            assert last is not None
            kernel, norm = f"{place.name}.weight", self.graph.get_submodule(last.name)
            assert isinstance(norm, nn.Module)
            expected = {kernel: folded(expected[kernel], norm)} if kernel in expected else {}
        return constants(expected, list(self.sources[1].weights(other, parts[1].inside).values()))

    def _after(self, layer: Location) -> str | None:
        """Return the first submodule of a layer that runs after the drift; None if there is none."""
        prefix = f"{layer.name}." if layer.name else ""
        for value in self.traces[0].values[self.first :]:
            name = value.place.name if value.place else ""
            if name.startswith(prefix) and name != layer.name:
                return prefix + name.removeprefix(prefix).partition(".")[0]
        return None
