"""Every way by which diskcache would unpickle, or open a file of someone else's choice, is shut."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
from diskcache.core import MODE_BINARY, MODE_NONE, MODE_PICKLE, MODE_RAW, MODE_TEXT

from passoproxy.stores.entries.disk.index import BODIES, GuardedDisk
from passoproxy.stores.entries.serialization import Seal, body_name, row_name
from tests.stores.entries.making import SECRET, entry, whole

MADE = whole(entry(), b"body")
ROW = row_name(MADE)
NAME = body_name(ROW, MADE.digest)


class Boom:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.abort, ()  # type: ignore[return-value]


BOMB = pickle.dumps(Boom())


@pytest.fixture
def disk(tmp_path: Path) -> GuardedDisk:
    (tmp_path / BODIES / NAME[:2]).mkdir(parents=True)
    return GuardedDisk(str(tmp_path), min_file_size=0, pickle_protocol=5)


def test_sealed_values_under_text_keys_pass(disk: GuardedDisk) -> None:
    value = Seal(SECRET).close(MADE)
    assert disk.put(ROW) == (ROW, True)
    assert disk.get(ROW, True) == ROW
    assert disk.store(value, False, ROW) == (4, MODE_RAW, NAME, value)
    assert disk.fetch(MODE_RAW, NAME, value, False) == value


@pytest.mark.parametrize("key", [b"bytes", 1, 1.5, None, Boom(), ("a",)])
def test_other_keys_are_refused(disk: GuardedDisk, key: object) -> None:
    with pytest.raises(ValueError, match="no text"):
        disk.put(key)


@pytest.mark.parametrize(("key", "raw"), [(BOMB, 0), (ROW, 0), (BOMB, 1)])
def test_other_keys_are_not_read(disk: GuardedDisk, key: object, raw: int) -> None:
    with pytest.raises(ValueError, match="no text"):
        disk.get(key, raw)


@pytest.mark.parametrize(
    ("mode", "value"),
    [
        (MODE_PICKLE, BOMB),
        (MODE_PICKLE, None),
        (MODE_BINARY, None),
        (MODE_TEXT, None),
        (MODE_NONE, b""),
        (9, b""),
        (MODE_RAW, "text"),
    ],
)
@pytest.mark.parametrize("filename", [NAME, "/etc/passwd", "../../etc/passwd"])
def test_other_modes_are_not_read(disk: GuardedDisk, mode: int, value: object, filename: str) -> None:
    with pytest.raises(ValueError, match="do not write"):
        disk.fetch(mode, filename, value, False)


def test_files_are_not_handed_out_or_taken(disk: GuardedDisk) -> None:
    with pytest.raises(ValueError, match="do not write"):
        disk.fetch(MODE_RAW, NAME, b"x", True)
    with pytest.raises(ValueError, match="no sealed"):
        disk.store(io.BytesIO(b"x"), True, ROW)
    with pytest.raises(ValueError, match="no sealed"):
        disk.store(Boom(), False, ROW)
    with pytest.raises(ValueError, match="file of its own"):
        disk.filename(ROW, b"x")


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "victim", None, 7])
def test_remove_takes_nothing_but_bodies(disk: GuardedDisk, tmp_path: Path, name: object) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x")
    disk.remove(name)
    assert victim.exists()
    assert disk.removed == []


def test_remove_takes_a_body_and_follows_no_link(disk: GuardedDisk, tmp_path: Path) -> None:
    body = tmp_path / BODIES / NAME
    body.write_bytes(b"x")
    disk.remove(NAME)
    assert not body.exists()
    disk.remove(NAME)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / body.name).write_bytes(b"x")
    body.parent.rmdir()
    body.parent.symlink_to(elsewhere)
    disk.remove(NAME)
    assert (elsewhere / body.name).exists()
