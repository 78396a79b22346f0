"""Files without a name."""

import os
import stat
from pathlib import Path

import pytest

from passoproxy.stores import spill as module
from passoproxy.stores.spill import DiskSpill


async def descriptor(spill):
    """The file's descriptor, once something is written."""
    file = spill.open()
    assert await file.write(0, b"abc")
    return file, file._file


async def test_it_is_nobody_elses_and_has_no_name(tmp_path):
    old = os.umask(0)
    try:
        file, number = await descriptor(DiskSpill([tmp_path]))
    finally:
        os.umask(old)
    found = os.fstat(number)
    assert (stat.S_IMODE(found.st_mode), found.st_nlink) == (0o600, 0)
    assert list(tmp_path.iterdir()) == []
    assert not os.get_inheritable(number)
    file.close()


async def test_where_files_cannot_be_made_without_a_name_it_is_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY)  # as a file system that cannot
    file, number = await descriptor(DiskSpill([tmp_path]))
    found = os.fstat(number)
    assert (stat.S_IMODE(found.st_mode), found.st_nlink) == (0o600, 0)
    assert list(tmp_path.iterdir()) == []
    file.close()


async def test_the_first_folder_that_takes_a_file_is_used(tmp_path):
    file, number = await descriptor(DiskSpill([tmp_path / "missing", tmp_path]))
    assert os.readlink(f"/proc/self/fd/{number}").startswith(str(tmp_path))
    file.close()


async def test_a_file_is_closed_after_what_was_begun_on_it(tmp_path):
    spill = DiskSpill([tmp_path])
    file, number = await descriptor(spill)
    file.close()
    file.close()
    assert not await file.write(3, b"d")
    spill.thread.submit(int).result()
    assert not Path(f"/proc/self/fd/{number}").exists() or "(deleted)" not in os.readlink(f"/proc/self/fd/{number}")
    assert spill.used_bytes == 0


async def test_a_forgotten_file_is_closed(tmp_path):
    spill = DiskSpill([tmp_path])
    file, number = await descriptor(spill)
    del file
    spill.thread.submit(int).result()
    assert not Path(f"/proc/self/fd/{number}").exists() or "(deleted)" not in os.readlink(f"/proc/self/fd/{number}")
    assert spill.used_bytes == 0


async def test_the_ring_turns(tmp_path):
    file = DiskSpill([tmp_path], most_of_one=10).open()
    assert await file.write(100, b"0123456")
    assert not await file.write(107, b"abcd")
    file.trim(105)
    assert await file.write(107, b"abcd")
    assert await file.read(105, 100) == b"56abc"
    assert await file.read(110, 100) == b"d"
    file.trim(111)
    assert await file.write(500, b"ABCDEFGHIJ")
    assert await file.read(500, 4) + await file.read(504, 100) in (b"ABCDEFGHIJ", b"ABCDEFGH")
    file.close()


async def test_some_of_the_disk_is_left_to_others(tmp_path, monkeypatch):
    disk = os.statvfs(tmp_path)
    monkeypatch.setattr(module, "LEFT_FREE", disk.f_blocks * disk.f_frsize)
    file = DiskSpill([tmp_path]).open()
    assert not await file.write(0, b"abc")
    file.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_takes_nothing(tmp_path, monkeypatch):
    spill = DiskSpill([tmp_path])
    monkeypatch.setattr(spill, "unnamed", lambda: os.open("/dev/full", os.O_RDWR))
    monkeypatch.setattr(module, "LEFT_FREE", -(1 << 40))
    file = spill.open()
    assert not await file.write(0, b"abc")
    assert not await file.write(0, b"abc")
    file.close()
