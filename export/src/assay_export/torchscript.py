"""Trace a graph to TorchScript, which libtorch runs without Python."""

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip entry can bear: the archive does not say when it was made."""


def export(graph: nn.Module, images: Tensor) -> bytes:
    """Trace a graph.

    Args:
        graph: in eval mode.
        images: uint8 ``[batch, height, width, 3]`` to trace with.

    Returns:
        The archive that ``torch.jit.load`` and libtorch read.
    """
    buffer = io.BytesIO()
    with torch.no_grad(), _quiet():
        # torch's own check runs the trace once on the same pictures; the gate does more
        torch.jit.save(torch.jit.trace(graph, images, check_trace=False), buffer)
    return _without_debug_records(buffer.getvalue())


def load(content: bytes) -> torch.jit.ScriptModule:
    """A traced graph, on the CPU."""
    with _quiet():
        module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(content), map_location="cpu")
    return module.eval()


def _without_debug_records(archive: bytes) -> bytes:
    """The same archive without the records that name this machine's source files.

    They are compressed, so a search through the file's bytes does not find the paths; error messages lose the
    Python line, nothing else reads them. The id goes too, for it is a hash over all records. Nothing is
    compressed, so the bytes do not depend on a zlib.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            if not name.endswith((".debug_pkl", "/.data/serialization_id")):
                new.writestr(zipfile.ZipInfo(name, _EPOCH), old.read(name))
    return buffer.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notice that ``torch.jit`` is deprecated, a category that changed between torch releases."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", category)
        yield
