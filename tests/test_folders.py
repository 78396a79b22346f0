"""Folders of passoproxy's own, and what other users of the machine put on the way to them (contract §3)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from passoproxy.errors import CannotCreate
from passoproxy.folders import own_folder, weak_step
from tests.other_users import OTHER, acting_as, needs_root, opened_to_all


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder in which every user may make something, as in /tmp."""
    opened_to_all(tmp_path)
    made = tmp_path / "shared"
    made.mkdir()
    made.chmod(0o1777)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder of ours that somebody wants us to write into."""
    made = tmp_path / "target"
    made.mkdir()
    made.chmod(0o755)
    return made


def untouched(target: Path) -> bool:
    return mode(target) == 0o755 and os.listdir(target) == []


@pytest.mark.parametrize("umask", [0, 0o777])
def test_it_is_made_with_all_its_parents_and_closed_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "a" / "b" / "c"
    before = os.umask(umask)
    try:
        assert own_folder(folder, "state.directory") == folder
    finally:
        os.umask(before)
    assert [mode(path) for path in (folder, *folder.parents[:2])] == [0o700] * 3
    folder.chmod(0o777)
    own_folder(folder, "state.directory")
    assert mode(folder) == 0o700


def test_the_umask_of_the_process_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_threads_would_see(mask: int) -> int:
        raise AssertionError(mask)

    monkeypatch.setattr(os, "umask", other_threads_would_see)
    own_folder(tmp_path / "new", "state.directory")
    assert mode(tmp_path / "new") == 0o700


# ---- links -----------------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("below", ["", "state", "a/b"])
def test_a_link_of_another_user_is_not_followed(shared: Path, target: Path, below: str) -> None:
    with acting_as(OTHER):
        (shared / "link").symlink_to(target)
    with pytest.raises(
        CannotCreate, match=r"the symbolic link .*/shared/link could be another user's.*set cache\.directory"
    ):
        own_folder(shared / "link" / below, "cache.directory")
    with pytest.raises(PermissionError):
        weak_step(shared / "link" / below)
    assert untouched(target)


@needs_root
def test_nor_one_behind_a_link_of_our_own(shared: Path, tmp_path: Path, target: Path) -> None:
    with acting_as(OTHER):
        (shared / "link").symlink_to(target)
    (tmp_path / "ours").symlink_to("shared/link")
    with pytest.raises(CannotCreate, match="/shared/link"):
        own_folder(tmp_path / "ours" / "state", "state.directory")
    assert untouched(target)


@needs_root
@pytest.mark.parametrize("where", ["open to all", "of another user"])
def test_nor_one_of_our_own_that_another_could_have_moved_there(shared: Path, target: Path, where: str) -> None:
    (shared / "link").symlink_to(target)
    shared.chmod(0o777 if where == "open to all" else 0o755)
    if where == "of another user":
        os.chown(shared, OTHER, -1)
    with pytest.raises(CannotCreate, match="/shared/link"):
        own_folder(shared / "link", "state.directory")
    assert untouched(target)


def test_links_of_our_own_are_followed(shared: Path, target: Path, tmp_path: Path) -> None:
    (shared / "whole").symlink_to(target)  # here the sticky bit keeps it
    (tmp_path / "relative").symlink_to("./shared/../target")
    for link in (shared / "whole", tmp_path / "relative"):
        assert own_folder(link / "state", "state.directory") == link / "state"
        assert mode(target / "state") == 0o700
        (target / "state").rmdir()
    assert own_folder(tmp_path / "relative", "state.directory") == tmp_path / "relative"
    assert mode(target) == 0o700


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(CannotCreate, match="Too many levels of symbolic links"):
        own_folder(tmp_path / "one", "state.directory")


def test_a_file_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(CannotCreate, match="Not a directory"):
            own_folder(path, "state.directory")


# ---- folders of others -----------------------------------------------------------------------------------------------


@needs_root
def test_in_a_folder_of_another_user_one_of_our_own_is_made(tmp_path: Path) -> None:
    os.chown(tmp_path, OTHER, -1)
    tmp_path.chmod(0o777)
    for _ in range(2):
        assert own_folder(tmp_path, "cache.directory") == tmp_path / "passoproxy-0"
    assert (mode(tmp_path), mode(tmp_path / "passoproxy-0")) == (0o777, 0o700)
    opened_to_all(tmp_path.parent)
    with acting_as(1234):
        assert own_folder(tmp_path, "cache.directory") == tmp_path / "passoproxy-1234"


def test_a_folder_for_everybody_is_left_as_it_is(shared: Path) -> None:
    assert own_folder(shared, "state.directory") == shared / f"passoproxy-{os.geteuid()}"
    assert mode(shared) == 0o1777


@needs_root
@pytest.mark.parametrize("planted", ["link", "folder"])
def test_what_its_owner_planted_there_is_not_used(shared: Path, target: Path, planted: str) -> None:
    with acting_as(OTHER):
        if planted == "link":
            (shared / "passoproxy-0").symlink_to(target)
        else:
            (shared / "passoproxy-0").mkdir()
    with pytest.raises(CannotCreate, match=r"passoproxy-0 (could be|belongs to)"):
        own_folder(shared, "state.directory")
    assert untouched(target)
    assert os.listdir(shared) == ["passoproxy-0"]


@needs_root
def test_who_may_only_pass_through_gets_there(tmp_path: Path) -> None:
    inner = opened_to_all(tmp_path) / "passage" / "mine"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o711)
    os.chown(inner, OTHER, -1)
    with acting_as(OTHER):
        assert own_folder(inner / "state", "state.directory") == inner / "state"
        with pytest.raises(CannotCreate, match="Permission denied"):
            own_folder(inner.parent / "state", "state.directory")


# ---- the way ---------------------------------------------------------------------------------------------------------


@needs_root
def test_the_way_is_judged_by_owner_and_mode(shared: Path, tmp_path: Path) -> None:
    assert weak_step(tmp_path) == ""
    ours = shared / "ours" / "state"
    ours.mkdir(parents=True)
    assert weak_step(ours) == ""
    with acting_as(OTHER):
        (shared / "theirs").mkdir()
    assert weak_step(shared / "theirs") == f"{shared} is open to every user"
    (shared / "theirs" / "state").mkdir()
    shared.chmod(0o755)
    assert weak_step(shared / "theirs" / "state") == f"{shared / 'theirs'} belongs to user id {OTHER}"
    shared.chmod(0o777)
    assert weak_step(ours) == f"{shared} is open to every user"
    with pytest.raises(FileNotFoundError):
        weak_step(shared / "missing")
