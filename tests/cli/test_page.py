"""`passoproxy page`: the link, and the browser that it is opened in."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Beside, Run
from tests.whole import Place

LINK = "/page/session?link="


@pytest.fixture
def at(beside: Beside, place: Place) -> list[str]:
    beside.daemon(place)
    return ["--config", str(place.config)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the browser was told to open."""
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: found.append(url) or True)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return found


def test_it_is_opened_or_only_printed(run: Run, at: list[str], place: Place, opened: list[str]) -> None:
    said = run("page", *at)
    assert (said.code, opened, said.out) == (0, [said.out.strip()], f"{opened[0]}\n")
    assert said.out.startswith(f"http://127.0.0.1:{place.admin_port}{LINK}")
    assert said.err.startswith("The status page was opened in a browser.")
    printed = run("page", "--print", *at)
    assert (printed.code, printed.err, len(printed.out.splitlines()), len(opened)) == (0, "", 1, 1)
    found = run("page", "--json", *at).json
    assert (set(found), found["daemon"]["config"]) == ({"url", "expires_at", "socket", "daemon"}, str(place.config))
    assert len({said.out, printed.out, found["url"]}) == 3


def test_without_a_browser_it_is_printed(
    run: Run, at: list[str], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "1000")  # it would be root's browser
    said = run("page", *at)
    assert (said.code, opened, said.err) == (
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
