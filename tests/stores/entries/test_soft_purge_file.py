"""The file of soft purges: what outlives a restart, what damage costs, and two processes on one file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purge import SoftPurge
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.soft_purges import NAME, SoftPurgeFile
from tests.caching_stand import SharedPurges

ONE = SoftPurge(Selector(tag="t"), 100.5)
TWO = SoftPurge(Selector(target="/ä\udce9?x", key="k"), 200.0)


async def test_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    file = SoftPurgeFile(tmp_path, SharedPurges())
    assert file.current(0.0).kept == ()
    await file.add(ONE)
    assert file.current(0.0).kept == (ONE,)
    await file.add(TWO)
    assert file.current(0.0).kept == (ONE, TWO)
    assert SoftPurgeFile(tmp_path, SharedPurges()).current(0.0).kept == (ONE, TWO)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".lock"]


async def test_a_damaged_file_means_everything_so_far(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"{")
    everything = SoftPurge(Selector(), 300.0)
    assert SoftPurgeFile(tmp_path, SharedPurges()).current(300.0).kept == (everything,)
    file = SoftPurgeFile(tmp_path, SharedPurges())
    await file.add(ONE)
    assert file.current(0.0).kept == (SoftPurge(Selector(), ONE.at), ONE)
    assert json.loads((tmp_path / NAME).read_bytes())["version"] == 2


async def test_a_file_that_cannot_be_read_means_everything_so_far(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert SoftPurgeFile(tmp_path, SharedPurges()).current(300.0).kept == (SoftPurge(Selector(), 300.0),)


async def test_it_is_in_force_in_every_process_when_it_is_answered(tmp_path: Path) -> None:
    store = SharedPurges()
    mine, theirs = SoftPurgeFile(tmp_path, store), SoftPurgeFile(tmp_path, store)
    before = mine.current(0.0)
    assert mine.current(0.0) is before
    await theirs.add(ONE)
    found = mine.current(0.0)
    assert found.kept == (ONE,)
    assert mine.current(0.0) is found
    await mine.add(TWO)
    assert mine.current(0.0).kept == theirs.current(0.0).kept == (ONE, TWO)


async def test_another_purge_reads_nothing_anew(tmp_path: Path) -> None:
    store = SharedPurges()
    file = SoftPurgeFile(tmp_path, store)
    await file.add(ONE)
    found = file.current(0.0)
    store.number += 1
    assert file.current(0.0) is found


async def test_a_file_changed_by_hand_counts_from_the_next_purge_of_any_kind(tmp_path: Path) -> None:
    store = SharedPurges()
    file = SoftPurgeFile(tmp_path, store)
    await file.add(ONE)
    assert file.current(0.0).kept == (ONE,)
    (tmp_path / NAME).unlink()
    store.number += 1
    assert file.current(0.0).kept == ()


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = SoftPurgeFile(tmp_path / "away", SharedPurges())
    with pytest.raises(EntryStoreFailure, match="nothing was purged"):
        await file.add(ONE)
    assert file.current(0.0).kept == ()


async def test_where_the_others_cannot_be_told_it_is_in_force_here(tmp_path: Path) -> None:
    store = SharedPurges()
    file = SoftPurgeFile(tmp_path, store)
    assert file.current(0.0).kept == ()
    store.fails = True
    with pytest.raises(EntryStoreFailure):
        await file.add(ONE)
    assert file.current(0.0).kept == (ONE,)
