"""The file of soft purges: what outlives a restart, what damage costs, and two processes on one file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purges import SoftPurge
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.soft_purge_file import NAME, SoftPurgeFile

ONE = SoftPurge(Selector(tag="t"), 100.5)
TWO = SoftPurge(Selector(target="/ä\udce9?x", key="k"), 200.0)


async def test_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    file = SoftPurgeFile(tmp_path)
    assert file.load(0.0).kept == ()
    assert (await file.add(ONE)).kept == (ONE,)
    assert (await file.add(TWO)).kept == (ONE, TWO)
    assert SoftPurgeFile(tmp_path).load(0.0).kept == (ONE, TWO)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".lock"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "purges": []}',
        b'{"version": 1, "purges": 1}',
        b'{"version": 1, "purges": [[1, "a"]]}',
        b'{"version": 1, "purges": [["x", null, null, null, null, null, null]]}',
        b'{"version": 1, "purges": [[1, 2, null, null, null, null, null]]}',
        b'{"version": 1, "purges": [7]}',
        b'{"version": 1}',
        b"[" * 100_000,
    ],
)
async def test_a_damaged_file_means_everything_so_far(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / NAME).write_bytes(damage)
    everything = SoftPurge(Selector(), 300.0)
    assert SoftPurgeFile(tmp_path).load(300.0).kept == (everything,)
    assert (await SoftPurgeFile(tmp_path).add(ONE)).kept == (SoftPurge(Selector(), ONE.at), ONE)
    assert json.loads((tmp_path / NAME).read_bytes())["version"] == 1


async def test_processes_hear_of_one_another(tmp_path: Path) -> None:
    mine, theirs = SoftPurgeFile(tmp_path), SoftPurgeFile(tmp_path)
    mine.load(0.0), theirs.load(0.0)
    assert await mine.changed(0.0) is None
    await theirs.add(ONE)
    found = await mine.changed(0.0)
    assert found is not None
    assert found.kept == (ONE,)
    assert await mine.changed(0.0) is None
    assert (await mine.add(TWO)).kept == (ONE, TWO)
    assert await mine.changed(0.0) is None


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = SoftPurgeFile(tmp_path / "away")
    with pytest.raises(EntryStoreFailure, match="nothing was purged"):
        await file.add(ONE)
    assert file.load(0.0).kept == ()
