"""The secret that proves rows to be ours: made once, kept, shared by all who come for it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from passoproxy.errors import CannotCreate
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.serialization import secret_in


def test_it_is_made_once_and_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = secret_in(tmp_path)
    finally:
        os.umask(before)
    assert len(made) == 32
    assert secret_in(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "cache.secret").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["cache.secret"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_one_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache.secret").write_bytes(content)
    made = secret_in(tmp_path)
    assert len(made) == 32
    assert made != content
    assert secret_in(tmp_path) == made
    assert os.listdir(tmp_path) == ["cache.secret"]


def test_of_two_that_make_one_both_go_on_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = b"t" * 32

    def link(source: Path, target: Path) -> None:
        (tmp_path / "cache.secret").write_bytes(theirs)
        raise FileExistsError

    monkeypatch.setattr(serialization.os, "link", link)
    assert secret_in(tmp_path) == theirs
    assert os.listdir(tmp_path) == ["cache.secret"]


def test_a_folder_that_takes_none() -> None:
    with pytest.raises(CannotCreate, match=r"cache\.secret: cannot be written .*another state\.directory"):
        secret_in(Path("/proc/self"))
