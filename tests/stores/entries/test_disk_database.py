"""Databases are dropped for what they hold, never for a mistake of ours; diskcache unpickles and opens nothing."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path

import diskcache
import pytest
from diskcache.core import MODE_BINARY, MODE_NONE, MODE_PICKLE, MODE_RAW, MODE_TEXT

from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import StoreFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk.database import Busy, Damaged, RawDisk, Suspicious, translated
from passoproxy.stores.entries.disk.index import Index
from passoproxy.stores.entries.disk.store import DiskStore
from tests.fakes import RememberingObserver
from tests.stores.entries.making import entry, found, put

Opened = Callable[..., DiskStore]


def of_code(code: int) -> sqlite3.Error:
    error = sqlite3.DatabaseError("said so")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_code(sqlite3.SQLITE_CORRUPT), Damaged),
        (of_code(sqlite3.SQLITE_CORRUPT_INDEX), Damaged),
        (of_code(sqlite3.SQLITE_NOTADB), Damaged),
        (of_code(sqlite3.SQLITE_IOERR_SHORT_READ), Damaged),
        (of_code(sqlite3.SQLITE_ERROR), Suspicious),
        (of_code(sqlite3.SQLITE_CONSTRAINT_UNIQUE), Suspicious),
        (sqlite3.ProgrammingError("wrong number of bindings"), Suspicious),
        (AttributeError("startswith"), Suspicious),
        (of_code(sqlite3.SQLITE_FULL), EntryStoreFailure),
        (of_code(sqlite3.SQLITE_IOERR_WRITE), EntryStoreFailure),
        (of_code(sqlite3.SQLITE_BUSY_SNAPSHOT), Busy),
        (of_code(sqlite3.SQLITE_READONLY_DBMOVED), EntryStoreFailure),
        (of_code(sqlite3.SQLITE_CANTOPEN), EntryStoreFailure),
        (diskcache.Timeout(), EntryStoreFailure),
        (OSError(28, "No space left on device"), EntryStoreFailure),
        (OSError("without a number"), EntryStoreFailure),
        (EntryStoreFailure("as it is"), EntryStoreFailure),
    ],
)
def test_errors_are_told_apart_by_class_and_code(error: Exception, kind: type[EntryStoreFailure]) -> None:
    with pytest.raises(EntryStoreFailure) as caught, translated(Path("/cache")):
        raise error
    assert type(caught.value) is kind


class Boom:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.abort, ()  # type: ignore[return-value]


BOMB = pickle.dumps(Boom())


def test_names_and_bytes_pass_and_nothing_else(tmp_path: Path) -> None:
    disk = RawDisk(str(tmp_path), min_file_size=0, pickle_protocol=5)
    assert disk.put("name") == ("name", True)
    assert disk.get("name", True) == "name"
    assert disk.store(b"value", False, "name") == (0, MODE_RAW, None, b"value")
    assert disk.fetch(MODE_RAW, None, b"value", False) == b"value"
    for key in (b"bytes", 1, None, Boom()):
        with pytest.raises(ValueError, match="a name is text"):
            disk.put(key)
    for key, raw in ((BOMB, 0), ("name", 0), (BOMB, 1)):
        assert disk.get(key, raw) == ""
    for mode, value in (
        (MODE_PICKLE, BOMB),
        (MODE_PICKLE, None),
        (MODE_BINARY, None),
        (MODE_TEXT, None),
        (MODE_NONE, b"x"),
    ):
        for filename in (None, "/etc/passwd", "../../etc/passwd"):
            assert disk.fetch(mode, filename, value, False) == b""
    for value in (io.BytesIO(b"x"), Boom(), "text"):
        with pytest.raises(ValueError, match="a value is bytes"):
            disk.store(value, isinstance(value, io.BytesIO), "name")
    with pytest.raises(ValueError, match="no value has a file"):
        disk.filename("name", b"x")
    (tmp_path / "victim").touch()
    disk.remove("victim")
    assert (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    ("database", "harm"),
    [
        ("index.db", "DROP TABLE purge"),
        ("index.db", "DROP TABLE entry"),
        ("index.db", "ALTER TABLE entry RENAME COLUMN target TO gat"),
        ("index.db", "UPDATE total SET entries = 'many', bytes = -5"),
        ("index.db", "DELETE FROM total"),
        ("index.db", "PRAGMA user_version = 99"),
        ("cache.db", "DROP TABLE Cache"),
        ("cache.db", "DROP TABLE Settings"),
        ("cache.db", "UPDATE Settings SET value = 'many' WHERE key = 'count'"),
    ],
)
@pytest.mark.parametrize("running", [False, True], ids=["at the start", "running"])
async def test_what_is_not_ours_is_begun_anew_or_made_good(
    opened: Opened, tmp_path: Path, database: str, harm: str, running: bool
) -> None:
    store = opened()
    await put(store, entry(), b"before")
    if not running:
        await store.close()
    db = sqlite3.connect(tmp_path / "cache" / database)
    db.execute(harm)
    db.commit()
    db.close()
    again = store if running else opened()
    assert await found(again, entry()) in (None, b"before")
    try:
        await put(again, entry(), b"again")
    except EntryStoreFailure:
        await put(again, entry(), b"again")
    assert await found(again, entry()) == b"again"
    assert [each.target async for each in again.entries(Selector())] == [entry().target]
    assert (await again.stats()).entries <= 2


@pytest.mark.parametrize("fault", [TypeError("a mistake"), KeyError("another")])
async def test_a_mistake_of_ours_costs_one_job_and_no_entry(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Whatever a job raises, what is stored stays, and the jobs beside it go on."""
    told = RememberingObserver()
    store = opened(observer=told)
    bad = await put(store, entry("bad"), b"bad")

    def rewrite(*_: object) -> None:
        raise fault

    monkeypatch.setattr(Index, "rewrite", rewrite)
    results = await asyncio.gather(
        *(put(store, entry(n), b"good") for n in range(10)), store.update(bad), return_exceptions=True
    )
    assert [type(each) for each in results if isinstance(each, Exception)] == [Suspicious]
    monkeypatch.undo()
    for n in range(10):
        assert await found(store, entry(n)) == b"good"
    assert await found(store, bad) == b"bad"
    assert told.of(StoreFailed)


@pytest.mark.parametrize("statement", ["", "SELECT nothing FROM Nowhere"])
async def test_a_mistake_in_reading_throws_nothing_away(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """The databases are examined once a minute, and kept."""
    store = opened()
    kept = await put(store, entry(), b"kept")
    looks = []
    is_sound = Index.is_sound
    monkeypatch.setattr(Index, "is_sound", lambda self: looks.append(self) or is_sound(self))
    monkeypatch.setattr(
        Index, "values_of", lambda self, key, most: self._sql(statement).fetchall() if statement else None + 1
    )  # type: ignore[operator]
    for _ in range(3):
        with pytest.raises(Suspicious, match="the cache is kept, please report it"):
            await store.select(kept.key)
    assert len(looks) == 1
    monkeypatch.undo()
    assert await found(store, kept) == b"kept"


async def test_what_fails_in_a_database_that_another_process_replaced_is_done_in_the_new_one(opened: Opened) -> None:
    store, other = opened(), opened()
    await put(store, entry(1), b"gone")
    await put(other, entry(2), b"gone")
    seen: list[Index] = []

    def replaced_meanwhile(index: Index) -> int:
        seen.append(index)
        if len(seen) == 1:
            store._database.run(store._database.drop)
            store._database.leave()
            raise FileNotFoundError(2, "No such file or directory")
        return index.totals()[0]

    assert await other._ask(replaced_meanwhile) == 0
    assert len(seen) == 2
    await put(other, entry(3), b"kept")
    assert await found(store, entry(3)) == b"kept"
