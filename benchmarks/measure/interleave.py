"""Time two functions in alternation, so that disturbances of the machine affect both and not their ratio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

T = TypeVar("T")

SHORT = 0.02
"""Duration in seconds below which a call is timed right after an untimed call of the same function. Idle threads of
torch and ONNX Runtime spin for some milliseconds and occupy the cores of the next call: on two cores, ONNX Runtime took
0.08 ms for an image by itself, 0.32 ms straight after eager torch, and 0.14 ms with an untimed call between."""

WARM_UP = 3
"""Calls before the timing starts: CUDA loads its kernels in the first, TorchScript compiles in the first two."""


@dataclass(frozen=True)
class Effort:
    """Limits of a comparison: `seconds` to fill with rounds, but between `least` and `most` rounds."""

    seconds: float
    least: int
    most: int


THOROUGH = Effort(seconds=4.0, least=11, most=301)
QUICK = Effort(seconds=0.3, least=3, most=15)


def compare(
    benchmark: BenchmarkFixture,
    baseline: Callable[[T], object],
    target: Callable[[T], object],
    inputs: Sequence[T],
    *,
    images: Sequence[int],
    prime: bool = False,
) -> None:
    """Time the baseline and then the target in every round, and store the figures in ``benchmark.extra_info``.

    Args:
        benchmark: the fixture; its own statistics are those of the target.
        baseline: function to compare with; it must return only when its work is done (synchronised on CUDA).
        target: function to measure, with the same requirement.
        inputs: one input per round, given to both functions.
        images: number of images of each input.
        prime: call each function once, untimed, right before it is timed.
    """
    seconds: list[float] = []
    turns = iter(inputs)

    def time_baseline() -> tuple[tuple[T], dict[str, Any]]:
        given = next(turns)
        if prime:
            baseline(given)
        start = perf_counter()
        baseline(given)
        seconds.append(perf_counter() - start)
        if prime:
            target(given)
        return (given,), {}

    benchmark.pedantic(target, setup=time_baseline, rounds=len(inputs))  # type: ignore[no-untyped-call]
    if benchmark.stats:  # there are none with --benchmark-disable
        benchmark.extra_info |= figures(seconds, benchmark.stats.stats.data, images)


def rounds(
    baseline: Callable[[T], object], target: Callable[[T], object], given: T, effort: Effort
) -> tuple[int, bool]:
    """Warm up both functions; return the number of rounds within the effort, and whether `compare` should prime."""
    for _ in range(WARM_UP):
        start = perf_counter()
        baseline(given)
        target(given)
        both = perf_counter() - start
    prime = both < 2 * SHORT
    return min(max(int(effort.seconds / both / (1 + prime)), effort.least), effort.most), prime


def figures(baseline: Sequence[float], target: Sequence[float], images: Sequence[int]) -> dict[str, Any]:
    """Summarize paired timings for the report, ready for JSON.

    Args:
        baseline: seconds of each round of the baseline.
        target: seconds of each round of the target.
        images: number of images in each round.

    Returns:
        ``ratio``: median, quartiles and extremes of the baseline's seconds divided by the target's in each round, so
        that 2 is twice as fast; and for both, milliseconds per round and median images per second.
    """
    low, q1, median, q3, high = np.quantile(np.divide(baseline, target), (0, 0.25, 0.5, 0.75, 1)).tolist()
    return {
        "rounds": len(target),
        "images": max(images),
        "ratio": {"median": median, "q1": q1, "q3": q3, "min": low, "max": high},
        **_absolute(target, images),
        **{f"baseline_{name}": value for name, value in _absolute(baseline, images).items()},
    }


def _absolute(seconds: Sequence[float], images: Sequence[int]) -> dict[str, Any]:
    median, p95 = np.quantile(seconds, (0.5, 0.95)).tolist()
    speed = float(np.median(np.divide(images, seconds)))
    return {"ms": {"median": 1e3 * median, "p95": 1e3 * p95}, "images_per_second": speed}
