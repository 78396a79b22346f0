"""What a purge of a full cache costs: how long until it is answered, until its rows are gone, and how long the loop is away meanwhile.

    python bench/purging.py [--entries 1000000] [--body 200] [--loop asyncio|uvloop] [--folder DIR] [--kinds tag,prefix,all] [--json]

Rows and body files are made as the store makes them, but not by it, which would take longer than what is measured. A memory tier with some
of the entries stands before the disk, as in the daemon. `beside` is the longest pause, in the same stretch of time, of a loop that does nothing in
a process of its own: what the machine did to everybody.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import diskcache
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.http.messages import fields_of
from passoproxy.stores.entries.disk.database import RawDisk
from passoproxy.stores.entries.disk.index import INDEX, INLINE_BYTES, VALUES, Index
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.serialization import Seal, row_name, with_body
from passoproxy.stores.entries.tiered import TieredStore

SECRET = b"a secret of the tests' own, 32 b"
FIELDS = fields_of([("Content-Type", "application/json"), ("Cache-Control", "no-cache, private"), ("ETag", '"abc"')])
SELECTORS = {"tag": Selector(tag="country/de"), "prefix": Selector(prefix="/api/*"), "all": Selector()}
IN_MEMORY = 10_000
IDLE_SECONDS = 10.0
IDLER = """
import sys, time
last = time.perf_counter()
while True:
    time.sleep(0.001)
    now = time.perf_counter()
    if now - last > 0.002:
        print(now, (now - last) * 1000 - 1, flush=True)
    last = now
"""


def entry(n: int, body: bytes) -> Entry:
    """The entry number `n`."""
    return Entry(
        key=sha256(b"%d" % n).hexdigest(),
        identifier=f"identifier {n}",
        partition="p" * 64,
        method="GET",
        target=f"/api/v2/content/all/de?nat={n}",
        status=200,
        fields=FIELDS,
        request_time=1_700_000_000.25,
        response_time=1_700_000_001.5,
        stored_at=1_700_000_001.75,
        route="requirements",
        tags=("requirements", "country/de"),
        digest=sha256(body).hexdigest(),
        size=len(body),
    )


def fill(folder: Path, entries: Iterable[Entry], body: bytes) -> None:
    """Adds entries to a folder that a store has made, with `body` as the body of each; what the store itself would have written."""
    assert len(body) <= INLINE_BYTES
    seal = Seal(SECRET)
    index = Index(folder, diskcache.Cache(str(folder), disk=RawDisk), patience=60.0, journal_pages=1000)
    values = sqlite3.connect(folder / VALUES, isolation_level=None)
    values.execute("PRAGMA synchronous = OFF")
    values.execute("BEGIN")
    with index.transaction():
        for made in entries:
            name = row_name(made)
            index.insert(name, made, 0)
            values.execute(
                "INSERT INTO Cache (key, raw, store_time, access_time, mode, value) VALUES (?, 1, 0, 0, 1, ?)",
                (name, with_body(seal.close(made, name), body)),
            )
    values.execute("COMMIT")
    values.close()
    index.shorten_journals(0)
    index.close()
    os.sync()  # what is measured later is not the writing of what the system holds back


class Watch:
    """How long the loop was away beyond the millisecond that is asked for, in milliseconds."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def __aenter__(self) -> Watch:
        self._task = asyncio.ensure_future(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _look(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.pauses.append((now - last) * 1000 - 1)
            last = now


@dataclass(frozen=True, slots=True)
class Pauses:
    """Of one stretch of time: how long it was, and the loop's pauses in milliseconds."""

    what: str
    seconds: float
    longest: float
    p999: float
    over_10_ms: int
    looks: int
    beside: float
    beside_over_10_ms: int

    def __str__(self) -> str:
        return (
            f"{self.what:34} {self.seconds:7.2f} s   longest {self.longest:6.1f} ms   p99.9 {self.p999:5.1f} ms"
            f"   over 10 ms: {self.over_10_ms} of {self.looks}   beside: {self.beside:6.1f} ms, {self.beside_over_10_ms}"
        )


class Beside:
    """A process that does nothing but look at the time every millisecond."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "beside"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen([sys.executable, "-c", IDLER], stdout=said)

    def between(self, since: float, until: float) -> list[float]:
        """Its pauses in that stretch, in milliseconds."""
        lines = (line.split() for line in self._said.read_text().splitlines())
        return [float(pause) for at, pause in lines if since <= float(at) <= until]

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def pauses(what: str, watch: Watch, beside: Beside, began: float) -> Pauses:
    """The figures of a watch until now."""
    now = time.perf_counter()
    seconds, others = now - began, beside.between(began, now)
    ordered = sorted(watch.pauses) or [0.0]
    at = min(len(ordered) - 1, int(len(ordered) * 0.999))
    over, others_over = (sum(each > 10 for each in some) for some in (ordered, others))
    return Pauses(what, seconds, ordered[-1], ordered[at], over, len(ordered), max(others, default=0.0), others_over)


async def measure(folder: Path, kind: str, count: int, body: bytes) -> list[Pauses]:
    """Fills, purges, and waits until all is gone."""
    cache = folder / "cache"
    first = DiskStore(cache, max_bytes=64 << 30, secret=SECRET)
    await first.stats()
    await first.close()
    await asyncio.to_thread(fill, cache, (entry(n, body) for n in range(count)), body)
    beside = Beside(folder)
    try:
        return [*await watched_idle(beside), *await watched_purge(cache, kind, count, body, beside)]
    finally:
        beside.stop()


async def watched_idle(beside: Beside) -> list[Pauses]:
    """A loop without a store."""
    began = time.perf_counter()
    async with Watch() as idle:
        await asyncio.sleep(IDLE_SECONDS)
    return [pauses("nothing", idle, beside, began)]


async def watched_purge(cache: Path, kind: str, count: int, body: bytes, beside: Beside) -> list[Pauses]:
    """What the store does by itself after a start, and a purge until its answer and until its end."""
    store = TieredStore(64 << 20, DiskStore(cache, max_bytes=64 << 30, secret=SECRET))
    try:
        for n in range(min(count, IN_MEMORY)):
            for known in await store.select(entry(n, body).key):
                await store.read(known)
        began = time.perf_counter()
        async with Watch() as sweeping:
            await asyncio.sleep(IDLE_SECONDS)
        found = [pauses("the sweep after a start", sweeping, beside, began)]
        began = time.perf_counter()
        async with Watch() as answering:
            gone = await store.purge(SELECTORS[kind])
        found.append(pauses(f"purge by {kind}, until answered", answering, beside, began))
        assert gone == count, gone
        assert not await store.select(entry(count // 2, body).key)
        assert (await store.stats()).entries == 0
        async with Watch() as behind:
            while await asyncio.to_thread(is_left, cache):
                await asyncio.sleep(0.25)
        return [*found, pauses(f"purge by {kind}, until all is gone", behind, beside, began)]
    finally:
        await store.close()


def is_left(cache: Path) -> bool:
    """Whether any row, value or body lies there still."""
    with sqlite3.connect(f"file:{cache / INDEX}?mode=ro", uri=True) as db:
        left = db.execute("SELECT 1 FROM purge WHERE NOT swept").fetchone()
    db.close()
    return left is not None


def main() -> None:
    """Every kind in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--body", type=int, default=200)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="uvloop")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--kinds", default="tag,prefix,all")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    run = uvloop.run if chosen.loop == "uvloop" else asyncio.run
    for kind in chosen.kinds.split(","):
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            for each in run(measure(Path(folder), kind, chosen.entries, b"x" * chosen.body)):
                print(json.dumps(asdict(each)) if chosen.json else f"{chosen.loop}: {each}", flush=True)


if __name__ == "__main__":
    main()
