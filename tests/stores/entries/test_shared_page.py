"""What processes tell one another through one page."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from passoproxy.stores.entries.change_feed import ANYTHING, SIZE, SLOTS, SharedPage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "page"


def test_two_see_the_same(path: Path) -> None:
    one, other = SharedPage(path), SharedPage(path)
    generation, events = one.generation, one.events
    other.tell([5, 6], changed=True)
    assert one.generation == generation + 1
    assert one.events == events + 2
    assert one.foreign_since(events) == (events + 2, [5, 6])
    assert other.foreign_since(events) == (events + 2, [])
    other.tell([7], changed=False)
    assert one.generation == generation + 1
    other.tell([8], changed=True, heeded_by_all=True)
    assert other.foreign_since(events)[1] == [8]
    one.close()
    other.close()
    assert one.generation == generation + 2


def test_what_is_no_longer_known_is_anything(path: Path) -> None:
    one, other = SharedPage(path), SharedPage(path)
    seen = one.events
    other.tell(range(2, SLOTS + 1), changed=True)
    assert one.foreign_since(seen)[1] == list(range(2, SLOTS + 1))
    other.tell([2, 3], changed=True)
    assert one.foreign_since(seen)[1] is None
    assert one.foreign_since(one.events + 1)[1] is None
    seen = one.events
    other.tell([ANYTHING], changed=True)
    assert one.foreign_since(seen)[1] is None
    one.close()
    other.close()


def test_purges_and_bytes_under_way(path: Path) -> None:
    page = SharedPage(path)
    first = page.purges
    page.raise_purges(first + 3)
    page.raise_purges(first + 1)
    assert page.purges == first + 3
    page.add_pending(100)
    page.add_pending(-40)
    assert page.pending == 60
    page.add_pending(-1000)
    assert page.pending == 0
    page.add_pending(100)
    page.lower_pending(120)
    assert page.pending == 100
    page.lower_pending(7)
    assert page.pending == 7
    page.close()


def test_it_is_private_and_outlives_its_processes(path: Path) -> None:
    old = os.umask(0)
    try:
        page = SharedPage(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == SIZE
    page.tell([9], changed=True)
    generation = page.generation
    page.close()
    again = SharedPage(path)
    assert again.generation == generation
    again.close()


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff" * SIZE, b"\0" * SIZE, b"x" * (SIZE + 9)])
def test_a_damaged_page_is_begun_anew(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    page = SharedPage(path)
    generation = page.generation
    page.tell([9], changed=True)
    assert page.generation == generation + 1
    page.close()


def test_a_lost_page_is_made_again_and_numbers_do_not_fall(path: Path) -> None:
    page = SharedPage(path)
    page.tell([9], changed=True)
    generation = page.generation
    assert not page.renew_if_lost()
    path.unlink()
    assert page.renew_if_lost()
    assert page.generation > generation
    other = SharedPage(path)
    other.tell([9], changed=True)
    assert page.generation == other.generation
    other.close()
    page.close()


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        SharedPage(path)


def test_a_page_that_was_cut_short_is_made_whole(tmp_path: Path) -> None:
    page = SharedPage(tmp_path / "page")
    page.tell([5], changed=True)
    before = page.generation, page.events
    assert not page.mend()
    os.truncate(tmp_path / "page", 0)
    assert page.mend()
    assert page.generation > before[0]
    assert page.events > before[1]
    assert page.foreign_since(before[1])[1] is None
    other = SharedPage(tmp_path / "page")
    assert other.generation == page.generation
    page.close()
    other.close()


def test_a_page_that_lost_its_tail_keeps_its_numbers(tmp_path: Path) -> None:
    page = SharedPage(tmp_path / "page")
    generation = page.generation
    os.truncate(tmp_path / "page", 1000)
    assert page.mend()
    assert page.generation == generation
    page.close()


def test_who_reads_while_the_oldest_events_are_written_over_knows_that_they_are_lost(path: Path) -> None:
    reader, writer = SharedPage(path), SharedPage(path)
    seen = reader.events
    writer.tell([77] * 200, changed=True)
    words = writer._words
    read: list[list[int] | None] = []

    class Slowly:
        def __getitem__(self, at: int) -> int:
            return words[at]

        def __setitem__(self, at: int, word: int) -> None:
            words[at] = word
            read.append(reader.foreign_since(seen)[1])

    writer._words = Slowly()  # type: ignore[assignment]
    writer.tell([88] * 400, changed=True)
    writer._words = words
    assert all(marks is None or 88 not in marks for marks in read)
    assert reader.foreign_since(reader.events)[1] == []
    seen = reader.events
    writer.tell([99], changed=True)
    assert reader.foreign_since(seen)[1] == [99]
    reader.close()
    writer.close()


def test_a_full_disk_is_an_error_and_the_page_before_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    page = SharedPage(path)
    path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            SharedPage(path)
        with pytest.raises(OSError, match="No space"):
            page.renew_if_lost()
    page.tell([9], changed=True)
    assert page.renew_if_lost()
    page.close()
