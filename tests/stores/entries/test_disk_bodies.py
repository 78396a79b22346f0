"""Bodies as files: when they are proven, and what is believed without."""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from passoproxy.stores.entries.disk import bodies as files
from passoproxy.stores.entries.disk.bodies import BODIES, Bodies, Syncing, make_private
from passoproxy.stores.entries.serialization import body_name, row_name
from tests.stores.entries.making import entry, open_below

DATA = b"a body"
DIGEST = sha256(DATA).hexdigest()
NAME = body_name(row_name(entry()), DIGEST)


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    made = Bodies(tmp_path)
    made.make_folders()
    return made


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which files were hashed."""
    hashed: list[int] = []
    digest = files._digest

    def noted(file: int) -> str:
        hashed.append(file)
        return digest(file)

    monkeypatch.setattr(files, "_digest", noted)
    return hashed


def settle(bodies: Bodies, data: bytes = DATA, name: str = NAME) -> None:
    body = bodies.begin()
    body.append(data)
    bodies.settle(body, name)
    body.release()
    body.drop()  # released: it stays


def read(bodies: Bodies, name: str = NAME) -> bytes | None:
    file = bodies.open(name, DIGEST, len(DATA))
    if file is None:
        return None
    try:
        return os.pread(file, 100, 0)
    finally:
        os.close(file)


def test_a_body_is_proven_once_and_again_when_it_is_another_file(
    bodies: Bodies, proofs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_TICK", -1)  # as if it had been written a while ago
    settle(bodies)
    assert [read(bodies), read(bodies), len(proofs)] == [DATA, DATA, 1]
    os.utime(bodies.folder / NAME, (1, 1))  # another ctime
    assert [read(bodies), read(bodies), len(proofs)] == [DATA, DATA, 2]
    settle(bodies)  # another inode
    assert [read(bodies), read(bodies), len(proofs)] == [DATA, DATA, 3]


def test_a_body_written_this_instant_is_not_believed_yet(
    bodies: Bodies, proofs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_TICK", 10**18)
    settle(bodies)
    assert [read(bodies), read(bodies), len(proofs)] == [DATA, DATA, 2]


def test_what_is_remembered_is_bounded(bodies: Bodies, proofs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_TICK", -1)
    monkeypatch.setattr(files, "_REMEMBERED", 3)
    names = [body_name(row_name(entry(n)), DIGEST) for n in range(5)]
    for name in names:
        settle(bodies, name=name)
        assert read(bodies, name) == DATA
    assert len(bodies._seen) == 3
    assert read(bodies, names[0]) == DATA
    assert len(proofs) == 6


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", NAME[:-1] + "g", "00/" + NAME[3:]])
def test_other_names_open_nothing(bodies: Bodies, name: str) -> None:
    settle(bodies)
    assert read(bodies, name) is None


def test_a_name_of_another_digest_is_not_believed(bodies: Bodies) -> None:
    other = NAME[:-16] + "0" * 16
    settle(bodies, name=other)
    assert read(bodies, other) is None


def test_an_error_that_is_no_loss_is_told(bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(bodies)

    def refused(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OSError, match="Too many"):
        read(bodies)


def test_a_failing_read_closes_its_file(bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(bodies)

    def refused(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refused)
        with pytest.raises(OSError, match="Input/output"):
            read(bodies)
    assert open_below(bodies.folder) == []


def test_folders_that_were_taken_away_are_made_again(bodies: Bodies) -> None:
    settle(bodies)
    (bodies.folder / NAME).unlink()
    (bodies.folder / NAME[:2]).rmdir()
    bodies.incoming.rmdir()
    settle(bodies)
    assert read(bodies) == DATA


def test_a_body_whose_file_was_taken_away_is_told(bodies: Bodies) -> None:
    body = bodies.begin()
    for path in bodies.incoming.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError):
        bodies.settle(body, NAME)
    body.drop()


def test_make_private_takes_nothing_but_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(NotADirectoryError):
            make_private(tmp_path / name)


def test_a_pipe_in_the_place_of_a_body_holds_nothing_up(tmp_path: Path) -> None:
    pipe = tmp_path / BODIES / "ab" / "pipe"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    syncing = Syncing(tmp_path)
    syncing.note(["ab/pipe"])
    stopping = threading.Thread(target=syncing.stop)
    stopping.start()
    stopping.join(10)
    held_up = stopping.is_alive()
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # lets go of whoever waits for its other end
    stopping.join(10)
    assert not held_up
