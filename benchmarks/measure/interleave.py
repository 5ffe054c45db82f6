"""Time two ways to do one thing in turns, so that what slows the machine slows both and their ratio stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

T = TypeVar("T")

SHORT = 0.02
"""Seconds; a shorter call is timed right after an untimed one of its own. The idle threads of torch and of ONNX
Runtime spin for some milliseconds and take the cores from whoever comes next: on two cores ONNX Runtime took
0.08 ms for an image by itself, 0.32 ms straight after eager torch, and 0.14 ms with an untimed call between."""

WARM_UP = 3
"""Calls before anything is timed: CUDA loads its kernels in the first, TorchScript compiles in the first two."""


@dataclass(frozen=True)
class Effort:
    """How long a comparison may take: `seconds` to fill with rounds, but at `least` and at `most` so many."""

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
    """Time the baseline and then the target in every round, and put what comes of it into ``benchmark.extra_info``.

    Args:
        benchmark: the fixture; its own statistics are the target's.
        baseline: returns once its work is done, which on CUDA means synchronised.
        target: likewise.
        inputs: of the rounds; both get the same.
        images: how many each input is.
        prime: call each once, untimed, right before it is timed.
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
    """Warm both up; how many rounds the effort allows them, and whether `compare` should prime them."""
    for _ in range(WARM_UP):
        start = perf_counter()
        baseline(given)
        target(given)
        both = perf_counter() - start
    prime = both < 2 * SHORT
    return min(max(int(effort.seconds / both / (1 + prime)), effort.least), effort.most), prime


def figures(baseline: Sequence[float], target: Sequence[float], images: Sequence[int]) -> dict[str, Any]:
    """What a report says of paired timings, ready for JSON.

    Args:
        baseline: seconds of each round.
        target: seconds of the same rounds.
        images: how many each round had.

    Returns:
        ``ratio``, the baseline's seconds by the target's round by round, so that 2 is twice as fast, with its
        quartiles and extremes; and of both, milliseconds a round and the median of the images a second.
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
