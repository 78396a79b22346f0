"""The bench: every row and bound starts and its answers are right, rows can be chosen, and what is written says what was measured. No timing is asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import bounds, report, rows
from bench.__main__ import main
from bench.bounds import BOUNDS, Held
from bench.load import Outcome
from bench.rows import ROWS, Effort, Result
from bench.servers import PACKAGES, ROOT, Failed
from tests.conftest import program

FAST, SLOW = Outcome(30_000, 5e-6, 0.001, 0.002, 0.003), Outcome(20_000, 1e-5, 0.002, 0.004, 0.005)
QUIET_ROW = next(row for row in ROWS if row.name == "hit-1k")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.needs_ci
def test_every_row_and_bound_starts_and_its_answers_are_right() -> None:
    for name in PACKAGES:
        program(name)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "check"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("answers are right") == len(ROWS)
    assert len(done.stdout.splitlines()) == len(ROWS) + len(BOUNDS)


def test_rows_are_chosen_by_name_and_an_unknown_name_is_told() -> None:
    assert [row.name for row in rows.chosen(["zipf", "hit-1k"])] == ["hit-1k", "zipf"]
    assert 5 <= len(rows.chosen(quick=True)) < len(rows.chosen()) == len(ROWS)
    with pytest.raises(Failed, match=r"no row wrong; there are hit-1k, "):
        rows.chosen(["wrong"])


def test_a_missing_program_is_one_line_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.servers.program", lambda name: None if name in ("nginx", "wrk") else name)
    assert main(["hits"]) == 2
    assert capsys.readouterr().err == "nginx, wrk not found; on Debian: apt-get install nginx wrk\n"


@pytest.mark.parametrize(
    ("ours", "peer", "verdict"),
    [(FAST, SLOW, "aim"), (FAST, FAST, "below"), (Outcome(27_000, 6.5e-6, 0, 0, 0), SLOW, "reached")],
)
def test_a_row_reaches_its_figures_or_not(ours: Outcome, peer: Outcome, verdict: str) -> None:
    result = Result(QUIET_ROW, [ours, ours, ours], [peer, peer, peer])
    assert report.reached(result) == verdict
    assert verdict in report.line(result)


def test_times_of_misses_at_once_are_better_when_less() -> None:
    row = next(row for row in ROWS if row.load.at_once)
    result = Result(row, [Outcome(20, 1e-3, 0, 0, 0)], [Outcome(2, 1e-3, 0, 0, 0)])
    assert (result.ratio.median, report.reached(result)) == (0.1, "aim")


def test_the_written_results_hold_ratios_ranges_failures_and_bounds() -> None:
    measured = Result(QUIET_ROW, [FAST, SLOW, FAST], [SLOW, SLOW, SLOW])
    text = report.results(
        [measured, Result(ROWS[1], failure="it | broke")],
        [Held(BOUNDS[0], 50.0), Held(BOUNDS[1], 151.0), Held(BOUNDS[2], 4.0, 1.0), Held(BOUNDS[3], failure="no start")],
        Effort(),
        "python -m bench all",
    )
    assert (
        "| **1.50** | 1.00 – 1.50 | 1.25 | 1.5 | aim | 5.0 | 10.0 | 0.50 | 1.00 / 2.00 / 3.00 | 2.00 / 4.00 / 5.00 |"
        in text
    )
    assert "| the same, nginx tuned | failed: it   broke |" in text
    assert "| 50.0 ms | 60 | kept | |" in text.replace("|  |", "| |")
    assert "| 151.0 ms | 150 | BEYOND |" in text
    assert "| 4.0 | 5 | kept | 1.0 |" in text
    assert "| failed: no start | 300 | failed |" in text
    assert "7 rounds of 1 s" in text
    assert text.endswith("1 of 1 rows reach their figure, 1 their aim; 2 of 4 bounds are kept; 2 failed.\n")


def test_a_row_or_bound_that_fails_does_not_take_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bench.servers import Stand

    def broken(name: str) -> object:
        raise Failed(f"{name} does not start")

    stand = Stand(tmp_path)
    monkeypatch.setattr(stand, "start", broken)
    told: list[object] = []
    results = rows.compare(stand, ROWS[:3], Effort(), told.append)
    assert [each.failure for each in results] == [
        "passoproxy does not start",
        "passoproxy does not start",
        "passoproxy-logged does not start",
    ]
    monkeypatch.setattr(bounds, "BOUNDS", tuple(each for each in BOUNDS if each.name in ("wakes", "memory")))
    held = bounds.compare(stand, Effort(), told.append)
    assert [each.failure for each in held] == ["passoproxy does not start", "passoproxy-small does not start"]
    assert len(told) == 5
