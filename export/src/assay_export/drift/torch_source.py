"""Trace the tensors of a torch module by recording the calls of ATen operators.

An eager module, a loaded TorchScript trace and a loaded ``torch.export`` program all call ATen. So one recorder works
for the three, records functional code as well as layers, and needs no names in a file.
"""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from assay_export.drift.trace import Array, Call, ConstantValue, Location, Ref, Trace, Value, sketch

_LIBRARIES = ("torch.", "torchvision.", "assay_export.drift.torch_source.")
"""Prefixes of modules whose stack frames are skipped when the source line is recorded."""


@dataclass(frozen=True)
class TorchSource:
    """A torch module in eval mode that can be traced: eager, a loaded trace or a loaded program."""

    module: nn.Module

    def run(self, images: Tensor) -> list[Array]:
        """Return the outputs for uint8 images ``[batch, height, width, 3]``."""
        with torch.no_grad():
            return [each.numpy() for each in pytree.tree_leaves(self.module(images))]

    def trace(self, images: Tensor, keep: Collection[int] = ()) -> Trace:
        """Trace all values; see `TensorSource.trace`."""
        with (
            torch.no_grad(),
            _entered(self.module) as entered,
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]  # fused operators would not be dispatched
            _Recorder(images, self._named(), keep, entered) as recorder,
        ):
            outputs = self.module(images)
        found = [recorder.indices.get(each) for each in pytree.tree_leaves(outputs)]
        return Trace(recorder.values, [index for index in found if index is not None], recorder.retained)

    def weights(self, trace: Trace, inside: Collection[int]) -> dict[str, Array]:
        """Return the parameters, buffers and unnamed constants that the given values are computed with, by name."""
        named, used = self._named(), {}
        for index in inside:
            call = trace.values[index].call
            for leaf in pytree.tree_leaves((call.arguments, call.keywords)) if call else ():
                if isinstance(leaf, ConstantValue):
                    name = leaf.name or f"constant of {trace.values[index].name}"
                    used[name] = named.get(name, leaf.tensor).detach().numpy()
        return used

    def _named(self) -> dict[str, Tensor]:
        return dict((*self.module.named_parameters(), *self.module.named_buffers()))


@contextmanager
def _entered(graph: nn.Module) -> Iterator[Callable[[], tuple[str, str]]]:
    """Track the running modules: yield a function that returns the innermost one's name and class."""
    stack = [("", type(graph).__name__)]

    def follow(name: str, module: nn.Module) -> Iterator[Any]:
        def enter(*_: Any) -> None:
            stack.append((name, type(module).__name__))

        def leave(*_: Any) -> None:
            stack.pop()

        yield module.register_forward_pre_hook(enter)
        yield module.register_forward_hook(leave)

    hooked = () if isinstance(graph, torch.jit.ScriptModule) else graph.named_modules()
    handles = [handle for name, module in hooked for handle in follow(name, module)]
    try:
        yield lambda: stack[-1]
    finally:
        for handle in handles:
            handle.remove()


class _Recorder(TorchDispatchMode):
    """Dispatch mode that records each tensor that depends on the images."""

    def __init__(
        self,
        images: Tensor,
        names: dict[str, Tensor],
        keep: Collection[int],
        entered: Callable[[], tuple[str, str]],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keep, self.entered = keep, entered
        self.values: list[Value] = []
        self.retained: dict[int, Array] = {}
        self.indices: Any = WeakTensorKeyDictionary()  # tensor -> its value
        self.origins: Any = WeakTensorKeyDictionary()  # tensor -> name of the parameter or buffer it is made from
        self.writers: dict[int, int] = {}  # storage -> the last value that was written into it
        for name, tensor in names.items():
            self.origins[tensor] = name
        self._note("images", "input", (), images, None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator and record its results."""
        given = (args, kwargs or {})
        before = {_storage(each) for each in pytree.tree_leaves(given) if isinstance(each, Tensor)}
        arguments, keywords = pytree.tree_map_only(Tensor, self._argument, given)
        result = func(*given[0], **given[1])
        several = isinstance(result, tuple | list)
        for number, each in enumerate(result if several else [result]):
            if isinstance(each, Tensor):
                if _storage(each) not in before:
                    self.writers.pop(_storage(each), None)  # memory that something else may have had
                self._result(each, Call(func, arguments, keywords, number if several else None))
        return result

    def _argument(self, tensor: Tensor) -> Ref | ConstantValue:
        index = self.indices.get(tensor, -1)
        if (writer := self.writers.get(_storage(tensor), -1)) > index:
            # Another view of its memory was written to since.
            index = self._note(f"after {self.values[writer].name}", "view", (writer,), tensor, None)
        return Ref(index) if index >= 0 else ConstantValue(tensor, self.origins.get(tensor))

    def _result(self, tensor: Tensor, call: Call) -> None:
        leaves = pytree.tree_leaves((call.arguments, call.keywords))
        parents = tuple(dict.fromkeys(leaf.index for leaf in leaves if isinstance(leaf, Ref)))
        if parents:
            op = str(call.function).removesuffix(".default")
            index = self._note(f"operation {len(self.values)}", op, parents, tensor, call)
            if call.function._schema.is_mutable:
                self.writers[_storage(tensor)] = index
        elif tensor not in self.origins:
            names = (leaf.name for leaf in leaves if isinstance(leaf, ConstantValue) and leaf.name)
            if (name := next(names, None)) is not None:
                self.origins[tensor] = name

    def _note(self, name: str, op: str, parents: tuple[int, ...], tensor: Tensor, call: Call | None) -> int:
        index = len(self.values)
        array = tensor.detach().numpy()
        if index in self.keep:
            self.retained[index] = array.copy()
        drawn = sketch(array) if tensor.is_floating_point() else None
        place = Location(*self.entered(), _line())
        self.values.append(Value(name, op, parents, tuple(tensor.shape), drawn, place, call))
        self.indices[tensor] = index
        return index


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _line() -> str:
    """Return the innermost source line outside of libraries, with its package's path instead of folders."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not f"{module}.".startswith(_LIBRARIES):
            file = Path(frame.f_code.co_filename).name
            package = module if file == "__init__.py" else module.rpartition(".")[0]
            path = "/".join([*filter(None, package.split(".")), file])
            return f"{path}:{frame.f_lineno}, in {frame.f_code.co_name}"
        frame = frame.f_back
    return ""
