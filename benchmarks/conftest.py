"""Options, fixtures and the report of the benchmark suite."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from assay_deploy.engines.onnxruntime.runtime import installed_runtimes
from assay_deploy.errors import AssayError
from benchmarks.contenders.engines import BenchmarkSubject, configure_torch
from benchmarks.measure.environment import describe, devices
from benchmarks.measure.interleave import QUICK, THOROUGH, Effort
from benchmarks.measure.roofline import Rooflines
from benchmarks.report import document as report

TIMINGS = pytest.StashKey[list[dict[str, Any]]]()
PARITY = pytest.StashKey[list[dict[str, Any]]]()
ROOFLINES = pytest.StashKey[Rooflines]()
SUBJECT = pytest.StashKey[BenchmarkSubject]()
ENVIRONMENT = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options of the suite."""
    group = parser.getgroup("assay")
    group.addoption(
        "--bundle", type=Path, metavar="FOLDER", help="bundle to measure; default: the newest under bundles/"
    )
    group.addoption(
        "--run", type=Path, metavar="FOLDER", help="run that the bundle was exported from; default: found under runs/"
    )
    group.addoption(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="class folders of image files to predict from disk; default: the run's test images, written as PNG",
    )
    group.addoption(
        "--report",
        type=Path,
        metavar="FOLDER",
        default=Path("bench"),
        help="folder for bench.md, bench.json and bench.png; default: bench, which git ignores",
    )
    group.addoption(
        "--device",
        dest="devices",
        action="append",
        choices=["cpu", "cuda"],
        help="device to measure, may be given twice; default: all available devices",
    )
    group.addoption(
        "--quick", action="store_true", help="only a few rounds each: a functional check, not a measurement"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start with an empty report."""
    config.stash[TIMINGS] = []
    config.stash[PARITY] = []
    config.stash[ROOFLINES] = Rooflines()
    config.option.benchmark_quiet = True  # its table shows only the targets' seconds
    if config.option.report.exists() and not config.option.report.is_dir():
        raise pytest.UsageError(f"--report '{config.option.report}' is not a folder")
    config.option.devices = config.option.devices or devices()
    if not set(config.option.devices) <= set(devices()):
        raise pytest.UsageError("--device cuda: torch sees no CUDA device here")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Set the threads of all engines, and record the machine's state before the benchmarks load it."""
    configure_torch()
    session.config.stash[ENVIRONMENT] = describe()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests with every graph of the bundle's model and every device to measure."""
    names, chosen = set(metafunc.fixturenames), metafunc.config.option.devices
    wanted = names & {"graph", "artifact"}
    if wanted:
        graphs = [graph for graph in _subject(metafunc.config).graphs if "graph" in wanted or graph.format != "eager"]
        pairs = [
            pytest.param(device, graph, marks=_missing(device, graph.format))
            for device in chosen
            for graph in graphs
            if graph.place in ("any", device)
        ]
        metafunc.parametrize(("device", *wanted), pairs, ids=str)
    if "provider" in names:
        metafunc.parametrize("provider", [pytest.param(name, marks=_missing(name, "onnx")) for name in chosen])


def _missing(device: str, form: str) -> list[pytest.MarkDecorator]:
    """Skip mark for ONNX graphs on CUDA if the installed ONNX Runtime has no CUDA; else empty."""
    if form != "onnx" or device == "cpu" or "onnxruntime-gpu" in installed_runtimes():
        return []
    return [pytest.mark.skip(reason="onnxruntime-gpu is not installed, so ONNX Runtime has no CUDA")]


def _subject(config: pytest.Config) -> BenchmarkSubject:
    if SUBJECT not in config.stash:
        try:
            config.stash[SUBJECT] = BenchmarkSubject.find(config.option.bundle, config.option.run)
        except AssayError as error:
            raise pytest.Collector.CollectError(str(error)) from error
    return config.stash[SUBJECT]


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> BenchmarkSubject:
    """Bundle and run under test."""
    return _subject(pytestconfig)


@pytest.fixture(scope="session")
def effort(pytestconfig: pytest.Config) -> Effort:
    """Time limit of a comparison."""
    return QUICK if pytestconfig.option.quick else THOROUGH


@pytest.fixture(scope="session")
def parity(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    """List to which parity tests append their findings."""
    return pytestconfig.stash[PARITY]


@pytest.fixture(scope="session")
def rooflines(pytestconfig: pytest.Config) -> Rooflines:
    """Collector of the roofline comparison of timed trainings."""
    return pytestconfig.stash[ROOFLINES]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Store the figures of a benchmark after its test passed."""
    yield
    benchmark = item.funcargs.get("benchmark") if isinstance(item, pytest.Function) else None
    if isinstance(benchmark, BenchmarkFixture) and "ratio" in benchmark.extra_info:
        item.config.stash[TIMINGS].append({"group": benchmark.group, **benchmark.extra_info})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the report and print its table."""
    timings, parity = config.stash[TIMINGS], config.stash[PARITY]
    if not timings and not parity:
        return
    subject = {"effort": "quick: only a few rounds each, so the figures are rough"} if config.option.quick else {}
    if SUBJECT in config.stash:
        manifest = config.stash[SUBJECT].manifest
        subject |= {"bundle": manifest.name, "run": manifest.source.run, "run's commit": manifest.source.commit}
    rooflines = config.stash[ROOFLINES].rows
    document = report.document(config.stash[ENVIRONMENT], subject, timings=timings, parity=parity, rooflines=rooflines)
    terminalreporter.section("benchmarks")
    terminalreporter.write(report.markdown(document))
    for path in report.write(document, config.option.report):
        terminalreporter.write_line(str(path))
