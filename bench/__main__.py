"""passoproxy beside nginx, on this machine.

    python -m bench all                       every row and bound, and bench/results.md (`make bench`)
    python -m bench hits --quick              some rows, in under a minute (`make bench-quick`)
    python -m bench hits --rows hit-1k,zipf --rounds 3 --seconds 2
    python -m bench bounds
    python -m bench check                     every row and bound, in short: are the answers right? Nothing is timed
    python -m bench fleet                     many instances on one Redis, on paper (`bench/fleet.py`)

Both stand before the same origin and have one worker on one core; wrk and the origin run on another. Rounds alternate between the two, so that
what a shared machine does to one it does to the other. What counts is the ratio. Exit code: 1 if a row failed, 2 if a program is missing.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import bounds, fleet, report, rows
from bench.servers import ROOT, Failed, Stand, missing

ANSWERS = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is asked for; the exit code."""
    chosen = _options(arguments)
    if chosen.what == "fleet":
        print(fleet.report())
        return 0
    try:
        wanted = (
            rows.chosen(chosen.rows.split(",") if chosen.rows else (), chosen.quick) if chosen.what != "bounds" else []
        )
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 2
    if line := missing():
        print(line, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    effort = rows.Effort(chosen.rounds, chosen.seconds, chosen.entries, ANSWERS if chosen.what == "check" else 0)
    with (
        tempfile.TemporaryDirectory(prefix="passoproxy-bench-", ignore_cleanup_errors=True) as folder,
        Stand(Path(folder), seen=chosen.what == "check") as stand,
    ):
        results, held = _measured(stand, wanted, effort, chosen.what != "hits")
    if not effort.look:
        print(report.summary(results, held))
    if chosen.output:
        command = f"python -m bench {' '.join(sys.argv[1:] if arguments is None else arguments)}"
        chosen.output.write_text(report.results(results, held, effort, command))
        print(f"written: {chosen.output}")
    return int(any(each.failure for each in results) or any(each.failure for each in held))


def _measured(
    stand: Stand, wanted: Sequence[rows.Row], effort: rows.Effort, with_bounds: bool
) -> tuple[list[rows.Result], list[bounds.Held]]:
    if wanted and not effort.look:
        print(report.heading(), flush=True)
    first = [row for row in wanted if row.name != "full"]
    results = rows.compare(stand, first, effort, lambda each: print(report.line(each), flush=True))
    held: list[bounds.Held] = []
    if with_bounds:
        held = bounds.compare(stand, effort, lambda each: print(report.bound_line(each, effort), flush=True))
    # The last one, because it goes on from what a bound stored.
    last = [row for row in wanted if row.name == "full"]
    results += rows.compare(stand, last, effort, lambda each: print(report.line(each), flush=True))
    return results, held


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("all", "hits", "bounds", "check", "fleet"))
    parser.add_argument("--rows", default="", help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=None, help="of each row (7; quick: 3)")
    parser.add_argument("--seconds", type=float, default=None, help="of each round, by tenths (1; quick: 0.5)")
    parser.add_argument("--entries", type=int, default=200_000, help="on disk, in the row `full`")
    parser.add_argument("--quick", action="store_true", help="fewer rows, shorter rounds")
    parser.add_argument("--output", type=Path, default=None, help="a file for the results in Markdown")
    chosen = parser.parse_args(arguments)
    chosen.rounds = chosen.rounds or (3 if chosen.quick else 7)
    chosen.seconds = chosen.seconds or (0.5 if chosen.quick else 1.0)
    if chosen.what == "check":
        chosen.rounds, chosen.seconds, chosen.entries = 1, 0.1, ANSWERS
    if chosen.what == "all" and chosen.output is None:
        chosen.output = ROOT / "bench" / "results.md"
    return chosen


if __name__ == "__main__":
    sys.exit(main())
