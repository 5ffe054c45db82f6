"""One option for all tests: `--no-skips`, for machines that have everything the tests need."""

import os

import pytest

# A pytest that a test starts is no worker of this one: pytest-benchmark, for one, measures nothing in a worker.
os.environ.pop("PYTEST_XDIST_WORKER", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail when a test is skipped, those marked gpu excepted")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None:
        skipped = [
            report for report in reporter.stats.get("skipped", []) if "gpu" not in getattr(report, "keywords", ())
        ]
        if skipped:
            reporter.write_line(f"\n--no-skips: {len(skipped)} skipped, which counts as failed", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
