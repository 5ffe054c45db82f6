"""An exported program is the eager model for any batch, the same bytes each time, and data that loads as data."""

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export.pt2_archive import constants

from assay_deploy.images.canvas import Canvas, View
from assay_export.errors import ExportError
from assay_export.formats import archive, exported_program
from assay_research.models.resnet import resnet
from assay_research.tasks.classification.views import Views

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = "archive/models/model.json"
ORIGIN = {"run": "digits/1", "commit": "0123abc"}
VIEWS = (View(), View(flip=True), View(size=36))


def small_graph(views=VIEWS) -> Views:
    torch.manual_seed(0)
    return Views(resnet([1, 1], [4, 8]), Canvas(32, 32), views).eval()


def some_images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


@pytest.fixture(scope="module")
def exported() -> bytes:
    return exported_program.export(small_graph(), some_images(2), ORIGIN)


class Boxes(nn.Module):
    """A detector's outputs, from arithmetic."""

    def forward(self, images):
        x = images.float().mean((1, 2))
        return x[:, None, [0, 1, 2, 0]].expand(-1, 5, -1).clone(), x[:, :1].expand(-1, 5) / 255, x.long()


@pytest.mark.parametrize("views", [VIEWS[:1], VIEWS])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_program_is_the_eager_model_to_the_bit_for_any_batch(views, batch):
    graph = small_graph(views)
    program = exported_program.load(exported_program.export(graph, some_images(2), ORIGIN))
    with torch.inference_mode():
        assert torch.equal(program(some_images(batch)), graph(some_images(batch)))


def test_a_detectors_three_outputs_come_back_as_a_tuple():
    program = exported_program.load(exported_program.export(Boxes(), some_images(2), ORIGIN))
    for batch in (1, 5):
        found, expected = program(some_images(batch)), Boxes()(some_images(batch))
        assert isinstance(found, tuple)
        assert [output.dtype for output in found] == [torch.float32, torch.float32, torch.int64]
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("forward", [lambda x: x.float().view(2, -1), lambda x: x.float().mean(0, keepdim=True)])
def test_a_model_that_fixes_the_batch_is_refused(forward):
    class Fixed(nn.Module):
        def forward(self, images):
            return forward(images)

    with pytest.raises(ExportError, match="number of images"):
        exported_program.export(Fixed(), some_images(2), ORIGIN)


def test_another_size_of_image_is_refused(exported):
    with pytest.raises(Exception, match=r"shape|size"):
        exported_program.load(exported)(torch.zeros(2, 36, 36, 3, dtype=torch.uint8))


def test_nothing_in_a_program_names_this_machine(exported):
    buffer = io.BytesIO()
    program = torch.export.export(small_graph(), (some_images(2),))
    torch.export.save(program, buffer)
    private = {str(Path.home()), str(REPOSITORY), str(Path(torch.__file__).parent), "stack_trace"}

    def named(content: bytes) -> set[str]:
        records = b"\n".join(archive.read(content).values())
        return {path for path in private if path.encode() in records}

    assert named(buffer.getvalue()) >= private - {str(Path.home())}, "torch's own archive is what the search finds"
    assert named(exported) == set()


def test_images_of_the_data_set_do_not_travel_with_the_program(exported):
    split = some_images(2000)
    content = exported_program.export(small_graph(), split[:2], ORIGIN)
    assert content == exported, "pixels do not matter"
    assert split[1000].numpy().tobytes() not in content


def test_the_same_graph_gives_the_same_bytes_in_another_process(exported):
    code = (
        "from test_exported_program import *\n"
        "print(sha256(exported_program.export(small_graph(), some_images(2), ORIGIN)).hexdigest())"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": "7"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.split()[-1] == sha256(exported).hexdigest()


class Touch:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def touch(path: Path) -> str:
    return f"__import__('pathlib').Path('{path}').touch()"


def edit(records, name, change):
    document = json.loads(records[name])
    change(document)
    records[name] = json.dumps(document).encode()


def size_is_code(records, path):
    def change(document):
        values = document["graph_module"]["graph"]["tensor_values"]
        values["images"]["sizes"][0]["as_expr"]["expr_str"] = touch(path) + " or Symbol('s34')"

    edit(records, MODEL, change)


def weight_is_a_pickle(records, path):
    config = "archive/data/weights/model_weights_config.json"
    first = next(iter(json.loads(records[config])["config"].values()))["path_name"]
    edit(records, config, lambda document: next(iter(document["config"].values())).update(use_pickle=True))
    records[f"archive/data/weights/{first}"] = pickle.dumps(Touch(path), protocol=2)


def constant_is_a_pickle(records, path):
    records["archive/data/constants/opaque_obj_0"] = pickle.dumps(Touch(path))
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    edit(
        records,
        "archive/data/constants/model_constants_config.json",
        lambda document: document["config"].update(planted=entry),
    )


def example_inputs_are_a_pickle(records, path):
    records["archive/data/sample_inputs/model.pt"] = pickle.dumps(Touch(path), protocol=2)


@pytest.mark.parametrize("plant", [size_is_code, weight_is_a_pickle, constant_is_a_pickle, example_inputs_are_a_pickle])
@pytest.mark.filterwarnings("ignore")
def test_what_runs_code_in_torchs_own_load_is_refused_here(exported, plant, tmp_path):
    records = archive.read(exported)
    plant(records, tmp_path / "touched")
    content = archive.write(records)
    with pytest.raises(ExportError, match="can run code"):
        exported_program.load(content)
    assert not (tmp_path / "touched").exists()
    with contextlib.suppress(Exception):  # it need not work; the code has run by then
        torch.export.load(io.BytesIO(content)).module()(some_images(2))
    if plant is not constant_is_a_pickle or hasattr(constants, "OPAQUE_OBJ_FILENAME_PREFIX"):  # torch 2.11 has none
        assert (tmp_path / "touched").exists(), "the fault planted is none"


def test_program_says_where_it_comes_from(exported):
    extra = {"assay.json": ""}
    torch.export.load(io.BytesIO(exported), extra_files=extra)
    assert json.loads(extra["assay.json"]) == ORIGIN


@pytest.mark.parametrize("target", ["torch.hub.load", "torch.ops.aten.save.default", "_operator.call", "os.system"])
def test_an_operator_that_does_not_compute_is_refused(exported, target):
    records = archive.read(exported)
    edit(records, MODEL, lambda document: document["graph_module"]["graph"]["nodes"][0].update(target=target))
    with pytest.raises(ExportError, match="the target"):
        exported_program.load(archive.write(records))


@pytest.mark.parametrize(
    "name", ["archive/data/aotinductor/model/a.so", "version", "archive/data/weights/model.pt", "archive/extra/a"]
)
def test_a_record_that_export_does_not_write_is_refused(exported, name):
    with pytest.raises(ExportError, match="a record"):
        exported_program.load(archive.write(archive.read(exported) | {name: b""}))


def test_a_damaged_file_is_refused(exported):
    with pytest.raises(ExportError, match="damaged"):
        exported_program.load(exported[: len(exported) // 2])
    records = archive.read(exported)
    del records[MODEL]
    with pytest.raises(ExportError, match="damaged"):
        exported_program.load(archive.write(records))


def test_a_program_of_another_schema_is_refused(exported, capfd):
    records = archive.read(exported)
    edit(records, MODEL, lambda document: document["schema_version"].update(major=99))
    with pytest.raises(ExportError, match=r"schema version .*99.* does not match .* use the version in the manifest's"):
        exported_program.load(archive.write(records))
    assert "Traceback" not in capfd.readouterr().err


def test_a_program_that_is_nested_too_deeply_is_refused(exported):
    records = archive.read(exported) | {MODEL: b"[" * 100_000}
    with pytest.raises(ExportError, match="damaged"):
        exported_program.load(archive.write(records))
