"""`passoproxy page`: the link, and the browser that it is opened in."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 another user could not load it later
import re
import socket
import webbrowser
from pathlib import Path

import pytest
import yaml

from passoproxy.cli.browser import Opening
from tests.cli.conftest import Beside, Run
from tests.other_users import OTHER, acting_as, needs_root
from tests.whole import Place

LINK = "/page/session?link="


@pytest.fixture
def at(beside: Beside, place: Place) -> list[str]:
    beside.daemon(place)
    return ["--config", str(place.config)]


def test_it_is_opened_or_only_printed(run: Run, at: list[str], place: Place, browser: list[str]) -> None:
    said = run("page", *at)
    assert (said.code, browser, said.out) == (0, [said.out.strip()], f"{browser[0]}\n")
    assert said.out.startswith(f"http://127.0.0.1:{place.admin_port}{LINK}")
    assert said.err.startswith("The status page was opened in a browser.")
    printed = run("page", "--print", *at)
    assert (printed.code, printed.err, len(printed.out.splitlines()), len(browser)) == (0, "", 1, 1)
    found = run("page", "--json", *at).json
    assert (set(found), found["daemon"]["config"]) == ({"url", "expires_at", "socket", "daemon"}, str(place.config))
    assert len({said.out, printed.out, found["url"]}) == 3


def test_without_a_browser_it_is_printed(
    run: Run, at: list[str], browser: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "1000")  # it would be root's browser
    said = run("page", *at)
    assert (said.code, browser, said.err) == (
        0,
        [],
        "Open this address in a browser, within ten minutes; it is good once:\n",
    )
    assert LINK in said.out


@pytest.mark.parametrize(
    ("admin", "address"),
    [
        ({"listen": "0.0.0.0:PORT", "token": "x" * 20}, "http://127.0.0.1:PORT"),
        ({"listen": "[::]:PORT", "token": "x" * 20}, "http://[::1]:PORT"),
        ({"allowed_hosts": ["page.example"]}, "http://page.example:PORT"),
        ({"public_url": "https://page.example/"}, "https://page.example"),
    ],
)
def test_the_address_is_one_that_a_browser_gets_to(
    run: Run, beside: Beside, tmp_path: Path, admin: dict[str, object], address: str
) -> None:
    place = Place(tmp_path)
    port = str(place.admin_port)
    beside.daemon(place, admin=yaml.safe_load(yaml.safe_dump(admin).replace("PORT", port)))
    said = run("page", "--print", "--config", str(place.config))
    assert said.out.startswith(address.replace("PORT", port) + LINK), said


def test_where_there_is_no_page_or_no_daemon(run: Run, beside: Beside, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write(admin={"listen": False})
    at = ("--config", str(place.config))
    assert run("page", *at).code == 3
    beside.daemon(place, admin={"listen": False})
    said = run("page", *at)
    assert (said.code, said.out, "admin.listen is off" in said.err, len(said.err.splitlines())) == (1, "", True, 1)


# ---- the way to the browser ------------------------------------------------------------------------------------------


def test_no_address_is_on_a_command_line(
    run: Run, at: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There every user of the machine could read it. This browser is a program of its own."""
    program = tmp_path / "browser"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/given\ncurl -s -o /dev/null -w "%{{redirect_url}}" "$1" > {tmp_path}/led\n'
    )
    program.chmod(0o700)
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    monkeypatch.setenv("BROWSER", f"{program} %s")
    monkeypatch.delenv("SUDO_UID", raising=False)
    said = run("page", *at)
    assert said.code == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", (tmp_path / "given").read_text())
    assert (tmp_path / "led").read_text() == said.out.strip()


@needs_root
def test_another_user_that_comes_before_the_browser_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    def ask(url: str, user: int) -> bytes:
        with contextlib.suppress(ConnectionError):
            with acting_as(user):
                client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2].strip("/"))))
            with client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return client.recv(4096)
        return b""

    def open_(url: str) -> bool:
        heard.extend(ask(url, user) for user in (OTHER, 0, OTHER))
        return True

    monkeypatch.setattr(webbrowser, "open", open_)
    opening = Opening("http://127.0.0.1/secret")
    opening.wait()
    assert heard[0] == heard[2] == b""
    assert b"\r\nLocation: http://127.0.0.1/secret\r\n" in heard[1]


def test_a_browser_that_does_not_come_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passoproxy.cli.browser.PATIENCE", 0.2)
    monkeypatch.setattr(webbrowser, "open", lambda url: True)
    opening = Opening("http://127.0.0.1/secret")
    opening.wait()
    assert opening.is_begun
