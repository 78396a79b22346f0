"""What holds for every test: in CI nothing may be skipped, hypothesis is kept short, and long series have more time."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # what CI says of a commit it says again; chance explores elsewhere
    derandomize=bool(os.environ.get("PASSOPROXY_CI")),
)
settings.load_profile("quick")

LONG_SERIES = 900
"""Seconds after which a slow test counts as hanging, unless it says otherwise."""


LOOPBACK = "127.0.0.1,localhost,::1"


def pytest_configure() -> None:
    """What surrounds the tests leads none of them elsewhere."""
    # In the background of a script a shell ignores SIGINT, and so would every process that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # curl and requests would ask a proxy of the machine for what listens on loopback.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (LOOPBACK, os.environ.get(name))))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_SERIES))


def program(name: str) -> str:
    """The path of a program that the test needs; where it is missing the test is skipped, which CI does not allow."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


MAY_BE_MISSING = "PASSOPROXY_CACHE_TESTS"
"""Names a copy of the public cache tests, which is not part of the project: where there is none, CI skips them too, and says so."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    allowed = not os.environ.get(MAY_BE_MISSING) and MAY_BE_MISSING in str(report.longrepr)
    if report.skipped and not allowed and not hasattr(report, "wasxfail") and os.environ.get("PASSOPROXY_CI"):
        _skipped.append(report.nodeid)
    if report.when == "call" and report.passed and "slow" in report.keywords and report.capstdout.strip():
        _figures.append((report.nodeid, report.capstdout.strip()))


RAN_TO_ITS_END = "passoproxy/ran_to_its_end"
"""Under this name pytest's cache says whether failed tests are all that was wrong (tests/failed_last.py)."""

_skipped: list[str] = []
_figures: list[tuple[str, str]] = []
"""What long series printed: the figures that the project speaks of."""


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _skipped:
        session.exitstatus = 1
    cache = getattr(session.config, "cache", None)  # none where pytest runs without its cache
    if cache is not None and not hasattr(session.config, "workerinput"):
        only_failures = exitstatus == pytest.ExitCode.TESTS_FAILED and not _skipped
        cache.set(RAN_TO_ITS_END, only_failures)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures")
    for test, figures in _figures:
        terminalreporter.write_line(test.partition("::")[2], bold=True)
        terminalreporter.write_line(figures)
    if _skipped:
        terminalreporter.write_line(f"skipped although this is CI: {', '.join(_skipped)}", red=True)
