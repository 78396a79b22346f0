"""Which daemon a command speaks to, and that it says which (contract §2)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from passoproxy.config import sources
from tests.cli.conftest import Beside, Run, Said
from tests.other_users import OTHER, acting_as, needs_root, opened_to_all, planted_socket, what_came
from tests.whole import Place

PAIR = json.dumps({"access_token": "A" * 20, "refresh_token": "R" * 20, "expires_in": 3600})


@pytest.fixture(autouse=True)
def unit_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unit's folder of this test's machine."""
    folder = tmp_path / "unit"
    monkeypatch.setattr(sources, "UNIT_STATE", folder)
    return folder


def placed(folder: Path, state: Path | None = None, **sections: Any) -> Place:
    """A place whose configuration names no state folder; `state` is what the service manager gives it."""
    folder.mkdir(exist_ok=True)
    place = Place(folder, environ={"STATE_DIRECTORY": str(state)} if state else {})
    place.write(state=None, **sections)
    return place


def begun(beside: Beside, place: Place) -> None:
    beside.daemon(place, state=None)


def daemon_of(said: Said) -> dict[str, Any]:
    found: dict[str, Any] = said.json["daemon"]
    return found


def test_the_units_daemon_is_found_and_named(run: Run, beside: Beside, tmp_path: Path, unit_folder: Path) -> None:
    place = placed(tmp_path / "etc", unit_folder)
    begun(beside, place)
    at = ("--config", str(place.config))
    named = {"pid": os.getpid(), "config": str(place.config), "state_directory": str(unit_folder)}
    status = run("status", *at)
    assert status.code == 1  # unready: nobody has authorised
    assert f"daemon         pid {os.getpid()}, configuration {place.config}, state {unit_folder}\n" in status.out
    assert daemon_of(run("status", *at, "--json")) == named
    purged = run("cache", "purge", "--all", *at)
    assert (purged.code, purged.out.partition(";")[0]) == (0, "0 entries purged")
    assert purged.err == (
        f"passoproxy: done by the daemon with pid {os.getpid()}, configuration {place.config}, state {unit_folder}\n"
    )
    assert run("cache", "purge", "--all", *at, "--json").json == {"purged": 0, "daemon": named}
    imported = run("token", "import", *at, "--json", text=PAIR)
    assert (imported.json["access"], daemon_of(imported)) == ("valid", named)
    assert f"pid {os.getpid()}" in run("token", "export", "--reveal", *at).err
    gone = run("logout", *at, "--json")
    assert daemon_of(gone) == named
    assert list((unit_folder).glob("pair.*")) == []


def test_one_of_two_daemons_has_to_be_named(
    run: Run, beside: Beside, tmp_path: Path, unit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "xdg" / "passoproxy"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    first, second = placed(tmp_path / "one", unit_folder), placed(tmp_path / "two", users)
    begun(beside, first)
    begun(beside, second)
    for command in (["status"], ["cache", "purge", "--all"], ["token", "status"]):
        said = run(*command, "--config", str(first.config))
        assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
        assert f"--state {unit_folder}" in said.err
        assert f"--state {users}" in said.err
    for folder in (unit_folder, users):
        found = run("status", "--json", "--state", str(folder), "--config", str(first.config))
        assert daemon_of(found)["state_directory"] == str(folder)


def test_a_folder_by_another_name_is_no_second_daemon(
    run: Run, beside: Beside, tmp_path: Path, unit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = placed(tmp_path / "etc", unit_folder)
    begun(beside, place)
    (tmp_path / "link").symlink_to(unit_folder)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "link"))
    assert run("token", "status", "--config", str(place.config)).code == 0


def test_named_by_its_folder_it_needs_no_configuration(
    run: Run, beside: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = placed(tmp_path / "etc", tmp_path / "here")
    begun(beside, place)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert run("status").code == 3
    named = ("--state", str(tmp_path / "here"))
    assert run("status", *named, "--json").json["state"] == "unready"
    assert run("token", "import", *named, text=PAIR).code == 0
    assert run("status", *named).code == 0
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "here"))
    assert run("status").code == 0


def test_a_configuration_that_names_its_folder_names_its_daemon(
    run: Run, beside: Beside, tmp_path: Path, unit_folder: Path
) -> None:
    """Another daemon, which happens to run, is never taken for it."""
    begun(beside, placed(tmp_path / "etc", unit_folder))
    mine = Place(tmp_path / "mine")
    mine.folder.mkdir()
    mine.write()
    at = ("--config", str(mine.config))
    assert (run("status", *at).code, run("token", "import", *at, text=PAIR).code) == (3, 0)
    assert list(unit_folder.glob("pair.*")) == []
    beside.daemon(mine)
    assert daemon_of(run("status", *at, "--json"))["config"] == str(mine.config)


def test_the_same_configuration_is_found_where_its_environment_put_it(
    run: Run, beside: Beside, tmp_path: Path, unit_folder: Path
) -> None:
    place = Place(tmp_path / "etc", environ={"PASSOPROXY__STATE__DIRECTORY": str(unit_folder)})
    place.folder.mkdir()
    place.write()
    beside.daemon(place)
    assert daemon_of(run("status", "--json", "--config", str(place.config)))["state_directory"] == str(unit_folder)


def test_without_a_daemon_the_folders_are_named(run: Run, tmp_path: Path) -> None:
    place = placed(tmp_path / "etc", cache=None)
    at = ("--config", str(place.config))
    missing = run("status", *at)
    assert (missing.code, missing.out, len(missing.err.splitlines())) == (3, "", 1)
    for folder in (tmp_path / "unit", tmp_path / ".local" / "state" / "passoproxy"):
        assert str(folder) in missing.err
    state, cache = tmp_path / ".local/state/passoproxy", tmp_path / ".cache/passoproxy"
    done = run("token", "import", *at, text=PAIR)
    assert done.err == f"passoproxy: no daemon is running; worked on the folders {state} and {cache}\n"
    assert (state / "pair.1.json").exists()
    found = run("cache", "purge", "--all", *at, "--json")
    config = str(place.config)
    folders = {"state_directory": str(state), "cache_directory": str(cache)}
    assert found.json == {"purged": 0, "daemon": {"pid": None, "config": config, **folders}}
    elsewhere = run("token", "import", *at, "--state", str(tmp_path / "named"), text=PAIR)
    assert str(tmp_path / "named") in elsewhere.err
    assert (tmp_path / "named" / "pair.1.json").exists()


# ---- other users -----------------------------------------------------------------------------------------------------


@needs_root
def test_a_folder_that_cannot_be_read_is_77_with_the_line_that_can(
    run: Run, beside: Beside, tmp_path: Path, unit_folder: Path
) -> None:
    place = placed(opened_to_all(tmp_path) / "etc", unit_folder)
    begun(beside, place)
    place.config.chmod(0o644)
    given = ["--config", str(place.config)]
    for command in (["status"], ["cache", "purge", "--all"], ["token", "import", "my pair.json"]):
        with acting_as(OTHER):
            said = run(*command, *given)
        assert (said.code, said.out, len(said.err.splitlines())) == (77, "", 1)
        words = [f"'{each}'" if " " in each else each for each in (*command, *given)]
        assert said.err.endswith(f"; run: sudo passoproxy {' '.join(words)} --state {unit_folder}\n")


def test_a_folder_that_cannot_be_looked_at_is_named(run: Run, tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    said = run("status", "--state", str(circle))
    assert said.code == 1
    assert said.err == (
        f"passoproxy: {circle}: cannot be looked at (Too many levels of symbolic links); name another folder\n"
    )


@needs_root
def test_root_takes_the_daemon_of_the_folders_owner(run: Run, tmp_path: Path) -> None:
    """Where nobody else could have made the folder: in one for everybody, everybody can."""
    state = tmp_path / "state"
    state.mkdir()
    at = ("--state", str(state))
    with planted_socket(state) as listener:
        os.chown(state, OTHER, -1)
        with answering(listener, b'{"pid": 7, "token": {}}'):
            assert run("token", "status", *at).code == 0
        for mode in (0o1777, 0o777):
            tmp_path.chmod(mode)
            said = run("token", "import", *at, text=PAIR)
            assert (said.code, len(said.err.splitlines())) == (77, 1)
            assert f"user {OTHER} answers there" in said.err
            assert said.err.endswith(f"; run: sudo -u '#{OTHER}' passoproxy token import --state {state}\n")
            assert what_came(listener) == b""


@contextlib.contextmanager
def answering(listener: socket.socket, body: bytes) -> Iterator[None]:
    """Has `listener` answer everything with `body`."""
    listener.settimeout(10)
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)

    def answer() -> None:
        while (served := listener.accept()[0]).recv(4096).startswith(b"GET"):
            served.sendall(head + body)
            served.close()
        served.close()

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(listener.getsockname())
    thread.join()


@needs_root
def test_a_link_of_another_user_leads_no_command_anywhere(run: Run, beside: Beside, tmp_path: Path) -> None:
    place = placed(opened_to_all(tmp_path) / "etc", tmp_path / "here")
    begun(beside, place)
    tmp_path.chmod(0o1777)
    with acting_as(OTHER):
        (tmp_path / "link").symlink_to(tmp_path / "here")
    said = run("token", "import", "--state", str(tmp_path / "link"), text=PAIR)
    assert (said.code, said.out, len(said.err.splitlines())) == (77, "", 1)
    assert "could be another user's" in said.err


@needs_root
def test_root_does_not_begin_a_second_pair_beside_that_of_another_users_daemon(run: Run, tmp_path: Path) -> None:
    place = Place(opened_to_all(tmp_path))
    place.write()
    place.config.chmod(0o644)
    state = tmp_path / "state"
    for folder in (state, tmp_path / "cache"):
        folder.mkdir()
        os.chown(folder, OTHER, -1)
    at = ("--config", str(place.config))
    with acting_as(OTHER):
        assert run("token", "import", *at, text=PAIR).code == 0
    said = run("token", "import", *at, text=PAIR)
    assert (said.code, said.out, len(said.err.splitlines())) == (77, "", 1)
    assert f"belongs to user {OTHER}, whose daemon is not running" in said.err
    assert said.err.endswith(f"; run: sudo -u '#{OTHER}' passoproxy token import --config {place.config}\n")
    assert not (state / "passoproxy-0").exists()
