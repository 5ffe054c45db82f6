"""`assay-export` ends with a bundle and 0, or with a message, a code that says why and whatever was there before."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

from assay_deploy.bundle.folder import read_manifest
from assay_deploy.bundle.manifest import CLASSIFICATION
from assay_deploy.errors import BundleError
from assay_export import cli
from assay_export.formats.format import ArtifactFiles
from assay_export.formats.registry import FORMATS
from assay_export.gate.tolerances import TOLERANCES
from assay_research.runs.run import CONFIG, Run
from tests.research.commands.test_bad_data import SMALL, assay_train, fill


class Command:
    """`assay-export` as a function: its exit code and what it wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run it; a message given to ``sys.exit`` counts as written to stderr with exit code 1, as Python does."""
        self.monkeypatch.setattr(sys, "argv", ["assay-export", *arguments])
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        out, err = self.capfd.readouterr()
        return (1, out, err + code) if isinstance(code, str) else (int(code or 0), out, err)


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """The command, started in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capfd)


@pytest.fixture
def copied(normed_run: Run, tmp_path):
    """A run to spoil, where the command finds it by itself."""
    folder = tmp_path / "runs" / "digits" / "2026-01-31_12-00-00"
    shutil.copytree(normed_run.folder, folder)
    return folder


def refused(result: tuple[int, str, str], *words: str) -> bool:
    """Whether it ended with code 1, one message with these words and no bundle."""
    code, _, err = result
    assert err.startswith("assay-export: ")
    assert "Traceback" not in err
    assert all(word in err for word in words), err
    assert not list(Path("bundles").glob("[!.]*"))
    return code == 1


def test_newest_run_becomes_a_bundle_named_after_its_experiment(command, copied):
    old = copied.with_name("2025-12-31_12-00-00")
    shutil.copytree(copied, old)
    os.utime(old / CONFIG, (0, 0))
    code, out, err = command()
    assert (code, err) == (0, "")
    manifest = read_manifest(Path("bundles/digits"))
    assert manifest.source.run == "digits/2026-01-31_12-00-00"
    for artifact in manifest.artifacts:
        line = next(line for line in out.splitlines() if line.startswith(f"{artifact.path} ") and "passed" in line)
        assert f"0 of {manifest.expected[0].n}" in line
    assert out.endswith("bundle: bundles/digits, report: bundles/digits/parity.html\n")


def test_over_tolerance_ends_without_a_bundle(command, plain_run: Run, bundle, monkeypatch):
    shutil.copytree(bundle.folder, "bundles/digits")
    before = {path.name: path.read_bytes() for path in Path("bundles/digits").iterdir()}
    monkeypatch.setitem(TOLERANCES, (CLASSIFICATION, "onnx", "fp32"), {"logits": 1e-12})
    code, _, err = command(f"run={plain_run.folder}")
    assert code == 3
    assert "1 of 3 artifacts differ from the model" in err
    assert "model.onnx (onnx on cpu in ONNX Runtime): logits differ by up to" in err
    assert "allowed 1e-12" in err
    assert "bundles/digits.unproven" in err
    assert {path.name: path.read_bytes() for path in Path("bundles/digits").iterdir()} == before
    unproven = Path("bundles/digits.unproven")
    parity = json.loads((unproven / "parity.json").read_text())
    assert not parity["passed"]
    assert [one["passed"] for one in parity["artifacts"]] == [True, False, False, True]
    assert [one["failures"] for one in parity["artifacts"]] == [[], ["tensors"], ["tensors"], []]
    assert "no bundle was written" in (unproven / "parity.html").read_text()
    assert (unproven / "model.onnx").is_file()
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        read_manifest(unproven)


def test_help_explains_every_key(command):
    code, out, err = command("--help")
    assert (code, err) == (0, "")
    keys = ("run", "formats", "precisions", "layout", "all", "bundles", "name", "checkpoint", "runs", "data.root")
    assert all(f"  {key} " in out for key in keys)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("nmae=x", ["'nmae'", "did you mean 'name'?"]),
        ("runs/digits", ["key=value", "'runs/digits'"]),
        ("name=", ["no value"]),
        ("name=../up", ["cannot be a bundle's name"]),
        ("run=nowhere", ["'nowhere' is not a run"]),
        ("checkpoint=lats", ["lats.pt'; checkpoints in its folder: best"]),
        ("formats=onx", ["'onx'", "did you mean 'onnx'?"]),
        ("precisions=fp32,int4", ["'int4'"]),
        ("precisions=int8", ["fp32"]),
        ("layout=tryton", ["layout must be bundle or triton"]),
        ("layout=triton formats=torchscript", ["layout=triton is for ONNX graphs", "add onnx"]),
        ("all=yes", ["all must be true or false"]),
    ],
)
def test_a_wrong_argument_is_refused(command, copied, argument, words):
    assert refused(command(*argument.split()), *words)


def test_runs_and_images_that_are_elsewhere_are_found(command, tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "pets" / name, 20)
    assert assay_train(tmp_path, *SMALL, "data.root=pets", "runs=elsewhere") == ""
    Path("pets").rename("moved")
    assert refused(command("runs=elsewhere", "formats=onnx"), "no folder 'pets'", "data.root")
    code, _, err = command("runs=elsewhere", "formats=onnx", "data.root=moved")
    assert (code, err) == (0, "")
    assert "leave out run=, name= and data.root=" in command("all=true", "runs=elsewhere", "data.root=moved")[2]


def test_no_run_at_all_is_a_clear_error(command):
    assert refused(command(), "under 'runs'")


def test_a_run_that_would_call_something_else_is_refused(command, copied):
    config = (copied / CONFIG).read_text()
    (copied / CONFIG).write_text(config.replace("assay_research.models.vgg.vgg", "builtins.open"))
    assert refused(command(), "'builtins.open' refused")


def test_a_pickle_in_a_checkpoint_is_refused(command, copied):
    torch.save({"model": {}, "classes": Path("x")}, copied / "checkpoints" / "best.pt")
    assert refused(command(), "best.pt", "refused")


def test_other_data_than_it_was_trained_on_is_refused(command, copied):
    config = (copied / CONFIG).read_text()
    (copied / CONFIG).write_text(config.replace("digits.load", "digits.load\n  seed: 1"))
    assert refused(command(), "'digits' is not the one", "Restore the original data set")


def test_a_diverged_model_is_refused(command, copied):
    path = copied / "checkpoints" / "best.pt"
    state = torch.load(path, weights_only=True)
    next(iter(state["model"].values())).fill_(float("nan"))
    torch.save(state, path)
    assert refused(command(), "not finite", "diverged")


def test_a_view_smaller_than_the_canvas_is_refused(command, copied):
    config = (copied / CONFIG).read_text()
    (copied / CONFIG).write_text(config.replace("size: 36", "size: 16"))
    assert refused(command(), "views", "16")


def test_a_format_that_cannot_be_made_here_is_refused_before_anything_is_made(command, copied, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = command("formats=torchscript,aoti-cpu")
    assert refused(result, "'no-such-compiler' is not on the PATH")
    assert "export model.torchscript" not in result[1]


def test_a_place_that_cannot_be_written_is_refused(command, copied):
    Path("file").write_text("a file, not a folder")
    for place in ("file", "file/bundles"):
        assert refused(command(f"bundles={place}"), f"'{place}'", "a folder that can be written to", "bundles=<folder>")


# Where the gate stops an export


def plant(monkeypatch, fault) -> None:
    """Let this fault happen to every ONNX graph after it was exported."""
    made = FORMATS["onnx"].make
    faulty = replace(FORMATS["onnx"], make=lambda request: ArtifactFiles(fault(made(request).content)))
    monkeypatch.setitem(FORMATS, "onnx", faulty)


def favour_the_last_class(content: bytes) -> bytes:
    model = onnx.load_model_from_string(content)
    bias = next(weight for weight in model.graph.initializer if weight.name == model.graph.node[-1].input[2])
    values = numpy_helper.to_array(bias).copy()
    values[-1] += 5
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return model.SerializeToString()


def test_other_answers_to_the_test_images_are_a_failure_of_their_own(command, plain_run: Run, monkeypatch):
    plant(monkeypatch, favour_the_last_class)
    monkeypatch.setitem(TOLERANCES, (CLASSIFICATION, "onnx", "fp32"), {"logits": 1e6})
    code, _, err = command(f"run={plain_run.folder}", "formats=onnx")
    assert code == 4
    assert "test images change class" in err


def test_a_file_that_does_not_run_is_a_failure_of_its_own(command, plain_run: Run, monkeypatch):
    plant(monkeypatch, lambda content: content[: len(content) // 2])
    code, _, err = command(f"run={plain_run.folder}", "formats=onnx")
    assert code == 5
    assert "does not run" in err


def test_a_failed_file_is_looked_into(command, plain_run: Run, monkeypatch):
    plant(monkeypatch, favour_the_last_class)
    code, out, _ = command(f"run={plain_run.folder}", "formats=onnx")
    assert code == 4  # its outputs differ too, which is the lesser failure
    script = Path("bundles/digits.unproven/drift/model.onnx/reproduce.py")
    assert str(script) in out
    assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 1


# Precisions, layouts, and all experiments


def test_int8_is_proven_and_handed_to_triton(command, plain_run: Run):
    code, out, _ = command(f"run={plain_run.folder}", "formats=onnx", "precisions=fp32,int8", "layout=triton")
    assert code == 0
    assert [(each.path, each.device) for each in read_manifest(Path("bundles/digits")).artifacts] == [
        ("model.onnx", "any"),
        ("model-int8.onnx", "cpu"),
    ]
    for model in ("digits", "digits_int8"):
        assert f"bundles/digits.triton/{model}/1" in out
        assert Path("bundles/digits.triton", model, "1", "model.onnx").is_file()


def test_a_precision_too_far_from_the_model_is_left_out(command, plain_run: Run, monkeypatch):
    monkeypatch.setitem(TOLERANCES, (CLASSIFICATION, "onnx", "int8"), {"logits": 1e-9})
    code, out, _ = command(f"run={plain_run.folder}", "formats=onnx", "precisions=fp32,int8")
    assert code == 0
    assert "model-int8.onnx is too inaccurate and is left out of the bundle" in out
    bundle = Path("bundles/digits")
    assert [each.path for each in read_manifest(bundle).artifacts] == ["model.onnx"]
    assert not (bundle / "model-int8.onnx").exists()
    parity = json.loads((bundle / "parity.json").read_text())
    assert parity["passed"]
    assert [each["path"] for each in parity["left_out"]] == ["model-int8.onnx"]
    assert "left out" in (bundle / "parity.html").read_text()


def test_a_precision_that_does_not_run_is_a_failure(command, plain_run: Run, monkeypatch):
    monkeypatch.setattr("assay_export.precisions.int8.quantize", lambda content, _: content[: len(content) // 2])
    code, _, err = command(f"run={plain_run.folder}", "formats=onnx", "precisions=fp32,int8")
    assert code == 5
    assert "model-int8.onnx" in err
    assert not Path("bundles/digits").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_half_precision_without_a_gpu_is_refused(command, copied):
    assert refused(command("precisions=fp32,fp16"), "fp16 needs a GPU")


def test_all_exports_every_experiment_whatever_happens_to_the_others(command, copied, plain_run: Run):
    shutil.copytree(plain_run.folder, "runs/small/2026-01-31_12-00-00")
    shutil.copytree(copied, "runs/broken/2026-01-31_12-00-00")
    Path("runs/broken/2026-01-31_12-00-00/checkpoints/best.pt").write_bytes(b"?")
    Path("runs/begun/2026-01-31_12-00-00").mkdir(parents=True)
    code, out, _ = command("all=true", "formats=onnx")
    assert code == 1
    head, precisions, *rows = out.splitlines()[-5:]
    assert (head.split(), precisions.split()) == (["model", "onnx", "made", "in", "proven", "in"], ["fp32"])
    assert [row.split()[:2] for row in rows] == [["broken", "-"], ["digits", "passed"], ["small", "passed"]]
    assert rows[0].split()[2:4] == ["-", "-"]
    assert "best.pt" in rows[0]
    assert all(re.search(r" \d+\.\d s +\d+\.\d s\b", row) for row in rows[1:])  # 0.0 s where a proof is quick
    for name in ("digits", "small"):  # by their folders: a run that was copied still calls itself digits
        assert read_manifest(Path("bundles", name)).source.run.startswith(f"{name}/")


def test_the_table_of_all_says_what_was_left_out(command, copied, monkeypatch):
    monkeypatch.setitem(TOLERANCES, (CLASSIFICATION, "onnx", "int8"), {"logits": 1e-9, "probabilities": 1})
    code, out, _ = command("all=true", "formats=onnx", "precisions=fp32,int8")
    assert code == 0
    assert re.match(r"digits +passed +left out +\d", out.splitlines()[-1])


@pytest.mark.slow
def test_compiled_code_is_proven_too(command, plain_run: Run):
    code, _, _ = command(f"run={plain_run.folder}", "formats=aoti-cpu")
    assert code == 0
    (artifact,) = read_manifest(Path("bundles/digits")).artifacts
    assert (artifact.format, artifact.device, artifact.reproducible) == ("aoti", "cpu", False)
