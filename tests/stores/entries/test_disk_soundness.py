"""A database is thrown away for what it holds, never for a mistake of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import StoreFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk.index import OwnFault, Rows, is_sound
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.disk.writer import Updating
from tests.fakes import RememberingObserver
from tests.stores.entries.making import entry, found, put

Opened = Callable[..., DiskStore]


async def test_a_fresh_database_is_sound(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    await put(store, entry())
    assert is_sound(tmp_path / "cache" / "cache.db")


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TABLE Undone",
        "DROP TRIGGER Settings_size_delete",
        "ALTER TABLE Cache RENAME COLUMN tag TO gat",
        "UPDATE Settings SET value = 'many' WHERE key = 'count'",
        "UPDATE Settings SET value = -1 WHERE key = 'size'",
        "DELETE FROM Settings WHERE key = 'size'",
    ],
)
async def test_what_is_not_ours_is_not_sound(opened: Opened, tmp_path: Path, harm: str) -> None:
    store = opened()
    await put(store, entry())
    await store.close()
    db = sqlite3.connect(tmp_path / "cache" / "cache.db")
    db.execute(harm)
    db.commit()
    db.close()
    assert not is_sound(tmp_path / "cache" / "cache.db")


def test_no_database_is_not_unsound_and_a_broken_one_is(tmp_path: Path) -> None:
    assert is_sound(tmp_path / "missing")
    (tmp_path / "broken").write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    assert not is_sound(tmp_path / "broken")


@pytest.mark.parametrize(
    "fault", [TypeError("a mistake"), KeyError("another"), sqlite3.OperationalError("no such column")]
)
async def test_a_mistake_of_ours_costs_one_job_and_no_entry(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Whatever a job raises, everything that is stored stays, and other jobs go on."""
    if isinstance(fault, sqlite3.Error):
        fault.sqlite_errorcode = sqlite3.SQLITE_ERROR
    told = RememberingObserver()
    store = opened(observer=told)
    kept = [await put(store, entry(n), b"kept") for n in range(5)]

    def apply(self: object, rows: object, changes: object) -> None:
        raise fault

    monkeypatch.setattr(Updating, "apply", apply)
    for _ in range(3):
        with pytest.raises(EntryStoreFailure):
            await store.update(kept[0])
    monkeypatch.undo()
    for each in kept:
        assert await found(store, each) == b"kept"
    assert told.of(StoreFailed)
    assert (await store.stats()).entries == 5


async def test_a_wrong_job_does_not_take_its_neighbours_along(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    bad = await put(store, entry("bad"), b"bad")
    monkeypatch.setattr(Updating, "apply", lambda self, rows, changes: 1 / 0)
    import asyncio

    results = await asyncio.gather(
        *(put(store, entry(n), b"good") for n in range(10)), store.update(bad), return_exceptions=True
    )
    assert [type(each) for each in results if isinstance(each, Exception)] == [OwnFault]
    for n in range(10):
        assert await found(store, entry(n)) == b"good"


async def test_a_mistake_in_reading_throws_nothing_away(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    kept = await put(store, entry(), b"kept")
    monkeypatch.setattr(Rows, "of_key", lambda self, key: None + 1)  # type: ignore[operator]
    for _ in range(3):
        with pytest.raises(OwnFault, match="please report"):
            await store.select(kept.key)
    monkeypatch.undo()
    assert await found(store, kept) == b"kept"


async def test_a_statement_that_is_wrong_is_examined_once_a_minute(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    kept = await put(store, entry(), b"kept")
    monkeypatch.setattr(Rows, "of_key", lambda self, key: self._sql("SELECT nothing FROM Nowhere").fetchall())
    looks = []
    monkeypatch.setattr(
        "passoproxy.stores.entries.disk.index.is_sound", lambda path: looks.append(path) or is_sound(path)
    )
    for _ in range(3):
        with pytest.raises(OwnFault, match="nothing is wrong with the file"):
            await store.select(kept.key)
    assert len(looks) == 1
    monkeypatch.undo()
    assert await found(store, kept) == b"kept"


async def test_a_missing_table_is_damage_and_mended(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    await put(store, entry(), b"lost")
    db = sqlite3.connect(tmp_path / "cache" / "cache.db")
    db.execute("DROP TABLE Cache")
    db.commit()
    db.close()
    assert await found(store, entry()) is None
    await put(store, entry(), b"again")
    assert await found(store, entry()) == b"again"
    assert [each.target async for each in store.entries(Selector())] == [entry().target]
