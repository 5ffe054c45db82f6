"""Trace a graph to TorchScript, which libtorch runs without Python."""

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

from assay_export.errors import unloadable
from assay_export.formats import archive
from assay_export.formats.format import Format, Made, Request, run_by_torch, torch_alone

ORIGIN = "assay.json"
"""Name of the extra file that says where the model comes from."""

_MANGLED = re.compile(rb"___torch_mangle_\d+")


def export(graph: nn.Module, images: Tensor, origin: Mapping[str, str]) -> bytes:
    """Trace a graph.

    The same graph and origin give the same bytes, on the same version of torch.

    Args:
        graph: in eval mode.
        images: uint8 ``[batch, height, width, 3]`` to trace with.
        origin: where the model comes from, kept as JSON in the extra file `ORIGIN`.

    Returns:
        The archive that ``torch.jit.load`` and libtorch read.
    """
    buffer = io.BytesIO()
    extra = {ORIGIN: json.dumps(dict(origin), sort_keys=True).encode()}
    _forget_classes()
    with torch.no_grad(), _quiet():
        # torch's own check runs the trace once on the same images, and its tracer warns of what may be a constant;
        # the gate does more, and finds what is.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.jit.save(torch.jit.trace(graph, images, check_trace=False), buffer, _extra_files=extra)
    records = archive.read(buffer.getvalue())
    # They name this machine's source files. Error messages lose the Python line, nothing else reads them.
    return archive.write(_renumbered({name: each for name, each in records.items() if not name.endswith(".debug_pkl")}))


def load(content: bytes, device: str = "cpu") -> torch.jit.ScriptModule:
    """A traced graph, in eval mode.

    It is a program for torch: what it computes is refused nowhere. A tensor that reaches beyond its bytes is, for torch
    reads whatever lies there, or the process dies.

    Raises:
        ExportError: it is damaged, or torch cannot load it on that device.
    """
    try:
        records = archive.read(content)
        for name, record in records.items():
            if name.endswith(("/data.pkl", "/constants.pkl")):  # the third, of traced inputs, has no bytes on purpose
                _Tensors(record, name.removesuffix(".pkl"), records).load()
        with _quiet():
            module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(archive.write(records)), map_location=device)
        return module.eval()
    except Exception as error:  # a parser's in C++, which share no base class
        raise unloadable(error) from error


class _Tensors(pickle.Unpickler):
    """Reads a pickle of TorchScript for the tensors in it, and makes none of the objects that it names."""

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
        raise pickle.UnpicklingError(f"{self._folder}.pkl names {module}.{name}")

    def persistent_load(self, storage: Any) -> int:
        """Number of elements of a storage."""
        _, itemsize, key, _, elements = storage
        size = len(self._records[f"{self._folder}/{key}"])
        if size < itemsize * elements:
            raise pickle.UnpicklingError(f"{self._folder}/{key} has {size} bytes, expected {itemsize * elements}")
        return int(elements)


class _Object:
    """What stands for any object."""

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _check_tensor(elements: int, offset: int, sizes: Sequence[int], strides: Sequence[int], *_: Any) -> None:
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if min(offset, *sizes, *strides, 0) < 0 or (0 not in sizes and last >= elements):
        raise pickle.UnpicklingError(f"a tensor {list(sizes)} reaches beyond its {elements} elements")


def _forget_classes() -> None:
    """Let the first traced class of a name have it as it is, as in a new process.

    torch keeps all classes that were traced before, and tells those of one name apart by a number in the file. Its own
    tests reset it so, by ``jit_utils.clear_class_registry``; what is not reset is the number.
    """
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def _renumbered(records: dict[str, bytes]) -> dict[str, bytes]:
    """The same records with the classes of one name numbered in the order the model holds them.

    torch numbers them over all that a process ever traced. Their names stand in source text, in names of records and,
    ended by a newline, in pickles, so that another length does no harm.
    """
    numbers: dict[bytes, bytes] = {}

    def renumber(found: re.Match[bytes]) -> bytes:
        return numbers.setdefault(found[0], b"___torch_mangle_%d" % len(numbers))

    first = sorted(records, key=lambda name: not name.endswith("/data.pkl"))  # the module tree sets the order
    renamed = {name: _MANGLED.sub(renumber, records[name]) for name in first}
    return dict(sorted((_MANGLED.sub(renumber, name.encode()).decode(), record) for name, record in renamed.items()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notice that ``torch.jit`` is deprecated, a category that changed between torch releases."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", category)
        yield


def _make(request: Request) -> Made:
    return Made(export(request.graph, request.images, request.origin))  # no names of outputs, and no sizes


FORMAT = Format(
    name="torchscript",
    format="torchscript",
    device="any",
    stem="model",
    suffix=".torchscript",
    reproducible=True,
    make=_make,
    start=run_by_torch(load),
    engines=torch_alone,
    has_cuda=torch.cuda.is_available,
)
