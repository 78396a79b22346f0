"""Answers in ready form beside the entries that they were made of: none outlives the state of its entry."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.stores.entries.disk.answers import Answer, Answers
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.serialization import row_name
from tests.stores.entries.making import entry, put

Opened = Callable[..., DiskStore]
DIGEST, MADE = b"d" * 16, (b"HTTP/1.1 200 OK\r\n", 1.5, "caf\udce9", True)


async def given(store: DiskStore, digest: bytes = DIGEST) -> tuple[str, tuple[Any, ...], bytes]:
    """What the loop gets, once no thread is opening the databases."""
    async with asyncio.timeout(20):
        while (found := at_once(store, digest)) is None:
            await asyncio.sleep(0.001)
    return found


def at_once(store: DiskStore, digest: bytes = DIGEST) -> tuple[str, tuple[Any, ...], bytes] | None:
    store._asks_again_at = 0.0  # a busy disk is left to the threads
    return store.answer_nowait(digest)


async def kept(opened: Opened, body: bytes = b"body", *, with_body: bool = True) -> tuple[DiskStore, Entry]:
    store = opened(answer_bytes=1 << 20)
    stored = await put(store, entry(), body)
    store.keep_answer(DIGEST, stored, MADE, with_body=with_body)
    return store, stored


@pytest.mark.parametrize("size", [0, 4, 20_000, 100_000])
async def test_an_answer_comes_with_the_body_of_its_entry(opened: Opened, size: int) -> None:
    store, stored = await kept(opened, b"x" * size)
    if size > 32 * 1024 and store.read_nowait(stored) is None:
        pytest.skip("a file system that cannot tell what it has in memory")
    assert await given(store) == (stored.key, MADE, b"x" * size)
    assert store._touched == {stored.key}
    assert at_once(store, b"e" * 16) is None


async def test_an_answer_to_head_needs_no_body(opened: Opened) -> None:
    store, stored = await kept(opened, with_body=False)
    assert await given(store) == (stored.key, MADE, b"")


async def update(store: DiskStore, stored: Entry) -> None:
    await store.update(replace(stored, response_time=stored.response_time + 1))


async def purge(store: DiskStore, stored: Entry) -> None:
    await store.purge(Selector(target=stored.target))


async def purge_much(store: DiskStore, stored: Entry) -> None:
    store._few = -1  # hidden now, removed later
    await purge(store, stored)


async def put_anew(store: DiskStore, stored: Entry) -> None:
    await put(store, replace(entry(), identifier="another"), b"body")


async def put_beside(store: DiskStore, stored: Entry) -> None:
    await put(store, replace(entry(), identifier="another", varies=(("accept-language", "de"),)), b"body")


async def drop(store: DiskStore, stored: Entry) -> None:
    await store._ask(store._database.drop)


@pytest.mark.parametrize("change", [update, DiskStore.discard, purge, purge_much, put_anew, put_beside, drop])
@pytest.mark.parametrize("by_another", [False, True])
async def test_what_became_of_the_entry_ends_the_answer(
    opened: Opened, change: Callable[[DiskStore, Entry], Awaitable[None]], by_another: bool
) -> None:
    store, stored = await kept(opened)
    await given(store)
    await change(opened() if by_another else store, stored)
    assert at_once(store) is None


async def test_another_entry_under_its_row_is_not_its_entry(opened: Opened) -> None:
    store, stored = await kept(opened)
    await given(store)
    other = await put(store, entry(1), b"other")
    with sqlite3.connect(store._folder / "cache.db") as db:
        ((value,),) = db.execute("SELECT value FROM Cache WHERE key = ?", (row_name(other),))
        db.execute("UPDATE Cache SET value = ? WHERE key = ?", (value, row_name(stored)))
    db.close()
    assert at_once(store) is None


@pytest.mark.parametrize("size", [500, 100_000])
async def test_a_damaged_body_is_not_given(opened: Opened, tmp_path: Path, size: int) -> None:
    store, stored = await kept(opened, b"b" * size)
    if size < 32 * 1024 or store.read_nowait(stored) is not None:
        await given(store)
    with sqlite3.connect(store._folder / "cache.db") as db:
        db.execute("UPDATE Cache SET value = CAST(replace(value, 'bbb', 'ccc') AS BLOB)")
    db.close()
    for path in (tmp_path / "cache" / "bodies").rglob("*.*"):
        path.write_bytes(b"c" * size)
    assert at_once(store) is None


async def test_answers_lie_in_a_bounded_file_without_a_name(opened: Opened, tmp_path: Path) -> None:
    store, stored = await kept(opened)
    first = store._answers._db
    before = {path.name for path in (tmp_path / "cache").rglob("*")}
    for number in range(2000):
        store.keep_answer(number.to_bytes(16, "little"), stored, (*MADE, b"x" * 2000), with_body=True)
        if (db := store._answers._db) is not None:  # else it was full just now
            assert db.execute("PRAGMA page_count").fetchone()[0] * 4096 <= 1 << 20
    assert store._answers._db is not first
    await given(store, (1999).to_bytes(16, "little"))
    assert at_once(store) is None
    assert {path.name for path in (tmp_path / "cache").rglob("*")} == before
    await store.close()
    assert open_files(tmp_path / "cache" / "incoming") == []
    assert store.answer_nowait(DIGEST) is None


def open_files(folder: Path) -> list[str]:
    """Also those that have no name any more."""
    paths = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(path).startswith(f"{folder}/"):
                found.append(path)
    return found


def test_an_answer_is_known_by_its_whole_digest_and_changed_ones_are_not_known(tmp_path: Path) -> None:
    answers = Answers(tmp_path, 1 << 20, lambda work: work())
    answer = Answer("key", "row", b"p" * 16, None, 4, MADE)
    answers.keep(b"a" * 8 + b"b" * 8, answer)
    assert answers.find(b"a" * 8 + b"b" * 8) == answer
    assert answers.find(b"a" * 16) is None
    assert answers._db is not None
    answers._db.execute("UPDATE answer SET made = CAST(replace(made, '200', '500') AS BLOB)")
    assert answers.find(b"a" * 8 + b"b" * 8) is None
    answers._db.execute("DROP TABLE answer")  # a damaged file
    assert answers.find(b"a" * 16) is None
    answers.keep(b"a" * 16, answer)
    assert answers.find(b"a" * 16) is None  # nothing is kept for a while
    answers.close()


@pytest.mark.parametrize("max_bytes", [0, 1 << 20])
def test_where_there_is_no_room_or_no_folder_nothing_is_kept(tmp_path: Path, max_bytes: int) -> None:
    answers = Answers(tmp_path / ("gone" if max_bytes else ""), max_bytes, lambda work: work())
    answers.keep(DIGEST, Answer("key", "row", b"p" * 16, None, 4, MADE))
    assert answers.find(DIGEST) is None
    assert list(tmp_path.iterdir()) == []
