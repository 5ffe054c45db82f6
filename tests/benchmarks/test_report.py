"""The report says in a table, a JSON file and a figure what was measured, where and with what."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.interleave import figures

ENVIRONMENT = {
    "hardware": {"cpu": "Abacus 5, 2 threads", "cuda": "Torch 9000, 8 GiB"},
    "threads": 2,
    "load": 0.3,
    "versions": {"python": "3.12.1", "torch": "2.11.0"},
    "commit": "",
}


def timing(group: str, target: str, device: str, ratio: float, pictures: int) -> dict[str, Any]:
    baseline = [ratio * 0.9, ratio, ratio * 1.1]
    named = {"group": group, "target": target, "baseline": "eager torch", "device": device}
    return named | figures(baseline, [1.0, 1.0, 1.0], [pictures] * 3)


@pytest.fixture
def found() -> report.Document:
    timings = [
        timing("Inference", "ONNX Runtime", "cpu", 2.5, 1),
        timing("Inference", "ONNX Runtime", "cuda", 0.5, 256),
        timing("Picture files", "assay_deploy.predict", "cpu", 4.0, 500),
    ]
    parity = [{"target": "TorchScript", "device": "cpu", "dataset": "digits/test", "n": 1000, "changed": 1}]
    parity[0] |= {"top1_eager": 0.975, "top1": 0.974}
    return report.document(copy.deepcopy(ENVIRONMENT), {"bundle": "digits"}, timings, parity)


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
    assert headings == ["# Benchmarks", "## Inference", "## Picture files", "## Parity"]


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
