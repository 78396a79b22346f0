"""`login`: through a daemon and alone, by redirect and by paste, granted and denied."""

from __future__ import annotations

import io
import itertools
import re
import socket
import sys
import threading
import time
import webbrowser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from passoproxy.cli import login, main
from passoproxy.server.admin import api
from tests.cli.conftest import Beside, Run, Said, Terminal
from tests.whole import NOWHERE, Place

URL = re.compile(r"^http://\S+/oauth/authorize\?\S+$", re.MULTILINE)


class Person:
    """Someone at a terminal: reads what a command says while it runs, and acts on the address that it prints."""

    def __init__(self, beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
        self._beside, self._monkeypatch = beside, monkeypatch

    def at(self, *arguments: str, act: Any, terminal: bool = False) -> Said:
        """Runs `login` and calls `act` with the address; what it returns is typed into standard input."""
        out, err = io.StringIO(), io.StringIO()
        faults: list[BaseException] = []
        typed = _Typed(terminal)

        def wait_and_act() -> None:
            try:
                end = time.monotonic() + 60
                while (found := URL.search(out.getvalue() + err.getvalue())) is None and time.monotonic() < end:
                    time.sleep(0.01)
                assert found is not None, (out.getvalue(), err.getvalue())
                typed.give(act(found.group(0)) or "")
            except BaseException as fault:
                faults.append(fault)
                typed.give("")

        thread = threading.Thread(target=wait_and_act)
        with self._monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            patched.setattr(sys, "stdin", typed)
            thread.start()
            code = main(["login", *arguments])
        thread.join()
        assert not faults, faults
        return Said(code, out.getvalue(), err.getvalue())


class _Typed(Terminal):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal, self._ready, self._text = terminal, threading.Event(), ""

    def isatty(self) -> bool:
        return self._terminal

    def give(self, text: str) -> None:
        self._text = text
        self._ready.set()

    def readline(self, *_: Any) -> str:  # type: ignore[override]
        assert self._ready.wait(60)
        return self._text + "\n" if self._text else ""


@pytest.fixture
def person(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(beside, monkeypatch)


@pytest.fixture
def at(place: Place) -> list[str]:
    return ["--config", str(place.config)]


def answered(beside: Beside, url: str, decision: str = "approve") -> tuple[int, str]:
    """The person decides, and the browser follows the redirect."""
    return beside.fetched(beside.decided(url, decision))


@pytest.mark.parametrize("running", [True, False])
def test_by_redirect(run: Run, person: Person, beside: Beside, place: Place, at: list[str], running: bool) -> None:
    if running:
        beside.daemon(place)
    seen: list[tuple[int, str]] = []
    said = person.at("--no-browser", *at, act=lambda url: seen.append(answered(beside, url)))
    assert said.code == 0
    first, last = said.err.splitlines()
    assert first == "Open this address in a browser and approve:"
    assert last.startswith(
        f"passoproxy: {'done by the daemon' if running else 'no daemon is running; worked on the folders'} "
    )
    lines = said.out.splitlines()
    assert URL.fullmatch(lines[0])
    assert re.fullmatch(r"authorised; .* until a person is needed, were it not renewed", lines[1])
    assert seen[0][0] == 200
    assert "uthorised" in seen[0][1]
    assert run("token", "status", *at, "--json").json["chain"] == "healthy"


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_by_paste(person: Person, beside: Beside, place: Place, at: list[str], running: bool, whole: bool) -> None:
    if running:
        beside.daemon(place)

    def act(url: str) -> str:
        back = beside.decided(url)
        return back if whole else back.partition("?")[2]

    said = person.at("--paste", *at, act=act, terminal=whole)
    assert said.code == 0
    assert ("Then paste the address" in said.err) is whole


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("option", ["--paste", "--no-browser"])
def test_a_denied_login(
    person: Person, beside: Beside, place: Place, at: list[str], running: bool, option: str
) -> None:
    if running:
        beside.daemon(place)

    def act(url: str) -> str:
        back = beside.decided(url, "deny")
        if option == "--no-browser":
            assert beside.fetched(back)[0] >= 400
        return back

    said = person.at(option, *at, act=act)
    assert (said.code, "access_denied" in said.err) == (77, True)
    assert len(said.err.splitlines()) == 2


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("pasted", ["", "http://127.0.0.1:8611/oauth/callback?code=x&state=wrong", "nonsense"])
def test_what_is_pasted_wrongly(
    person: Person, beside: Beside, place: Place, at: list[str], running: bool, pasted: str
) -> None:
    if running:
        beside.daemon(place)
    said = person.at("--paste", *at, act=lambda _: pasted)
    assert said.code == (2 if not pasted else 1)
    assert len(said.err.splitlines()) == 2
    assert said.out.count("\n") == 1


def test_the_daemon_is_asked_again_until_somebody_approves(
    person: Person, beside: Beside, place: Place, at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person may take longer than one answer of the daemon."""
    monkeypatch.setattr(api, "_LOGIN_WAIT_SECONDS", 0.05)
    beside.daemon(place)

    def act(url: str) -> None:
        time.sleep(0.2)
        answered(beside, url)

    assert person.at("--no-browser", *at, act=act).out.splitlines()[1].startswith("authorised; ")


def test_nobody_approves(
    run: Run, beside: Beside, place: Place, at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "PATIENCE", 0.05)
    alone = run("login", "--no-browser", *at)
    assert (alone.code, "did not come within ten minutes" in alone.err) == (77, True)
    monkeypatch.setattr(api, "_LOGIN_WAIT_SECONDS", 0.01)
    beside.daemon(place)
    begun = time.time()
    turns = itertools.count()
    monkeypatch.setattr(login, "time", SimpleNamespace(time=lambda: begun + 300.0 * next(turns)))
    said = run("login", "--no-browser", *at)
    assert (said.code, "did not come within ten minutes" in said.err) == (77, True)


@pytest.mark.parametrize("opens", [True, False])
def test_a_browser_is_opened_where_there_is_one(
    person: Person,
    beside: Beside,
    at: list[str],
    browser: list[str],
    monkeypatch: pytest.MonkeyPatch,
    opens: bool,
) -> None:
    if not opens:
        monkeypatch.setattr(webbrowser, "open", lambda url: False)
    said = person.at(*at, "--json", act=lambda url: answered(beside, url))
    assert (said.code, said.json["chain"]) == (0, "healthy")
    assert browser == URL.findall(said.err) * opens
    assert ("A browser was opened" in said.err) is opens
    assert ("No browser can be opened here" in said.err) is not opens
    assert ("login --paste" in said.err) is not opens


def test_a_daemon_without_a_page_has_the_command_take_the_redirect(
    run: Run, person: Person, beside: Beside, place: Place, at: list[str]
) -> None:
    beside.daemon(place, admin={"listen": False})

    def act(url: str) -> None:
        status, text = beside.fetched(f"http://127.0.0.1:{place.admin_port}/oauth/callback?code=x&state=wrong")
        assert (status, "belongs to no open login" in text) == (422, True)
        assert answered(beside, url) == (200, "Authorised: passoproxy has its pair. You can close this window.\n")

    said = person.at("--no-browser", *at, act=act)
    assert (said.code, said.out.splitlines()[-1].startswith("authorised; ")) == (0, True)
    assert run("token", "status", *at, "--json").json["chain"] == "healthy"


def test_denied_at_a_daemon_without_a_page(person: Person, beside: Beside, place: Place, at: list[str]) -> None:
    beside.daemon(place, admin={"listen": False})
    said = person.at("--no-browser", *at, act=lambda url: answered(beside, url, "deny"))
    assert (said.code, "access_denied" in said.err) == (77, True)


def test_a_redirect_that_another_program_takes_is_pasted_into_the_page(
    person: Person, beside: Beside, place: Place, at: list[str], browser: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        redirect = f"http://127.0.0.1:{taken.getsockname()[1]}/oauth/callback"
        oauth = yaml.safe_load(place.config.read_text())["oauth"] | {"redirect_url": redirect}
        it = beside.daemon(place, oauth=oauth)

        def act(url: str) -> None:
            back = beside.decided(url)
            assert back.startswith(f"{redirect}?code=")
            beside.do(it.wired.control.complete_login(back))  # as the page's form does

        said = person.at(*at, act=act)
    link, url = said.out.splitlines()[:2]
    assert link.startswith(f"http://127.0.0.1:{place.admin_port}/page/session?link=")
    assert browser == [link, url]
    assert "paste the\naddress that the browser ends at into the status page" in said.err
    assert (said.code, said.out.splitlines()[-1].startswith("authorised; ")) == (0, True)


def test_a_redirect_that_nobody_can_take(run: Run, beside: Beside, place: Place, at: list[str]) -> None:
    oauth = yaml.safe_load(place.config.read_text())["oauth"] | {"redirect_url": "https://app.example/oauth/callback"}
    beside.daemon(place, oauth=oauth, admin={"listen": False})
    said = run("login", "--no-browser", *at)
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)
    assert "use 'passoproxy login --paste'" in said.err


def test_a_wrong_redirect_leaves_the_login_open(person: Person, beside: Beside, place: Place, at: list[str]) -> None:
    def act(url: str) -> None:
        base = f"http://127.0.0.1:{place.admin_port}/oauth/callback"
        status, text = beside.fetched(f"{base}?code=x&state=wrong")
        assert status == 422
        assert text.startswith("Not authorised: the redirect's state belongs to no open login")
        assert answered(beside, url)[0] == 200

    assert person.at("--no-browser", *at, act=act).code == 0


def test_grants_that_need_nobody(run: Run, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write(oauth={"grant": "client_credentials"})
    said = run("login", "--config", str(place.config))
    assert (said.code, "which needs no person" in said.err) == (2, True)


def test_a_redirect_address_that_is_taken_or_elsewhere(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Place(tmp_path, NOWHERE, taken.getsockname()[1])
        place.write()
        said = run("login", "--no-browser", "--config", str(place.config))
    assert (said.code, "passoproxy login --paste" in said.err) == (69, True)
    place.write(oauth={"redirect_url": "https://proxy.example.com/oauth/callback"})
    said = run("login", "--no-browser", "--config", str(place.config))
    assert (said.code, "does not lead to this machine" in said.err, len(said.err.splitlines())) == (1, True, 1)


def test_a_provider_that_is_away(person: Person, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write()

    def act(url: str) -> str:
        state = re.search(r"state=([^&]+)", url)
        assert state is not None
        return f"http://127.0.0.1/oauth/callback?code=x&state={state[1]}"

    said = person.at("--paste", "--config", str(place.config), act=act)
    assert (said.code, "the login did not succeed" in said.err) == (69, True)
