"""Read the figures that the commands of the GPU suite leave, from their output and their files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.stepwise import Figures
from benchmarks.report.document import spread


def scores(run: Path) -> Figures:
    """From the summary of a finished run."""
    summary = json.loads((run / "summary.json").read_text())
    classified = ("test_top1", "test_top1_tta", "val_top1")
    detected = ("test_map50", "test_map50_tta", "test_map", "test_map_tta", "val_map50")
    wanted = (*classified, *detected, "epochs", "seconds", "hardware")
    found = {key: summary[key] for key in wanted if key in summary}
    return found | {"seconds an epoch": round(summary["seconds"] / summary["epochs"], 2)}


def parity(bundle: Path) -> Figures:
    """From the verdict of the gate."""
    found = json.loads((bundle / "parity.json").read_text())
    return {
        f"{each['path']} on {each['device']}": "; ".join(
            ([f"{_apart(each['differences'])} on the probe", _figures(each["task"])] if each["task"] else [])
            + ([] if each["passed"] else ["left out", *each["reasons"]])
        )
        for each in (*found["artifacts"], *found["left_out"])
    }


def placement(output: str) -> Figures:
    """From what the doctor says: where each graph runs."""
    (report,) = json_lines(output)
    return {
        graph["path"]: graph["skipped"]
        or f"runs on {graph['provider']}, {_apart(graph['differences'])} on the probe; nodes: "
        + ", ".join(f"{provider} {sum(kinds.values())}" for provider, kinds in graph["nodes"].items())
        for graph in report["graphs"]
    }


def _apart(differences: Mapping[str, float]) -> str:
    return ", ".join(f"{name} differ by {each:.2g}" for name, each in differences.items())


def _figures(task: Mapping[str, Any]) -> str:
    """A task's figures of the answers to the test split, whichever they are; of lists of images, their lengths."""
    shown = (
        f"{key} {each:.6g}" if isinstance(each, int | float) else f"{len(each)} {key}"
        for key, each in task.items()
        if isinstance(each, int | float) or (isinstance(each, list) and not any(isinstance(i, float) for i in each))
    )
    return ", ".join(shown)


def accuracy(output: str) -> Figures:
    """From predictions on class folders."""
    lines = json_lines(output)
    if not lines:
        raise ValueError("no predictions")
    right = sum(line["label"] == Path(line["path"]).parent.name for line in lines)
    return {"images": len(lines), "top-1": round(right / len(lines), 4)}


def ratios(folder: Path) -> Figures:
    """From the report of the benchmark suite: each ratio with its quartiles."""
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
        what = f"{row['target']}, batch {row['batch']}, {row['device']}, of the roofline"
        figures[what] = f"{row['fraction']:.1%} at {row['tflops']:.3g} TFLOP/s and {row['gbs']:.3g} GB/s"
    return figures


def results(folder: Path) -> Figures:
    """From the newest report of a study: the test scores of each experiment, or why it failed."""
    newest = max(folder.glob("*/results.json"))
    members = json.loads(newest.read_text())["members"]
    wanted = ("test_top1", "test_top1_tta", "seconds")
    return {
        member["experiment"]: member["error"] or {key: member["summary"].get(key) for key in wanted}
        for member in members
    }


def races(folder: Path) -> Figures:
    """From the report of a speed run: mean and spread of each contender."""
    found = json.loads((folder / "bench.json").read_text())
    return {
        race["what"]: f"top-1 {spread([run['top1'] for run in race['runs']], '.4f')} in "
        f"{spread([run['seconds'] for run in race['runs']], '.3f')} s, {len(race['runs'])} runs"
        for race in found["races"]
    }


def json_lines(output: str) -> list[Any]:
    """The lines of an output that are JSON objects; others are warnings of libraries."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]
