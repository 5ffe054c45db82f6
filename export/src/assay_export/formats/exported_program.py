"""Export a graph to a torch.export program: ATen operators that torch can run, compile or lower further."""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive._package import load_pt2

from assay_export.errors import ExportError, loading_error
from assay_export.formats import archive
from assay_export.formats.format import ArtifactFiles, Format, Request, run_by_torch, torch_only
from assay_export.formats.onnx_graph import BATCH, dynamic_sizes
from assay_export.formats.torchscript import ORIGIN

_RECORDS = re.compile(
    r"archive/(archive_format|archive_version|byteorder|\.data/version|models/model\.json|"
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)|"
    rf"data/sample_inputs/model\.pt|extra/{re.escape(ORIGIN)})"
)
"""Allowed records, those of a program of plain tensors. Others make torch.export.load unpickle objects of any type
(``opaque_obj``, ``custom_obj``, ``.pt``) or load a shared library (``data/aotinductor``)."""

_TARGET = re.compile(
    r"torch\.ops\.(aten\.(?!save\.|from_file\.)\w+\.\w+|torchvision\.\w+\.\w+)|"
    r"_operator\.(add|sub|mul|neg|floordiv|truediv|mod|pow|eq|ne|ge|gt|le|lt|getitem)|"
    r"math\.(ceil|floor|trunc)|torch\.sym_(float|int|ite|max|min|not)"
)
"""Allowed operators, which only compute; torch.export.load accepts any attribute of ``torch``, ``operator`` and
``math``. The two excluded ATen operators write and map files."""

_EXPRESSION = re.compile(
    r"(Symbol\('\w+', (positive=True, )?(integer|real)=True\)|"
    r"(Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Integer|Rational)\(|[\d ,)*+-])*"
)
"""Allowed sizes: arithmetic on symbols; torch.export.load passes them to SymPy, which evaluates them as Python."""

_STRUCTURE = re.compile(
    r'("(builtins\.(tuple|list|dict)|type|context|children_spec|null|\[(\\"\w*\\"(, )?)*\])"|null|[\d :,{}\[\]])*'
)
"""Allowed structures: nested tuples, lists and dicts; for other types torch.export.load would import modules."""

_NAME = re.compile(r"[\w.]*")


def trace(graph: nn.Module, images: Tensor, any_size: bool = False) -> ExportedProgram:
    """Trace a graph with a dynamic batch size.

    Args:
        graph: module in eval mode; its output may be a tensor or a tuple of tensors.
        images: example images, uint8 ``[batch, height, width, 3]``, at least two (the tracer takes a size of 1 as
            constant).
        any_size: whether the graph takes images of other sizes too.

    Raises:
        ExportError: the graph does not work for every batch size, or has an output of fixed batch size.
    """
    assert len(images) > 1
    try:
        with torch.no_grad():
            program = torch.export.export(graph, (images,), dynamic_shapes=(dynamic_sizes(any_size),))
    except torch._dynamo.exc.UserError as error:
        reason = " ".join(str(error).split())[:400]
        raise ExportError(f"the model cannot be traced for any number of images: {reason}") from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                # "val" is shape and type. The others are stack traces, with the paths of this machine's source files,
                # and names of the Python functions and classes it came from.
                node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    # Example inputs would be pickled into the archive with their whole storage: two images that are a slice of the test
    # split would add the whole split.
    program.example_inputs = None
    # Guards are the tracer's assumptions on sizes, that no map has a side of one pixel. They follow from the ranges of
    # sizes, and are Python code that torch.export.load would evaluate.
    program._guards_code = []
    _check_batch(program)
    return program


def _check_batch(program: ExportedProgram) -> None:
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    for node in output.args[0]:
        first = node.meta["val"].shape[0]
        if isinstance(first, int):
            raise ExportError(
                f"'{node.name}' of the exported program has {first} as its first size, expected '{BATCH}': the "
                "model's forward fixes the number of images"
            )


def export(graph: nn.Module, images: Tensor, origin: Mapping[str, str], any_size: bool = False) -> bytes:
    """Export a graph to a torch.export program.

    The same graph and origin give the same bytes with the same version of torch.

    Args:
        graph: see `trace`.
        images: see `trace`; the program stores their number as a hint for compilers, but not their pixels.
        origin: origin of the model, stored as JSON in the extra file `ORIGIN`.
        any_size: see `trace`.

    Returns:
        The archive that ``torch.export.load`` reads.

    Raises:
        ExportError: see `trace`; or the program has a part that `load` rejects.
    """
    buffer = io.BytesIO()
    extra = {ORIGIN: json.dumps(dict(origin), sort_keys=True)}
    torch.export.save(trace(graph, images, any_size), buffer, extra_files=extra)
    records = archive.read(buffer.getvalue())
    _check_records(records)
    return archive.write(records)


def load(content: bytes, device: str = "cpu") -> nn.Module:
    """Load a program safely: reject it if it has anything but arithmetic on tensors.

    ``torch.export.load`` is unsafe for untrusted files: it unpickles (weights, constants and example inputs, with
    ``weights_only=False`` if the file demands it), loads shared libraries, evaluates the file's sizes as Python, and
    calls any function of torch that the file names. This function rejects files with any of these, and passes only the
    checked records on to torch.

    Raises:
        ExportError: the file is damaged, contains parts that `export` does not write, or was written by a torch with
            another file format.
    """
    try:
        records = archive.read(content)
        _check_records(records)
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ExportError(f"the file is not an exported program, or is damaged ({error}). Export it again") from error
    try:
        # torch.export.load would log a traceback, lose the reason, and report an archive of torch 2.7
        program = load_pt2(io.BytesIO(archive.write(records))).exported_programs["model"]
        return move_to_device_pass(program, device).module()
    except Exception as error:  # a deserializer's, which share no base class
        raise loading_error(error) from error


def _check_records(records: dict[str, bytes]) -> None:
    for name in records:
        if not _RECORDS.fullmatch(name):
            _refuse("a record", name)
    if records["archive/data/sample_inputs/model.pt"]:
        _refuse("example inputs, which are a pickle", "archive/data/sample_inputs/model.pt")
    for kind in ("weights", "constants"):
        config = json.loads(records[f"archive/data/{kind}/model_{kind}_config.json"])
        for name, entry in config["config"].items():
            if entry["use_pickle"] is not False:
                _refuse(f"a pickle among its {kind}", name)
    document = json.loads(records["archive/models/model.json"])
    _check_strings(document, "")


def _check_strings(value: Any, key: str) -> None:
    """Check every string of a JSON document, keys included, against the pattern for its key."""
    if isinstance(value, dict):
        for name, child in value.items():
            _check_strings(name, "")
            _check_strings(child, name)
    elif isinstance(value, list):
        for child in value:
            _check_strings(child, key)
    elif isinstance(value, str):
        forms = {"target": _TARGET, "as_operator": _TARGET, "expr_str": _EXPRESSION, "torch_version": None}
        forms |= dict.fromkeys(("in_spec", "out_spec"), _STRUCTURE)
        form = forms.get(key, _NAME)
        if form is not None and not form.fullmatch(value):
            _refuse(f"the {key or 'key'}", value)


def _refuse(what: str, found: str) -> None:
    raise ExportError(
        f"the file contains {what} '{found[:200]}', which no exported classifier or detector needs and which can run "
        "code when it is loaded. Use a file from a trusted source"
    )


def _make(request: Request) -> ArtifactFiles:
    # it stores the order of outputs, not their names
    return ArtifactFiles(export(request.graph, request.images, request.origin, request.any_size))


FORMAT = Format(
    name="exported_program",
    format="exported_program",
    device="any",
    stem="exported",
    suffix=".pt2",
    reproducible=True,
    make=_make,
    start=run_by_torch(load),
    engines=torch_only,
    has_cuda=torch.cuda.is_available,
)
