"""What is compared: each row is one load on the daemon and on nginx, with the ratio that is to be reached."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from bench.load import Load, Outcome, fill, looked, measured
from bench.servers import Failed, Stand, reason_of

HIT = Load("/hit/1k")


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `least` and `aim` are ratios of what is measured to its peer: rates, or times with `Load.at_once`, where less is better.

    `processor` is the same pair for processor time, where less is better. `quick`: part of `make bench-quick`.
    """

    name: str
    text: str
    load: Load
    ours: str = "passoproxy"
    peer: str = "nginx"
    least: float | None = None
    aim: float | None = None
    processor: tuple[float, float] | None = None
    quick: bool = False


ROWS = (
    Row("hit-1k", "hit, 1 KiB, 32 connections", HIT, least=1.25, aim=1.5, processor=(0.7, 0.6), quick=True),
    Row("hit-1k-tuned", "the same, nginx tuned", HIT, peer="nginx-tuned", least=1.0, aim=1.3, quick=True),
    Row(
        "hit-1k-logged",
        "the same, access log on at both",
        HIT,
        ours="passoproxy-logged",
        peer="nginx-logged",
        least=1.0,
        aim=1.3,
        quick=True,
    ),
    Row(
        "hit-1k-buffered",
        "the same, nginx writes its log by 64 KiB",
        HIT,
        ours="passoproxy-logged",
        peer="nginx-buffered",
    ),
    Row(
        "hit-traceparent",
        "hit, a fresh traceparent each time",
        replace(HIT, mode="traceparent"),
        least=0.35,
        aim=0.6,
        quick=True,
    ),
    Row("hit-1k-c1", "hit, 1 KiB, 1 connection", replace(HIT, connections=1), least=0.9, aim=1.05),
    Row("hit-1k-c256", "hit, 1 KiB, 256 connections", replace(HIT, connections=256), least=1.25, aim=1.5),
    Row(
        "zipf",
        "hit, Zipf over 10,000 URLs",
        replace(HIT, mode="zipf", count=10_000),
        least=1.25,
        aim=1.5,
        quick=True,
    ),
    Row("hit-20k", "hit, 20 KiB from memory", Load("/hit/20k"), least=1.0, aim=1.3),
    Row("hit-200k", "hit, 200 KiB from memory", Load("/hit/200k"), least=1.2, aim=2.0),
    Row("hit-200k-tuned", "the same, nginx tuned", Load("/hit/200k"), peer="nginx-tuned"),
    Row(
        "disk-1k",
        "hit from disk, 1 KiB of 1,000 URLs",
        Load("/hit/1k", mode="spread", count=1000),
        ours="passoproxy-disk",
        least=0.2,
        aim=0.4,
    ),
    Row(
        "disk-20k",
        "hit from disk, 20 KiB of 200 URLs",
        Load("/hit/20k", mode="spread", count=200),
        ours="passoproxy-disk",
        least=0.3,
        aim=0.6,
    ),
    Row(
        "disk-200k",
        "hit from disk, 200 KiB of 50 URLs",
        Load("/hit/200k", mode="spread", count=50),
        ours="passoproxy-disk",
        least=0.6,
        aim=1.0,
    ),
    Row(
        "post",
        "POST hit, 300 bytes asked, 1 KiB answered",
        Load("/post/1k", mode="post"),
        least=0.25,
        aim=0.4,
        quick=True,
    ),
    Row("passed", "passed on, 1 KiB, 32 connections", Load("/miss/1k", hit=False), least=0.25, aim=0.33, quick=True),
    Row("passed-c1", "passed on, 1 KiB, 1 connection", Load("/miss/1k", 1, hit=False), least=0.6, aim=0.8),
    Row("fill", "filling with new keys, 1 KiB", Load("/hit/1k", mode="new", hit=False), least=0.2, aim=0.4, quick=True),
    Row("stream", "streaming 5 MiB, 8 connections", Load("/miss/5m", 8, hit=False), least=1.1, aim=1.35),
    Row("hit-2-workers", "hit, 1 KiB, 2 workers each", HIT, ours="passoproxy-2", peer="nginx-2", least=1.0, aim=1.25),
    Row(
        "equal-misses",
        "200 equal misses at once, time to the last",
        Load("/slow/1k", at_once=200, hit=False),
        least=0.15,
        aim=0.12,
    ),
    Row(
        "full",
        "hit, 1 KiB, {count} entries on disk, evenly",
        Load("/hit/1k", mode="spread", count=200_000),
        ours="passoproxy-full",
        least=0.3,
        aim=0.6,
    ),
    Row(
        "asyncio",
        "hit, 1 KiB: without uvloop, beside with it",
        HIT,
        ours="passoproxy-asyncio",
        peer="passoproxy",
        quick=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the lowest and the highest."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its rounds, or with the reason why there are none. Ratios are of rounds that stood beside each other."""

    row: Row
    ours: Sequence[Outcome] = ()
    peer: Sequence[Outcome] = ()
    failure: str = ""

    @property
    def ratio(self) -> Spread:
        """Rate beside rate; with `at_once` time beside time."""
        return _spread(
            b.rate / a.rate if self.row.load.at_once else a.rate / b.rate
            for a, b in zip(self.ours, self.peer, strict=True)
        )

    @property
    def processor_ratio(self) -> Spread:
        """Processor time for each answer beside the peer's."""
        return _spread(a.processor / max(b.processor, 1e-9) for a, b in zip(self.ours, self.peer, strict=True))


def _spread(values: Iterable[float]) -> Spread:
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured: rounds for each row, seconds for each round, URLs of the row `full`.

    With `look` nothing is timed: so many answers are compared with what they should be, of no more than `entries` URLs.
    """

    rounds: int = 7
    seconds: float = 1.0
    entries: int = 200_000
    look: int = 0


def chosen(names: Sequence[str] = (), quick: bool = False) -> list[Row]:
    """The rows with these names, in the table's order. Raises Failed for a name that none has."""
    known = [row.name for row in ROWS]
    if unknown := [name for name in names if name not in known]:
        raise Failed(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
    return [row for row in ROWS if (row.name in names if names else row.quick or not quick)]


def compare(stand: Stand, rows: Sequence[Row], effort: Effort, tell: Callable[[Result], None]) -> list[Result]:
    """Measures each row; one that fails is told with its reason, and the rest goes on. Servers end when no later row needs them."""
    results = []
    for at, row in enumerate(rows):
        try:
            result = _measured(stand, _sized(row, effort), effort)
        except Exception as error:  # a row may not take the others with it
            result = Result(row, failure=reason_of(error))
        results.append(result)
        tell(result)
        later = {name for other in rows[at + 1 :] for name in (other.ours, other.peer)}
        for name in {row.ours, row.peer} - later:
            stand.stop(name)
    return results


def _sized(row: Row, effort: Effort) -> Row:
    """With `look` no row has more URLs than `entries`; else only the row `full` is made smaller or larger by it."""
    count = min(row.load.count, effort.entries) if effort.look else row.load.count
    if row.name == "full":
        count = effort.entries
    return replace(row, text=row.text.format(count=f"{count:,}"), load=replace(row.load, count=count))


@dataclass(slots=True)
class _Rounds:
    ours: list[Outcome] = field(default_factory=list)
    peer: list[Outcome] = field(default_factory=list)


def _measured(stand: Stand, row: Row, effort: Effort) -> Result:
    load, rounds = row.load, _Rounds()
    if row.name == "full":
        fill_store(stand, load.count)
    ours, peer = stand.server(row.ours), stand.server(row.peer)
    for server in (ours, peer):
        if load.count > 1 and not (row.name == "full" and server is ours):
            fill(server, load)
        if load.count > 1:
            fill(server, load)  # what a first hit leaves behind for the next one is there as well
        if load.count == 1 and load.hit:
            looked(server, replace(load, connections=1, hit=None), 1, 2)
            time.sleep(0.1)  # what was not stored yet is now
    if effort.look:
        for server in (ours, peer):
            looked(server, load, 17, effort.look)
        return Result(row)
    for server in (ours, peer):
        measured(server, load, effort.seconds / 4, 3)
    for number in range(effort.rounds):
        order = (ours, peer) if number % 2 else (peer, ours)
        for server in order:
            outcome = measured(server, load, effort.seconds, 1000 * number + 17)
            (rounds.ours if server is ours else rounds.peer).append(outcome)
    return Result(row, rounds.ours, rounds.peer)


def fill_store(stand: Stand, count: int) -> None:
    """Stores so many answers of 1 KiB where the form `passoproxy-full` finds them, beyond those that are there."""
    there = stand.filled.get("full", 0)
    if there < count:
        stand.stop("passoproxy-full")
        fill(stand.server("passoproxy-small"), Load("/hit/1k", mode="spread", count=count), there)
        stand.filled["full"] = count
    stand.stop("passoproxy-small")
