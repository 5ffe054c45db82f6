"""The report says in a table, a JSON file and a figure what was measured, where and with what."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure.interleave import figures
from benchmarks.measure.roofline import RULE, Ceilings, Work, roofline_row
from benchmarks.report import document as report

ENVIRONMENT = {
    "hardware": {"cpu": "Abacus 5, 2 threads", "cuda": "Torch 9000, 8 GiB"},
    "threads": 2,
    "load": 0.3,
    "versions": {"python": "3.12.1", "torch": "2.11.0"},
    "commit": "",
}


def timing(group: str, target: str, device: str, ratio: float, images: int) -> dict[str, Any]:
    baseline = [ratio * 0.9, ratio, ratio * 1.1]
    named = {"group": group, "target": target, "baseline": "eager torch", "device": device}
    return named | figures(baseline, [1.0, 1.0, 1.0], [images] * 3)


@pytest.fixture
def found() -> report.Document:
    timings = [
        timing("Inference", "ONNX Runtime", "cpu", 2.5, 1),
        timing("Inference", "ONNX Runtime", "cuda", 0.5, 256),
        timing("Image files", "assay_deploy.predict", "cpu", 4.0, 500),
    ]
    parity = [{"target": "TorchScript", "device": "cpu", "dataset": "digits/test", "n": 1000, "changed": 1}]
    parity[0] |= {"top1_eager": 0.975, "top1": 0.974}
    return report.document(copy.deepcopy(ENVIRONMENT), {"bundle": "digits"}, timings=timings, parity=parity)


def cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]


def test_table_holds_ratio_spread_speed_and_rounds(found: report.Document) -> None:
    rows = cells(report.markdown(found))
    assert list(report.TIMING_COLUMNS) in rows
    assert ["ONNX Runtime", "eager torch", "cpu", "1", "2.50 [2.38, 2.62]", "1", "1e+03", "1e+03", "3"] in rows
    assert ["ONNX Runtime", "eager torch", "cuda", "256", "0.50 [0.47, 0.53]", "256", "1e+03", "1e+03", "3"] in rows


def test_table_holds_parity(found: report.Document) -> None:
    assert ["TorchScript", "cpu", "digits/test", "1,000", "0.9750", "0.9740", "1"] in cells(report.markdown(found))


def test_report_names_hardware_versions_threads_commit_and_bundle(found: report.Document) -> None:
    text = report.markdown(found)
    for said in (
        "cpu: Abacus 5",
        "cuda: Torch 9000",
        "threads: 2",
        "torch 2.11.0",
        "commit: unknown",
        "bundle: digits",
    ):
        assert said in text


def test_groups_are_sections(found: report.Document) -> None:
    headings = [line for line in report.markdown(found).splitlines() if line.startswith("#")]
    assert headings == ["# Benchmarks", "## Inference", "## Image files", "## Parity"]


def test_a_roofline_is_a_table_below_its_rule() -> None:
    row = roofline_row(Work(flops=8_000_000, bytes=4_000), Ceilings(1e12, 1e9), batch=4, images_per_second=250_000)
    named = {"target": "tinyvgg_a, eager", "device": "cuda", "precision": "bfloat16", "batch": 4}
    text = report.markdown(report.document(ENVIRONMENT, {}, rooflines=[named | row]))
    assert RULE in text
    numbers = ["2.0", "1.0", "1", "1", "500,000", "1,000,000", "250,000", "50.0%"]
    assert ["tinyvgg_a, eager", "4", "cuda", "bfloat16", *numbers] in cells(text)


def test_a_race_shows_mean_spread_and_every_run() -> None:
    runs = [{"top1": 0.93, "seconds": 2.0, "scored": 2.5}, {"top1": 0.95, "seconds": 3.0, "scored": 3.5}]
    named = {"what": "ours", "note": "as it is", "device": "cuda", "dataset": "dots", "images": 1000}
    races = [{**named, "target": target, "runs": runs} for target in (0.94, 0.941, None)]
    found = cells(report.markdown(report.document(ENVIRONMENT, {}, races=races)))
    for target in ("0.9400, reached", "0.9410, missed", ""):
        spread = ["0.9400 ± 0.0141", target, "2.500 ± 0.707", "3.000 ± 0.707"]
        assert ["ours", "cuda", "dots", "1,000", "2", *spread] in found
    assert ["ours", "1", "0.9500", "3.000", "3.500"] in found


def test_one_value_has_no_spread() -> None:
    assert report.spread([0.5], ".2f") == "0.50"


def test_files_are_written_and_read_back(found: report.Document, tmp_path: Path) -> None:
    paths = report.write(found, tmp_path / "bench")
    assert [path.name for path in paths] == ["bench.md", "bench.json", "bench.png"]
    assert paths[0].read_text() == report.markdown(found)
    assert json.loads(paths[1].read_text()) == found
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_a_report_without_timings_keeps_no_older_figure(found: report.Document, tmp_path: Path) -> None:
    report.write(found, tmp_path)
    paths = report.write({**found, "timings": []}, tmp_path)
    assert [path.name for path in paths] == ["bench.md", "bench.json"]
    assert not (tmp_path / "bench.png").exists()
