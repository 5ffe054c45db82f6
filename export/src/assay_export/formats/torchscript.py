"""Export a graph to TorchScript by tracing; libtorch runs it without Python."""

import io
import json
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay_export.errors import loading_error
from assay_export.formats import archive
from assay_export.formats.format import ArtifactFiles, Format, Request, run_by_torch, torch_only

ORIGIN = "assay.json"
"""Name of the extra file with the origin of the model."""

_MANGLED = re.compile(rb"___torch_mangle_\d+")


def export(graph: nn.Module, images: Tensor, origin: Mapping[str, str]) -> bytes:
    """Trace a graph to TorchScript.

    The same graph and origin give the same bytes with the same version of torch.

    Args:
        graph: module in eval mode.
        images: example images, uint8 ``[batch, height, width, 3]``.
        origin: origin of the model, stored as JSON in the extra file `ORIGIN`.

    Returns:
        The archive that ``torch.jit.load`` and libtorch read.
    """
    buffer = io.BytesIO()
    extra = {ORIGIN: json.dumps(dict(origin), sort_keys=True).encode()}
    _forget_classes()
    with torch.no_grad(), _quiet():
        # torch's own check runs the trace once on the same images, and its tracer warns of possible constants; the
        # gate checks more, and finds real ones.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.jit.save(torch.jit.trace(graph, images, check_trace=False), buffer, _extra_files=extra)
    records = archive.read(buffer.getvalue())
    # Debug records name this machine's source files. Without them error messages have no Python line.
    return archive.write(_renumbered({name: each for name, each in records.items() if not name.endswith(".debug_pkl")}))


def load(content: bytes, device: str = "cpu") -> torch.jit.ScriptModule:
    """Load a traced graph, in eval mode.

    The operators of the program are not checked. Tensors that reach beyond their bytes are rejected, since torch would
    read other memory or crash.

    Raises:
        ExportError: the file is damaged, or torch cannot load it on that device.
    """
    try:
        records = archive.read(content)
        for name, record in records.items():
            if name.endswith(("/data.pkl", "/constants.pkl")):  # the third, of traced inputs, has no bytes on purpose
                _Tensors(record, name.removesuffix(".pkl"), records).load()
        with _quiet():
            module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(archive.write(records)), map_location=device)
        return module.eval()
    except Exception as error:  # errors of a C++ parser, which share no base class
        raise loading_error(error) from error


class _Tensors(pickle.Unpickler):
    """Unpickler that checks the tensors in a TorchScript pickle, without creating the objects that it names."""

    def __init__(self, content: bytes, folder: str, records: Mapping[str, bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._folder = folder
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return torch.storage._get_dtype_from_pickle_storage_type(name).itemsize
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _check_tensor
        if module.startswith("__torch__") or module in ("collections", "torch.jit._pickle"):
            return _Object
        raise pickle.UnpicklingError(f"{self._folder}.pkl refers to {module}.{name}, which is not allowed")

    def persistent_load(self, storage: Any) -> int:
        """Check the size of a storage; return its number of elements."""
        _, itemsize, key, _, elements = storage
        size = len(self._records[f"{self._folder}/{key}"])
        if size < itemsize * elements:
            raise pickle.UnpicklingError(f"{self._folder}/{key} has {size} bytes, expected {itemsize * elements}")
        return int(elements)


class _Object:
    """Placeholder for any object."""

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _check_tensor(elements: int, offset: int, sizes: Sequence[int], strides: Sequence[int], *_: Any) -> None:
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if min(offset, *sizes, *strides, 0) < 0 or (0 not in sizes and last >= elements):
        raise pickle.UnpicklingError(f"a tensor {list(sizes)} reaches beyond its {elements} elements")


def _forget_classes() -> None:
    """Reset torch's registry of traced classes, so that class names are the same as in a new process.

    torch stores all classes that were traced before, and adds a number to a class's name if it was used before. torch's
    own tests reset the registry in the same way, by ``jit_utils.clear_class_registry``; the number is not reset.
    """
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def _renumbered(records: dict[str, bytes]) -> dict[str, bytes]:
    """Renumber classes that share a name in the order of the model's modules.

    torch's numbers depend on all that the process traced before. The names are in source text, in names of records and,
    terminated by a newline, in pickles, so their length may change.
    """
    numbers: dict[bytes, bytes] = {}

    def renumber(found: re.Match[bytes]) -> bytes:
        return numbers.setdefault(found[0], b"___torch_mangle_%d" % len(numbers))

    first = sorted(records, key=lambda name: not name.endswith("/data.pkl"))  # the module tree sets the order
    renamed = {name: _MANGLED.sub(renumber, records[name]) for name in first}
    return dict(sorted((_MANGLED.sub(renumber, name.encode()).decode(), record) for name, record in renamed.items()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warning that ``torch.jit`` is deprecated, whose category changed between torch releases."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", category)
        yield


def _make(request: Request) -> ArtifactFiles:
    return ArtifactFiles(
        export(request.graph, request.images, request.origin)
    )  # it stores neither names of outputs nor sizes


FORMAT = Format(
    name="torchscript",
    format="torchscript",
    device="any",
    stem="model",
    suffix=".torchscript",
    reproducible=True,
    make=_make,
    start=run_by_torch(load),
    engines=torch_only,
    has_cuda=torch.cuda.is_available,
)
