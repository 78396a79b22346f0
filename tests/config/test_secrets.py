"""Secrets in values and files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from passoproxy.config.secrets import (
    Exposure,
    FileSecret,
    exposure,
    inside_container,
    on_read_only_mount,
    read_secret,
    secret,
)
from passoproxy.errors import ConfigurationError
from tests.config.writing import Folder


class Ticks:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_file_is_read_again_when_it_changed_and_the_time_has_come(folder: Folder) -> None:
    ticks = Ticks()
    path = folder.write("token", "  first\n")
    found = FileSecret(path, "admin.token_file", monotonic=ticks, recheck_after=10.0)
    assert found() == "first"
    folder.write("token", "second one")
    ticks.now += 9.9
    assert found() == "first"
    ticks.now += 0.2
    assert found() == "second one"


def test_a_file_replaced_by_one_of_equal_size_is_noticed(folder: Folder) -> None:
    ticks = Ticks()
    path = folder.write("token", "aaaa")
    found = FileSecret(path, monotonic=ticks)
    assert found() == "aaaa"
    folder.write("new", "bbbb")
    os.utime(folder.path / "new", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    (folder.path / "new").rename(path)
    ticks.now += 29.9
    assert found() == "bbbb"


def test_an_unchanged_file_is_not_opened_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks()
    found = FileSecret(folder.write("token", "a"), monotonic=ticks)
    found()
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    ticks.now += 60
    assert found() == "a"


def test_while_a_file_cannot_be_read_the_last_good_text_serves_and_the_fault_is_kept(folder: Folder) -> None:
    ticks = Ticks()
    path = folder.write("token", "good")
    found = FileSecret(path, "admin.token_file", monotonic=ticks)
    assert found() == "good"
    for content in ("", None):
        path.unlink() if content is None else folder.write("token", content)
        ticks.now += 20
        assert found() == "good"
        assert found.fault is not None
        assert found.fault.key == "admin.token_file"
    folder.write("token", "better")
    ticks.now += 20
    assert found() == "better"
    assert found.fault is None


def test_the_first_use_tells_what_is_wrong(folder: Folder) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere: admin\.token_file: is not there"):
        FileSecret(folder.path / "nowhere", "admin.token_file")()


def test_nothing_shows_a_secret(folder: Folder) -> None:
    for each in (secret(SecretStr("planted"), None, "k"), FileSecret(folder.write("t", "planted"))):
        assert each() == "planted"
        assert "planted" not in repr(each) + str(each)


def test_the_value_comes_before_the_file() -> None:
    both = secret(SecretStr("a"), Path("/b"), "admin.token")
    assert both is not None
    assert both() == "a"
    from_file = secret(None, Path("/b"), "admin.token")
    assert isinstance(from_file, FileSecret)
    assert from_file.key == "admin.token_file"
    assert secret(None, None, "admin.token") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(" \n", "is empty"), (b"\xff\xfe", "not UTF-8"), ("x" * (1024 * 1024 + 1), "larger than 1 MiB")],
)
def test_content_that_is_no_secret(folder: Folder, content: str | bytes, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read_secret(folder.write("s", content))


def test_what_is_no_file(folder: Folder) -> None:
    os.mkfifo(folder.path / "fifo")
    for name, said in (
        ("fifo", "not a regular file"),
        (".", "Is a directory"),
        ("a\0", "not a valid path"),
        ("nope", "not there"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            read_secret(folder.path / name)


def test_a_byte_order_mark_is_no_part_of_a_secret(folder: Folder) -> None:
    assert read_secret(folder.write("s", b"\xef\xbb\xbfabc\r\n")) == "abc"


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        (0o600, None),
        (0o400, None),
        (0o640, None),
        (0o440, None),
        (0o644, Exposure(0o644)),
        (0o602, Exposure(0o602)),
        (0o660, Exposure(0o660)),
        (0o604, Exposure(0o604)),
    ],
)
def test_files_that_others_can_read_or_change(folder: Folder, mode: int, seen: Exposure | None) -> None:
    assert exposure(folder.write("s", "x", mode), {}) == seen


def test_in_a_container_files_of_root_are_excused(folder: Folder) -> None:
    path = folder.write("s", "x", 0o444)
    seen = exposure(path, {"container": "podman"})
    assert seen is not None
    assert bool(seen.excused) == (path.stat().st_uid == 0)


def test_on_a_read_only_mount_they_are_excused(folder: Folder) -> None:
    seen = exposure(folder.write("s", "x", 0o444), {}, read_only=lambda path: True)
    assert seen == Exposure(0o444, "its mount is read-only")
    assert not on_read_only_mount(folder.path)


def test_a_credential_of_the_service_manager_exposes_nothing(folder: Folder) -> None:
    path = folder.write("s", "x", 0o444)
    assert exposure(path, {"CREDENTIALS_DIRECTORY": str(folder.path)}) is None
    assert exposure(path, {"CREDENTIALS_DIRECTORY": "/run/credentials"}) is not None
    assert read_secret(path, environ={"CREDENTIALS_DIRECTORY": str(folder.path)}) == "x"


def test_a_file_that_becomes_open_to_others_is_refused_and_the_last_text_serves(folder: Folder) -> None:
    ticks = Ticks()
    path = folder.write("token", "good")
    found = FileSecret(path, "admin.token_file", {}, monotonic=ticks)
    assert found() == "good"
    folder.write("token", "planted", 0o644)
    ticks.now += 20
    assert found() == "good"
    assert found.fault is not None
    assert str(found.fault) == f"{path}: admin.token_file: can be read by others (mode 0644); run: chmod 600 {path}"
    path.chmod(0o600)
    ticks.now += 20
    assert found() == "planted"
    assert found.fault is None
    with pytest.raises(ConfigurationError, match="mode 0602"):
        read_secret(folder.write("token", "planted", 0o602), environ={})


def test_folders_and_what_is_not_there_expose_nothing(folder: Folder) -> None:
    assert exposure(folder.path, {}) is None
    assert exposure(folder.path / "nope", {}) is None


def test_containers_tell_themselves() -> None:
    assert inside_container({"container": "podman"})
    assert inside_container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert inside_container({}) == (Path("/.dockerenv").exists() or Path("/run/.containerenv").exists())


def test_without_permission_it_says_who_must_be_able_to_read(folder: Folder) -> None:
    path = folder.write("s", "planted", 0o000)
    if os.getuid() != 0:
        with pytest.raises(ConfigurationError, match="permission denied"):
            read_secret(path, "admin.token_file")
        return
    os.seteuid(65534)
    try:
        with pytest.raises(
            ConfigurationError, match=r"admin\.token_file: cannot be read: permission denied; make it readable"
        ):
            read_secret(path, "admin.token_file")
    finally:
        os.seteuid(0)
