"""Entries and bodies for the stores' tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from passoproxy.core.cache.entry import Entry
from passoproxy.core.http.messages import fields_of
from passoproxy.ports import EntryStore, EntryWriter, read_whole

SECRET = b"a secret of the tests' own, 32 b"

FIELDS = fields_of(
    [
        ("Date", "Tue, 24 Nov 2026 11:00:00 GMT"),
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-cache, private"),
        ("ETag", '"abc"'),
        ("Link", "<a>; rel=next"),
        ("Link", "<b>; rel=prev"),
        ("X-Odd", "caf\udce9"),
    ]
)


def connecting(url: str) -> Callable[[float, float], Redis]:
    """Makes clients whose waits are bounded, as compose does."""

    def connect(connect_seconds: float, answer_seconds: float) -> Redis:
        return Redis.from_url(
            url,
            socket_connect_timeout=connect_seconds,
            socket_timeout=answer_seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    return connect


def entry(n: object = 0, **changes: Any) -> Entry:
    """An entry whose key and identifier follow from `n`, as the cache would make it before its body is known."""
    made = Entry(
        key=sha256(f"key {n}".encode()).hexdigest(),
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
        extra=(("group", "one"),),
    )
    return replace(made, **changes)


def whole(made: Entry, body: bytes) -> Entry:
    """The entry as a store gives it back."""
    return replace(made, digest=sha256(body).hexdigest(), size=len(body))


async def put(store: EntryStore, made: Entry, body: bytes = b"body", piece: int = 1 << 16) -> Entry:
    """Stores an entry; fails if a purge counted against it."""
    writer = await store.create(made)
    for at in range(0, len(body), piece):
        await writer.write(body[at : at + piece])
    stored = await writer.commit()
    assert stored is not None
    return stored


async def put_many(store: EntryStore, entries: Iterable[Entry], size: int = 4, together: int = 50) -> list[Entry]:
    """Stores entries of so many random bytes each, some at once."""
    stored, waiting = [], list(entries)
    for at in range(0, len(waiting), together):
        some = waiting[at : at + together]
        stored += await asyncio.gather(*(put(store, made, os.urandom(size)) for made in some))
    return stored


async def body_of(store: EntryStore, made: Entry) -> bytes | None:
    """The whole body, None where it is lost."""
    body = await store.read(made)
    return None if body is None else await read_whole(body, 1 << 30)


async def found(store: EntryStore, made: Entry) -> bytes | None:
    """The body of the youngest variant of the entry's key, None where there is none."""
    variants = await store.select(made.key)
    return await body_of(store, variants[0]) if variants else None


async def write_much(writer: EntryWriter, pieces: int, piece: int) -> None:
    """Writes so many pieces, and commits."""
    for _ in range(pieces):
        await writer.write(b"x" * piece)
    await writer.commit()


def open_below(folder: Path) -> list[str]:
    """The files in the folder that this process has open; others are of tests that ended before and are not collected yet."""
    there = []
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            there.append(os.readlink(f"/proc/self/fd/{each}"))
    return [path for path in there if path.startswith(str(folder))]
