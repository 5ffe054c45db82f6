"""Inference speed of each engine relative to eager torch, with the same views, device, threads and images."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contenders.engines import BenchmarkSubject, Graph
from benchmarks.measure.interleave import Effort, compare, rounds


@pytest.mark.parametrize("batch", [1, 32, 256])
def test_inference(
    benchmark: BenchmarkFixture, subject: BenchmarkSubject, graph: Graph, device: str, batch: int, effort: Effort
) -> None:
    """Compare every graph with eager torch; eager compared with itself shows the random variation of the ratio."""
    eager = Graph("eager", graph.tta)
    baseline, target = subject.start(eager, device), subject.start(graph, device)
    images = subject.batch(batch)
    count, prime = rounds(baseline, target, images, effort)
    benchmark.group = "Inference"
    benchmark.extra_info |= {"target": str(graph), "baseline": str(eager), "device": device}
    compare(benchmark, baseline, target, [images] * count, images=[batch] * count, prime=prime)
