"""What was measured, for a terminal and as bench/results.md."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench.bounds import Held
from bench.rows import Effort, Result
from bench.servers import program

WIDTH = 46


def heading() -> str:
    """Above the lines of `line`."""
    return (
        f"{'':{WIDTH}}{'ratio':>7}{'lowest – highest':>19}{'at least':>10}{'aim':>6}  {'':7}"
        f"{'µs':>7}{'nginx':>8}{'ratio':>7}   p50/p99/p99.9 in ms, nginx"
    )


def line(result: Result) -> str:
    """One row for a terminal."""
    if result.failure:
        return f"{result.row.text:{WIDTH}} FAILED: {result.failure}"
    if not result.ours:
        return f"{result.row.text:{WIDTH}} answers are right"
    ratio, processor = result.ratio, result.processor_ratio
    return (
        f"{result.row.text:{WIDTH}}{ratio.median:7.2f}{f'{ratio.lowest:.2f} – {ratio.highest:.2f}':>19}"
        f"{_number(result.row.least):>10}{_number(result.row.aim):>6}  {reached(result):7}"
        f"{_processor(result.ours):7.1f}{_processor(result.peer):8.1f}{processor.median:7.2f}"
        f"   {_latencies(result.ours)}, {_latencies(result.peer)}"
    )


def bound_line(held: Held, effort: Effort) -> str:
    """One bound for a terminal."""
    text = _bound_text(held, effort)
    if held.failure:
        return f"{text:{WIDTH + 20}} FAILED: {held.failure}"
    nginx = "" if held.nginx is None else f"   nginx {held.nginx:.1f} {held.bound.unit}"
    return f"{text:{WIDTH + 20}}{held.value:8.1f} {held.bound.unit:4} at most {held.bound.most:g}  {kept(held)}{nginx}"


def reached(result: Result) -> str:
    """Which of its figures a row reaches; its processor time, where that has figures too, has to reach them as well."""
    if result.failure:
        return "failed"
    verdicts = []
    if result.row.least is not None and result.row.aim is not None:
        verdicts.append(_verdict(result.ratio.median, result.row.least, result.row.aim, bool(result.row.load.at_once)))
    if result.row.processor is not None:
        verdicts.append(_verdict(result.processor_ratio.median, *result.row.processor, True))
    return ("below", "reached", "aim")[min(verdicts)] if verdicts else ""


def _verdict(value: float, least: float, aim: float, less_is_better: bool) -> int:
    if less_is_better:
        return (value <= least) + (value <= aim)
    return (value >= least) + (value >= aim)


def kept(held: Held) -> str:
    """Whether a bound holds."""
    return "failed" if held.failure else "kept" if held.value <= held.bound.most else "BEYOND"


def summary(rows: Sequence[Result], bounds: Sequence[Held]) -> str:
    """How many figures are reached, for the end of both."""
    verdicts = [verdict for each in rows if (verdict := reached(each)) and verdict != "failed"]
    failed = sum(bool(each.failure) for each in rows) + sum(bool(each.failure) for each in bounds)
    parts = [
        f"{sum(each != 'below' for each in verdicts)} of {len(verdicts)} rows reach their figure, {verdicts.count('aim')} their aim"
    ]
    if bounds:
        parts.append(f"{sum(kept(each) == 'kept' for each in bounds)} of {len(bounds)} bounds are kept")
    return "; ".join([*parts, *([f"{failed} failed"] if failed else [])]) + "."


def results(rows: Sequence[Result], bounds: Sequence[Held], effort: Effort, command: str) -> str:
    """The text of bench/results.md."""
    parts = [
        "# Beside nginx: the figures",
        "",
        f"Written by `{command}` on {time.strftime('%Y-%m-%d', time.gmtime())}. To repeat: `make bench` in a checkout, with Debian's packages "
        "`nginx` and `wrk`. What the rows mean, and what was tried: [docs/performance.md](../docs/performance.md).",
        "",
        machine() + f" {effort.rounds} rounds of {effort.seconds:g} s, which alternate between the two.",
        "",
        "*Ratio*: answers a second beside nginx's in the same round (for misses at once, time beside time: less is better), median and range of all rounds. "
        "*µs*: processor time, user and system, for each answer.",
        "",
        "| | ratio | range | at least | aim | | µs | nginx | ratio | p50 / p99 / p99.9 in ms | nginx |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in rows:
        if each.failure:
            parts.append(f"| {each.row.text} | failed: {each.failure.replace('|', ' ')} | | | | | | | | | |")
            continue
        ratio, row = each.ratio, each.row
        cells = [
            row.text
            + (f" (processor time: at least {row.processor[0]}, aim {row.processor[1]})" if row.processor else ""),
            f"**{ratio.median:.2f}**",
            f"{ratio.lowest:.2f} – {ratio.highest:.2f}",
            _number(row.least),
            _number(row.aim),
            reached(each),
            f"{_processor(each.ours):.1f}",
            f"{_processor(each.peer):.1f}",
            f"{each.processor_ratio.median:.2f}",
            _latencies(each.ours),
            _latencies(each.peer),
        ]
        parts.append(f"| {' | '.join(cells)} |")
    if bounds:
        parts += ["", "| bound | | at most | | nginx |", "| --- | ---: | ---: | --- | ---: |"]
    for held in bounds:
        value = f"failed: {held.failure}" if held.failure else f"{held.value:.1f} {held.bound.unit}"
        nginx = "" if held.nginx is None else f"{held.nginx:.1f} {held.bound.unit}"
        parts.append(
            f"| {_bound_text(held, effort)} | {value.strip()} | {held.bound.most:g} | {kept(held)} | {nginx.strip()} |"
        )
    return "\n".join([*parts, "", summary(rows, bounds)]) + "\n"


def machine() -> str:
    """The machine in words, without its name, and the versions."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {gigabytes:.0f} GiB, Linux {'.'.join(platform.release().split('.')[:2])}; "
        f"Python {platform.python_version()}, uvloop {version('uvloop')}, {_nginx_version()}."
    )


def _nginx_version() -> str:
    done = subprocess.run([str(program("nginx")), "-v"], capture_output=True, text=True, check=False)
    return done.stderr.strip().partition(": ")[2].replace("/", " ") or "nginx"


def _bound_text(held: Held, effort: Effort) -> str:
    return held.bound.text.format(half=f"{effort.entries // 2:,}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _processor(outcomes: Sequence[object]) -> float:
    return 1e6 * _median(outcomes, "processor")


def _latencies(outcomes: Sequence[object]) -> str:
    return " / ".join(f"{1e3 * _median(outcomes, name):.2f}" for name in ("p50", "p99", "p999"))


def _median(outcomes: Sequence[object], name: str) -> float:
    values = sorted(getattr(each, name) for each in outcomes)
    return float(values[len(values) // 2])
