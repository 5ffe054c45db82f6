"""`assay-deploy predict` as a person, a pipe and a script meet it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay_deploy.bundle.folder import read_manifest, write_manifest
from assay_deploy.cli import main
from assay_deploy.images.find import find_images


def test_predict_prints_a_line_a_image(run_cli: Any, bundle: Path, images: Path) -> None:
    result = run_cli("predict", bundle, images / "0" / "00.png", images, f"{images}/1/*.gif")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    expected = find_images([str(images / "0" / "00.png"), str(images), f"{images}/1/*.gif"])
    assert [line[0] for line in lines] == list(map(str, expected))
    for _, label, confidence in lines:
        assert label in ("red", "green", "blue", "dark", "bright")
        assert 0.2 <= float(confidence) <= 1


def test_unreadable_images_are_named_and_the_rest_goes_on(run_cli: Any, bundle: Path, images: Path) -> None:
    good = images / "0" / "00.png"
    bad = bundle / "manifest.json"
    result = run_cli("predict", bundle, good, bad, bundle / "gone.png", good)
    assert result.returncode == 1
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [str(good)] * 2
    assert f"{bad}: not an image" in result.stderr
    assert "gone.png: cannot be read" in result.stderr
    assert "2 of 4 images could not be read" in result.stderr


def test_json_has_an_object_a_line_errors_in_their_place(run_cli: Any, bundle: Path, images: Path) -> None:
    good = images / "0" / "00.png"
    result = run_cli("predict", bundle, good, bundle / "manifest.json", good, "--json", "--tta", "--top", "2")
    assert result.returncode == 1
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert first == third
    assert set(second) == {"path", "error"}
    assert set(first) == {"path", "label", "index", "confidence", "top"}
    assert len(first["top"]) == 2
    assert first["top"][0] == {key: first[key] for key in ("label", "index", "confidence")}
    assert first["top"][0]["confidence"] >= first["top"][1]["confidence"]


def test_tta_runs_the_other_graph(run_cli: Any, bundle: Path, images: Path) -> None:
    plain, tta = (
        [
            json.loads(line)["confidence"]
            for line in run_cli("predict", bundle, images, "--json", *flag).stdout.splitlines()
        ]
        for flag in ((), ("--tta",))
    )
    assert len(plain) == len(tta) == 40
    assert plain != tta
    np.testing.assert_allclose(plain, tta, atol=0.3)


@pytest.mark.parametrize(("name", "flag"), [("model.onnx", None), ("model_tta.onnx", "--tta")], ids=["plain", "tta"])
def test_one_flipped_byte_is_refused_and_the_file_named(
    run_cli: Any, bundle: Path, images: Path, name: str, flag: str | None
) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 0x10
    (bundle / name).write_bytes(content)
    result = run_cli("predict", bundle, images, *([flag] if flag else []))
    assert result.returncode == 2
    assert result.stdout == ""
    assert f"{bundle / name}: not the file that was proven" in result.stderr
    assert "Traceback" not in result.stderr


def test_deploy_never_imports_torch(bundle: Path, images: Path) -> None:
    code = (
        "import sys; from assay_deploy.cli import main; code = main(sys.argv[1:]);"
        "forbidden = {'torch', 'torchvision', 'onnx', 'assay_research', 'assay_export'} & set(sys.modules);"
        "sys.exit(f'imported {forbidden}' if forbidden else code)"
    )
    arguments = ["predict", str(bundle), str(images), "--tta"]
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 40


def test_any_file_name_comes_out_as_it_went_in(run_cli: Any, bundle: Path, images: Path, tmp_path: Path) -> None:
    names = [b"tab\tand\nline.png", "grün 鳥.png".encode(), b"latin\xe9.png"]
    folder = tmp_path / "names"
    folder.mkdir()
    for name in names:
        (folder / os.fsdecode(name)).write_bytes((images / "0" / "00.png").read_bytes())
    text = run_cli("predict", bundle, folder)
    assert (text.returncode, text.stderr) == (0, "")
    shown = sorted(
        os.fsencode(line.split("\t")[0])[len(os.fsencode(folder)) + 1 :] for line in text.stdout.splitlines()
    )
    assert shown == sorted([rb"tab\tand\nline.png", *names[1:]])
    lines = run_cli("predict", bundle, folder, "--json").stdout.splitlines()
    assert sorted(os.fsencode(Path(json.loads(line)["path"]).name) for line in lines) == sorted(names)


def _many(bundle: Path, images: Path, **options: Any) -> subprocess.Popen[str]:
    """Predict enough images to fill any pipe."""
    image = str(images / "0" / "00.png")
    command = [sys.executable, "-m", "assay_deploy", "predict", str(bundle), *[image] * 10_000]

    def interruptible() -> None:  # whatever runs the tests in the background has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible, **options)


def test_a_closed_pipe_ends_it_quietly(bundle: Path, images: Path) -> None:
    with _many(bundle, images, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


def test_an_interrupt_ends_it_without_a_traceback(bundle: Path, images: Path) -> None:
    with _many(bundle, images, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGINT
        assert errors == "assay-deploy: interrupted\n"


def test_a_terminal_gets_a_progress_bar_on_stderr_alone(bundle: Path, images: Path) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    command = [sys.executable, "-m", "assay_deploy", "predict", str(bundle), str(images), str(bundle / "gone.png")]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=slave, text=True, check=False)
    os.close(slave)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 40
    assert "| 0/41" in shown
    assert re.search(r"(^|\r|\n)assay-deploy: \S+gone\.png: cannot be read", shown)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_without_a_traceback(bundle: Path, images: Path) -> None:
    with Path("/dev/full").open("w") as full, _many(bundle, images, stdout=full) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == "assay-deploy: cannot write the output (No space left on device)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{bundle}", "{bundle}/*.png"], "no file matches"),
        (["{bundle}", "{bundle}"], "no images under"),
        (["{bundle}/nowhere", "x.png"], "no bundle at"),
        (["{images}", "x.png"], "has no manifest.json"),
        (["{bundle}", "x.png", "--provider", "tpu"], "invalid choice"),
        (["{bundle}", "x.png", "--batch", "0"], "at least 1"),
        (["{bundle}", "x.png", "--top", "-3"], "at least 1"),
        (["{bundle}"], "required: images"),
        ([], "required"),
    ],
)
def test_what_cannot_start_exits_with_2(
    bundle: Path, images: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["predict", *(text.format(bundle=bundle, images=images) for text in arguments)])
    except SystemExit as stop:  # argparse's way
        code = int(stop.code or 0)
    assert code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (("predict", ("exit codes", "**", "--tta")), ("doctor", ("exit codes", "--json"))):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words)
        assert f"assay-deploy {command} bundles/" in text


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"assay-deploy {version('assay-deploy')}\n"


def test_a_detector_says_a_line_an_object(
    detector_bundle: Path, slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(detector_bundle), str(slides), "--score", "0.45"]) == 1
    output = capsys.readouterr()
    rows = [line.split("\t") for line in output.out.splitlines()]
    assert [(Path(row[0]).name, row[1], row[3:]) for row in rows] == [
        ("a.png", "bright thing", ["2.0", "0.0", "8.0", "4.0"]),
        ("b.png", "dark thing", ["4.0", "2.0", "7.0", "8.0"]),
    ]
    assert "c.png" in output.err


def test_a_label_that_the_bundle_does_not_have_is_refused(
    detector_bundle: Path, slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(replace(read_manifest(detector_bundle), labels=("one",)), detector_bundle)
    assert main(["predict", str(detector_bundle), str(slides)]) == 2
    assert "the graph returned class index 1, but the bundle has 1 labels" in capsys.readouterr().err


def test_a_detectors_json_has_every_image(
    detector_bundle: Path, slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["predict", str(detector_bundle), str(slides), "--json", "--score", "0.95"])
    wide, dark, none = map(json.loads, capsys.readouterr().out.splitlines())
    assert (wide["height"], wide["width"], wide["detections"]) == (4, 16, [])
    assert [dark["detections"], "error" in none] == [[], True]
    main(["predict", str(detector_bundle), str(slides / "b.png"), "--json"])
    (found,) = json.loads(capsys.readouterr().out)["detections"]
    assert found == {"label": "dark thing", "index": 0, "score": pytest.approx(0.921569), "box": [4, 2, 7, 8]}


@pytest.mark.parametrize(
    ("which", "options", "message"),
    [
        ("detector_bundle", ["--top", "2"], "contains a detector, which does not take --top. Its own options: --score"),
        ("bundle", ["--score", "0.2"], "contains a classifier, which does not take --score. Its own options: --top"),
        ("bundle", ["--precision", "int8"], "has no plain int8 onnx graph; it has model.onnx (onnx, fp32, plain)"),
    ],
)
def test_what_the_bundle_cannot_answer_is_refused(
    which: str,
    options: list[str],
    message: str,
    slides: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", str(request.getfixturevalue(which)), str(slides), *options]) == 2
    assert message in capsys.readouterr().err


def test_another_engine_says_the_same(detector_bundle: Path, slides: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*options: str) -> str:
        assert main(["predict", str(detector_bundle), str(slides), *options]) == 1
        return capsys.readouterr().out

    assert said("--engine", "openvino") == said("--engine", "onnxruntime") == said()


def test_asking_for_help_imports_no_engine() -> None:
    for arguments in (["--help"], ["--version"], ["predict", "--help"], ["doctor", "--help"]):
        code = (
            "import sys; from assay_deploy.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print([m for m in ('onnxruntime', 'openvino', 'torch', 'tqdm') if m in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == "[]"
