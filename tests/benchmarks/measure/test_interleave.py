"""Rounds pair a baseline with a target, and their figures are what the pairs say."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measure.interleave import Effort, figures, rounds

ROOT = Path(__file__).parents[3]

PLANTED = """
import json
import pytest
from benchmarks.measure.interleave import compare

@pytest.mark.parametrize("prime", [False, True])
def test_pairs(benchmark, prime):
    calls = []
    compare(
        benchmark, lambda n: calls.append(["baseline", n]), lambda n: calls.append(["target", n]), [3, 1, 2],
        images=[3, 1, 2], prime=prime,
    )
    benchmark.extra_info["calls"] = calls
"""


def test_every_round_times_the_baseline_and_then_the_target_on_the_same_input(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--benchmark-json", found, tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    plain, primed = (each["extra_info"] for each in json.loads(found.read_text())["benchmarks"])
    assert plain["calls"] == [[who, n] for n in (3, 1, 2) for who in ("baseline", "target")]
    assert primed["calls"] == [[who, n] for n in (3, 1, 2) for who in ("baseline", "baseline", "target", "target")]
    assert plain["rounds"] == primed["rounds"] == 3
    assert plain["images"] == 3


def test_ratios_are_taken_round_by_round() -> None:
    # The third round was slow for both, as when another program runs: its ratio is like the others.
    found = figures(baseline=[2.0, 4.0, 30.0, 6.0, 2.0], target=[1.0, 1.0, 10.0, 1.0, 2.0], images=[10, 10, 10, 10, 4])
    assert found["ratio"] == {"median": 3.0, "q1": 2.0, "q3": 4.0, "min": 1.0, "max": 6.0}
    assert found["rounds"] == 5
    assert found["images"] == 10


def test_speed_and_latency_are_the_targets_own() -> None:
    found = figures(baseline=[2.0, 4.0, 8.0], target=[1.0, 2.0, 4.0], images=[100, 100, 100])
    assert found["images_per_second"] == 50
    assert found["baseline_images_per_second"] == 25
    assert found["ms"] == {"median": 2000.0, "p95": pytest.approx(3800.0)}
    assert found["baseline_ms"]["median"] == 4000.0


def test_figures_are_json() -> None:
    assert json.loads(json.dumps(figures([0.5], [0.25], [1])))["ratio"]["median"] == 2


def test_rounds_keep_to_their_bounds_and_warm_up() -> None:
    calls = []
    count, prime = rounds(lambda _: time.sleep(0.03), lambda _: time.sleep(0.03), None, Effort(1e-3, least=4, most=9))
    assert (count, prime) == (4, False)
    assert rounds(calls.append, calls.append, 1, Effort(1e9, least=4, most=9))[0] == 9
    assert len(calls) == 6
