"""Damage and absence are told apart by SQLite's code."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import diskcache
import pytest

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk.index import Damaged, OwnFault, Planted, is_damage, is_proven, translated


def of_code(code: int) -> sqlite3.Error:
    error = sqlite3.DatabaseError("said so")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT_INDEX, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_ERROR, True),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, True),
        (sqlite3.SQLITE_IOERR_SHORT_READ, True),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_IOERR_WRITE, False),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, False),
        (sqlite3.SQLITE_READONLY_DBMOVED, False),
        (sqlite3.SQLITE_CANTOPEN, False),
    ],
)
def test_damage_is_what_the_database_holds(code: int, damage: bool) -> None:
    assert is_damage(of_code(code)) is damage


def test_an_error_of_python_s_own_is_damage() -> None:
    assert is_damage(sqlite3.OperationalError("Could not decode to UTF-8 column"))


@pytest.mark.parametrize(
    ("error", "damaged"),
    [
        (of_code(sqlite3.SQLITE_CORRUPT), True),
        (of_code(sqlite3.SQLITE_FULL), False),
        (diskcache.Timeout(), False),
        (OSError(28, "No space left on device"), False),
        (OSError("without a number"), False),
        (Planted("it holds what nobody wrote"), True),
        (AttributeError("startswith"), False),
        (EntryStoreFailure("as it is"), False),
    ],
)
def test_everything_becomes_a_failure_of_the_store(error: Exception, damaged: bool) -> None:
    with pytest.raises(EntryStoreFailure) as caught, translated(Path("/cache")):
        raise error
    assert isinstance(caught.value, Damaged) is damaged


def test_other_faults_are_nobody_s_to_hide() -> None:
    with pytest.raises(RuntimeError), translated(Path("/cache")):
        raise RuntimeError("a bug")


def test_a_mistake_in_our_own_code_is_no_damage() -> None:
    with pytest.raises(OwnFault, match=r"AttributeError: startswith.*please report"), translated(Path("/cache")):
        raise AttributeError("startswith")


def test_what_diskcache_stumbles_over_may_be_damage(tmp_path: Path) -> None:
    cache = diskcache.Cache(str(tmp_path))
    with pytest.raises(Damaged) as caught, translated(Path("/cache")):
        cache.reset("no such setting")
    assert not caught.value.proven
    cache.close()


@pytest.mark.parametrize(
    ("code", "proven"),
    [
        (sqlite3.SQLITE_CORRUPT_INDEX, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_IOERR_SHORT_READ, True),
        (sqlite3.SQLITE_ERROR, False),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, False),
    ],
)
def test_only_some_codes_prove_damage(code: int, proven: bool) -> None:
    assert is_proven(of_code(code)) is proven
    with pytest.raises(Damaged) as caught, translated(Path("/cache")):
        raise of_code(code)
    assert caught.value.proven is proven
