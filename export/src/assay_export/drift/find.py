"""Find the first layer at which an artifact parts from the model it was exported from, and show it.

Both are run on the same images, and every tensor of the model is looked for among those of the artifact
(`assay_export.drift.match`), by what it holds: files keep no names of layers. Where the trail is lost, weights and
whole tensors tell what the difference looks like (`assay_export.drift.evidence`).
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
from assay_export.drift.match import TOLERANCE, TensorMatch, counterpart, first_lost, has_norms, match, norm_after
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
"""Format -> what shows every tensor inside a file of it."""

IMAGES = 2
"""Looked into, those whose outputs are farthest apart: more would only cost memory."""

Compare = Callable[[Outputs, Outputs], dict[str, float]]
"""Of each output, how far the artifact's and the model's are apart; see `assay_deploy.tasks.task.Task.differences`."""

REASON = 300
"""Characters of an engine's own error that are kept."""


@dataclass(frozen=True)
class Drift:
    """Where an artifact parts from the model.

    Attributes:
        layer: the first whose output is another.
        beside: a layer folded into one with it, that could as well be the one; None if there is no doubt.
        operation: the ATen operator whose result is compared.
        counterpart: name and operator of the artifact's nearest tensor.
        difference: largest absolute difference of the two.
        relative: the same as a part of the largest value.
        index: where it is, in the model's tensor.
        eager, artifact: the values there.
        agreeing, compared: how many of the model's tensors the artifact has, of how many.
        rounding: largest relative difference of those it has.
        evidence: what the difference looks like, in words.
        files: the script that shows it and what it reads, by name.
    """

    layer: Location
    beside: Location | None
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
    """Find where an artifact parts from the model, on the CPU.

    Args:
        graph: the eager model, in eval mode.
        form: the artifact's format, as the manifest names it.
        content: the artifact.
        images: uint8 ``[batch, height, width, 3]``; the images that differ most are looked into.
        tolerances: by the names of the outputs, in their order: the gate's.
        path: what the script calls the artifact.
        compare: how far outputs are apart, by name: the task's.

    Returns:
        None if the outputs are within the tolerances.

    Raises:
        ExportError: a format whose inside cannot be seen.
    """
    if form not in SOURCES:
        raise ExportError(f"the inside of a file of the format {form} cannot be seen")
    model, artifact = TorchSource(graph), SOURCES[form](content)
    expected, found = model.run(images), artifact.run(images)
    apart = [_apart(expected, found, tolerances, image, compare) for image in range(len(images))]
    if max(apart) <= 1:
        return None
    worst = sorted(range(len(images)), key=lambda i: -apart[i])[:IMAGES]
    return _Comparison.make(graph, artifact, images[worst]).drift(path)


def explain(folder: Path, manifest: Manifest, verdict: "Verdict", graph: nn.Module, probe: Tensor) -> str:
    """Say in a few lines where an artifact that failed the gate parts from the model, and leave a script that shows it.

    The script is written to ``<folder>/drift/<artifact>/reproduce.py``.

    Args:
        folder: where the artifact is.
        manifest: of that folder.
        verdict: the gate's.
        graph: the eager model, looking at as many views.
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
    except Exception as error:  # whatever a broken graph makes its engine raise
        return f"  its tensors cannot be compared, for it does not run: {' '.join(str(error).split())[:REASON]}\n"
    if drift is None:
        return (
            f"  on the CPU, without the engine's own optimisations, {artifact.path} gives what the model gives on the "
            "probe:\n  what is wrong shows only on other images, another device or with those optimisations\n"
        )
    return describe(drift, write(drift, folder / "drift" / artifact.path))


def write(drift: Drift, folder: Path) -> Path:
    """Write the script and what it reads into a folder, which is made; returns the script."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in drift.files.items():
        (folder / name).write_bytes(content)
    return folder / drift_script.SCRIPT


def describe(drift: Drift, script: Path) -> str:
    """Say it in lines for a terminal."""
    beside = f", folded with {drift.beside}, from which it cannot be told" if drift.beside else ""
    worst = f"{drift.artifact:.6g} instead of {drift.eager:.6g} at {list(drift.index)}"
    tensors = f"{drift.agreeing} of the model's {drift.compared} tensors"
    lines = [
        f"it parts from the model at {drift.layer}{beside}",
        f"run by {drift.layer.where}; compared: {drift.operation} with {drift.counterpart} of the artifact",
        f"difference: {worst}, {drift.relative:.2g} of the largest value",
        *(f"evidence: {each}" for each in drift.evidence),
        f"{tensors} are in the artifact, up to {drift.rounding:.1g} of the largest value apart",
        f"to see it: python {script}",
    ]
    return "".join(f"  {line}\n" for line in lines)


def _apart(
    expected: list[Array], found: list[Array], tolerances: Mapping[str, float], image: int, compare: Compare
) -> float:
    """How far an image's outputs are apart, in tolerances; infinite where one is no number."""
    by_name = [
        {name: each[image : image + 1] for name, each in zip(tolerances, answers, strict=True)}
        for answers in (found, expected)
    ]
    parts = [each / tolerances[name] for name, each in compare(by_name[0], by_name[1]).items()]
    return float(np.nan_to_num(np.max(parts), nan=np.inf))


@dataclass(frozen=True)
class _Comparison:
    """Model and artifact side by side, and where they part.

    Attributes:
        graph: the model.
        sources, traces: the model's and the artifact's.
        images: looked into.
        found: which tensors are the same.
        first: the model's first tensor that is lost.
        end: the one that is compared: `first`, or that of the BatchNorm folded into its layer.
        other: the artifact's counterpart of `end`; None if it has none.
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
        first = first_lost(one, found)
        end = first if has_norms(other) else norm_after(one, first)
        return cls(
            graph, sources, (one, other), images, found, first, end, counterpart(one.values[end], other, found.known)
        )

    def drift(self, path: str) -> Drift:
        """Compare whole arrays, and write the script."""
        (one, other), end, opposite = self.traces, self.end, self.other
        if opposite is None:
            # Nothing to compare with before the outputs.
            end, opposite = one.outputs[0], other.outputs[0]
        parts = (
            part(one, end, {index for index, each in enumerate(self.found.found) if each}),
            part(other, opposite, self.found.known),
        )
        same = {index: self._same(index) for index in parts[1].inputs}
        kept = (
            self.sources[0].trace(self.images, {end, *parts[0].inputs, *same.values()}).kept,
            self.sources[1].trace(self.images, {opposite, *parts[1].inside, *parts[1].inputs}).kept,
        )
        expected, found = kept[0][end], kept[1][opposite].reshape(kept[0][end].shape)
        layer, beside, evidence = self._evidence(parts, kept, expected, found)
        apart = np.abs(expected.astype(np.float64) - found)
        index = np.unravel_index(int(np.nan_to_num(apart, nan=np.inf).argmax()), apart.shape)
        given = {i: kept[0][same[i]].reshape(other.values[i].shape) for i in parts[1].inputs}
        source = self.sources[1] if isinstance(self.sources[1], OnnxSource) else None
        agreeing = [self.found.errors[i] for i, each in enumerate(self.found.found) if each]
        return Drift(
            layer=layer,
            beside=beside,
            operation=one.values[end].op,
            counterpart=str(other.values[opposite]),
            difference=float(apart[index]),
            relative=error(expected, found),
            index=tuple(int(each) for each in index),
            eager=float(expected[index]),
            artifact=float(found[index]),
            agreeing=len(agreeing),
            compared=sum(self.found.informative),
            rounding=max(agreeing, default=0.0),
            evidence=evidence,
            files=drift_script.files(
                path, str(layer), TOLERANCE, (one, parts[0], kept[0]), (other, parts[1], given), source
            ),
        )

    def _same(self, index: int) -> int:
        """The model's tensor that the artifact's is, for both sides to get the same numbers."""
        return next((i for i, each in enumerate(self.found.found) if index in each), 0)

    def _evidence(
        self, parts: tuple[Part, Part], kept: tuple[dict[int, Array], dict[int, Array]], expected: Array, found: Array
    ) -> tuple[Location, Location | None, tuple[str, ...]]:
        """The layer, one that it cannot be told from, and what the difference looks like."""
        one = self.traces[0]
        layer, norm = (one.values[index].place for index in (self.first, self.end))
        assert layer is not None
        assert norm is not None
        if self.other is None:
            shape = list(one.values[self.end].shape)
            return (
                layer,
                None,
                (f"nothing in the artifact corresponds to its output {shape}; the outputs are compared",),
            )
        said = []
        if (after := self._after(layer)) is not None:
            said.append(f"what '{after}' is given is already different")
        for index in parts[1].inside[:-1]:
            for given in parts[0].inputs:
                if one.values[given].sketch is not None and kept[1][index].shape == kept[0][given].shape:
                    what = rearrangement(kept[0][given], kept[1][index])
                    said += [f"before it, the artifact changes what it gets: {what}"] if what else []
        eps = epsilon(self.graph.get_submodule(norm.name), expected, found)
        what = eps or relation(expected, found)
        if self.first == self.end:
            said += [what] if what else []
            return layer, None, (*said, *self._weights(parts))
        if not np.isfinite(found).all() or affine(expected, found) is None:
            # BatchNorm is a scale and a shift of each channel, and cannot do this.
            return layer, None, (*said, *([what] if what else []), *self._weights(parts))
        return norm, None if eps else layer, (*said, what or "")

    def _weights(self, parts: tuple[Part, Part]) -> list[str]:
        """Say which of the layer's weights the artifact holds otherwise."""
        one, other = self.traces
        expected = self.sources[0].weights(one, parts[0].inside)
        if self.first != self.end:
            # Of a folded layer the kernel is left, times what BatchNorm scales it by.
            place, last = (one.values[index].place for index in (self.first, self.end))
            assert place is not None
            assert last is not None
            kernel, norm = f"{place.name}.weight", self.graph.get_submodule(last.name)
            assert isinstance(norm, nn.Module)
            expected = {kernel: folded(expected[kernel], norm)} if kernel in expected else {}
        return constants(expected, list(self.sources[1].weights(other, parts[1].inside).values()))

    def _after(self, layer: Location) -> str | None:
        """The first module inside this one that runs after the drift, if its own code does the drifting."""
        prefix = f"{layer.name}." if layer.name else ""
        for value in self.traces[0].values[self.first :]:
            name = value.place.name if value.place else ""
            if name.startswith(prefix) and name != layer.name:
                return prefix + name.removeprefix(prefix).partition(".")[0]
        return None
