"""What holds for every test: in CI no test may be skipped, hypothesis is kept short, and long series have more time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import types
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_common = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# In CI the quick tests draw the same examples every time, so that a verdict is about the commit.
settings.register_profile("quick", _common, derandomize=bool(os.environ.get("PASSOPROXY_CI")))
# New examples every time: `make test-slow` runs the property tests with it.
settings.register_profile("explore", _common, derandomize=False)
settings.load_profile("quick")

LONG_SERIES = 900
"""Seconds after which a slow test counts as hanging, unless it says otherwise."""


LOOPBACK = "127.0.0.1,localhost,::1"


def pytest_configure() -> None:
    """Undoes what the caller's environment would change for the tests."""
    # A shell starts a script's background jobs with SIGINT ignored, and every process that a test starts would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # curl and requests would send requests for loopback addresses to the machine's proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (LOOPBACK, os.environ.get(name))))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_SERIES))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[object]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Before the report is made, gives every traceback entry a line number: pytest cannot report one without."""
    if call.excinfo is not None:
        error = call.excinfo.value
        before = error.__traceback__
        number_lines(error)
        if error.__traceback__ is not before:
            call.excinfo = pytest.ExceptionInfo.from_exception(error)
    return (yield)


def number_lines(error: BaseException | None, seen: frozenset[int] = frozenset()) -> None:
    """Gives traceback entries without a line number (instructions that the compiler added: `tb_lineno` is None) their function's line.

    Covers the causes, the contexts and the members of groups.
    """
    if error is None or id(error) in seen:
        return
    entries = []
    entry = error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    if any(each.tb_lineno is None for each in entries):
        numbered = None
        for each in reversed(entries):
            line = each.tb_frame.f_code.co_firstlineno if each.tb_lineno is None else each.tb_lineno
            numbered = types.TracebackType(numbered, each.tb_frame, each.tb_lasti, line)
        error.__traceback__ = numbered
    seen |= {id(error)}
    for inner in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
        number_lines(inner, seen)


def program(name: str) -> str:
    """The path of a program that the test needs. If it is missing the test is skipped, which CI does not allow."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def npm_package(name: str, version: str) -> Path:
    """The folder of a package from the npm registry, which is installed once, outside the repository. Without npm or registry the test is skipped."""
    npm, base = program("npm"), Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "passoproxy-tests" / name
    if not (folder / "node_modules" / name / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        command = [npm, "install", "--no-audit", "--no-fund", f"{name}@{version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=170)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed from the npm registry: {done.stderr.strip()[-200:]}")
    return folder


MAY_BE_MISSING = "PASSOPROXY_CACHE_TESTS"
"""Names a copy of the public cache tests, which is not part of the project: without one, CI skips them too, and says so."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    allowed = not os.environ.get(MAY_BE_MISSING) and MAY_BE_MISSING in str(report.longrepr)
    if report.skipped and not allowed and not hasattr(report, "wasxfail") and os.environ.get("PASSOPROXY_CI"):
        _skipped.append(report.nodeid)
    if report.when == "call" and report.passed and "slow" in report.keywords and report.capstdout.strip():
        _figures.append((report.nodeid, report.capstdout.strip()))


_skipped: list[str] = []
_figures: list[tuple[str, str]] = []
"""What long series printed: the figures that the documents give."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures")
    for test, figures in _figures:
        terminalreporter.write_line(test.partition("::")[2], bold=True)
        terminalreporter.write_line(figures)
    if _skipped:
        terminalreporter.write_line(f"skipped although this is CI: {', '.join(_skipped)}", red=True)
