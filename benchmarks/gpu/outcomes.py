"""Extract the figures of the GPU suite's commands from their outputs and result files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.stepwise import Figures
from benchmarks.report.document import spread


def scores(run: Path) -> Figures:
    """Read the scores and the training time from the summary of a finished run."""
    summary = json.loads((run / "summary.json").read_text())
    classified = ("test_top1", "test_top1_tta", "val_top1")
    detected = ("test_map50", "test_map50_tta", "test_map", "test_map_tta", "val_map50")
    wanted = (*classified, *detected, "epochs", "seconds", "hardware")
    found = {key: summary[key] for key in wanted if key in summary}
    return found | {"seconds an epoch": round(summary["seconds"] / summary["epochs"], 2)}


def parity(bundle: Path) -> Figures:
    """Read the differences and task figures of each artifact from the gate's ``parity.json``."""
    found = json.loads((bundle / "parity.json").read_text())
    return {
        f"{each['path']} on {each['device']}": "; ".join(
            ([f"{_differences(each['differences'])} on the probe", _figures(each["task"])] if each["task"] else [])
            + ([] if each["passed"] else ["left out", *each["reasons"]])
        )
        for each in (*found["artifacts"], *found["left_out"])
    }


def placement(output: str) -> Figures:
    """Read the placement and the differences of each graph from the JSON output of `assay-deploy doctor`."""
    (report,) = json_lines(output)
    return {
        graph["path"]: graph["skipped"]
        or f"runs on {graph['provider']}, {_differences(graph['differences'])} on the probe; nodes: "
        + ", ".join(f"{provider} {sum(kinds.values())}" for provider, kinds in graph["nodes"].items())
        for graph in report["graphs"]
    }


def _differences(differences: Mapping[str, float]) -> str:
    return ", ".join(f"{name} differ by {each:.2g}" for name, each in differences.items())


def _figures(task: Mapping[str, Any]) -> str:
    """Format all figures of a task on the test split; lists of images are given by their length."""
    shown = (
        f"{key} {each:.6g}" if isinstance(each, int | float) else f"{len(each)} {key}"
        for key, each in task.items()
        if isinstance(each, int | float) or (isinstance(each, list) and not any(isinstance(i, float) for i in each))
    )
    return ", ".join(shown)


def accuracy(output: str) -> Figures:
    """Compute the accuracy from predictions on class folders, the JSON output of `assay-deploy predict`."""
    lines = json_lines(output)
    if not lines:
        raise ValueError("no predictions")
    right = sum(line["label"] == Path(line["path"]).parent.name for line in lines)
    return {"images": len(lines), "top-1": round(right / len(lines), 4)}


def ratios(folder: Path) -> Figures:
    """Read each ratio with its quartiles from the report of the benchmark suite."""
    found = json.loads((folder / "bench.json").read_text())
    figures = {}
    for timing in found["timings"]:
        ratio = timing["ratio"]
        what = f"{timing['target']} against {timing['baseline']}, {timing['device']}, {timing['images']} images"
        figures[what] = (
            f"{ratio['median']:.2f} [{ratio['q1']:.2f}, {ratio['q3']:.2f}] times as fast, "
            f"{timing['images_per_second']:,.0f} images/s"
        )
    for finding in found["parity"]:
        what = f"{finding['target']} on {finding['dataset']}, {finding['device']}"
        figures[what] = f"top-1 {finding['top1']:.4f}, {finding['changed']} of {finding['n']} changed"
    for row in found["rooflines"]:
        what = f"{row['target']}, batch {row['batch']}, {row['device']}, fraction of the roofline"
        figures[what] = f"{row['fraction']:.1%} at {row['tflops']:.3g} TFLOP/s and {row['gbs']:.3g} GB/s"
    return figures


def results(folder: Path) -> Figures:
    """Read the test scores or the error of each experiment from the newest report of a study."""
    newest = max(folder.glob("*/results.json"))
    members = json.loads(newest.read_text())["members"]
    wanted = ("test_top1", "test_top1_tta", "seconds")
    return {
        member["experiment"]: member["error"] or {key: member["summary"].get(key) for key in wanted}
        for member in members
    }


def races(folder: Path) -> Figures:
    """Read the mean and the spread of each contender from the report of a speed run."""
    found = json.loads((folder / "bench.json").read_text())
    return {
        race["what"]: f"top-1 {spread([run['top1'] for run in race['runs']], '.4f')} in "
        f"{spread([run['seconds'] for run in race['runs']], '.3f')} s, {len(race['runs'])} runs"
        for race in found["races"]
    }


def json_lines(output: str) -> list[Any]:
    """Parse the lines of an output that are JSON objects; other lines are warnings of libraries."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]
