"""Page sessions (contract §8): who gets one, and what the others of the machine cannot do."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from tests.journeys.conftest import PROGRAM, Form, Stand, ask, until
from tests.other_users import OTHER, needs_root

PAIR = json.dumps({"access_token": "A" * 20, "refresh_token": "R" * 20, "expires_in": 3600})


def import_pair(stand: Stand, headers: dict[str, str]) -> int:
    return ask(stand.admin_port, "/api/token/import", "POST", headers, PAIR).status


@needs_root
def test_another_user_of_the_machine_installs_no_pair(stand: Stand) -> None:
    """It reads all that the page shows, and says all that a browser would."""
    stand.start_daemon()

    def asked(*words: str) -> str:
        curl = ["curl", "-sS", "-i", "--max-time", "20", *words]
        done = subprocess.run(["setpriv", f"--reuid={OTHER}", "--clear-groups", *curl], capture_output=True, text=True)
        assert done.returncode == 0, done
        return done.stdout

    page = asked(f"{stand.admin}/")
    assert "passoproxy page --state" in page
    guesses = {"", "x", *re.findall(r"[0-9a-f]{16,}|[A-Za-z0-9_-]{32,}", page)}
    browser = ["-H", f"Origin: {stand.admin}", "-H", "Sec-Fetch-Site: same-origin"]
    for guess in guesses:
        for kind in ("page", "admin"):
            cookie = ["-b", f"passoproxy_{kind}_{stand.admin_port}={guess}"]
            tried = asked(
                *browser, *cookie, "-H", f"X-Passoproxy-Page: {guess}", "-d", PAIR, f"{stand.admin}/api/token/import"
            )
            assert tried.startswith("HTTP/1.1 403 "), tried
            form = ["-d", f"page_token={guess}", "-d", "url=http://x/?code=c%26state=s", f"{stand.admin}/oauth/paste"]
            assert asked(*browser, *cookie, *form).startswith("HTTP/1.1 403 ")
    for path in ("/oauth/start", "/oauth/start?elsewhere=1", "/page/session?link=x"):
        assert asked(*browser, f"{stand.admin}{path}").startswith("HTTP/1.1 403 ")
    assert (stand.token["access"], stand.token["login_until"]) == ("none", None)
    assert import_pair(stand, stand.from_page()) == 200


@needs_root
def test_a_session_that_another_user_stole_changes_nothing(stand: Stand) -> None:
    """A browser sends the cookie to every port of the host, also to one on which another user listens."""
    stand.start_daemon()
    stolen = stand.from_page()
    fields = "".join(f"{name}: {value}\r\n" for name, value in stolen.items())
    request = (
        f"POST /api/token/import HTTP/1.1\r\nHost: 127.0.0.1:{stand.admin_port}\r\n{fields}"
        f"Content-Length: {len(PAIR)}\r\n\r\n{PAIR}"
    )
    thief = (
        "import encodings.idna, os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"s = socket.create_connection(('127.0.0.1', {stand.admin_port})); s.sendall(sys.argv[1].encode())\n"
        "how = sys.argv[2]\n"
        "if how == 'half': s.shutdown(socket.SHUT_WR)\n"
        "if how != 'gone': print(s.recv(12).decode(), end='')\n"
    )
    for how in ("half", "gone", "stays"):
        # the other user cannot write down what was covered
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        done = subprocess.run([sys.executable, "-c", thief, request, how], capture_output=True, text=True, env=environ)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "HTTP/1.1 403" or how != "stays"
    assert stand.token["access"] == "none"
    assert import_pair(stand, stolen) == 200


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_link_lets_one_browser_change_things(stand: Stand, workers: int) -> None:
    stand.configure(server={"listen": f"127.0.0.1:{stand.port}", "workers": workers})
    stand.start_daemon()
    link = stand.run("page", "--print").stdout.strip()
    assert re.fullmatch(rf"{stand.admin}/page/session\?link=[\w-]{{32}}", link)
    assert import_pair(stand, stand.from_page()) == 200
    parts = urllib.parse.urlsplit(link)
    assert ask(stand.admin_port, f"{parts.path}?{parts.query}").status == 200
    assert ask(stand.admin_port, f"{parts.path}?{parts.query}").status == 403
    stand.stop_daemon()
    assert parts.query.partition("=")[2] not in stand.daemon.said
    assert stand.run("page", "--print").returncode == 3


def test_a_follower_has_sessions_of_its_own(stand: Stand) -> None:
    stand.start_daemon()
    other = stand.follower()
    other.start_daemon()
    said = ask(other.admin_port, "/").body.decode()
    command = re.findall(r"<code>(.*?)</code>", said)[0]
    assert command == f"passoproxy page --state {stand.folder / 'state'} --config {other.config}"
    at_owner, at_follower = stand.page_session(), other.page_session()
    for each, own, others in ((stand, at_owner, at_follower), (other, at_follower, at_owner)):
        assert Form(ask(each.admin_port, "/", headers=own).body.decode()).fields
        assert not Form(ask(each.admin_port, "/", headers=others).body.decode()).fields


def test_a_page_on_a_unix_socket(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    stand.configure(admin={"listen": f"unix:{path}"})
    stand.daemon = stand.start("serve", "--config", str(stand.config))
    assert until(lambda: "not ready to serve" in stand.daemon.said), stand.daemon.said  # type: ignore[union-attr]
    curl = ["curl", "-sS", "-i", "--unix-socket", str(path), "-H", "Origin: http://localhost"]
    said = stand.run("page", "--print")
    assert str(path) in said.stderr
    opened = subprocess.run([*curl, said.stdout.strip()], capture_output=True, text=True).stdout
    cookie = ["-b", re.findall(r"(?i)^set-cookie: ([^;]+)", opened, re.MULTILINE)[0]]
    page = Form(subprocess.run([*curl, *cookie, "http://localhost/"], capture_output=True, text=True).stdout)
    token = ["-H", f"X-Passoproxy-Page: {page.fields['page_token']}"]
    imported = [*curl, "-d", PAIR, "http://localhost/api/token/import"]
    for words, status in (([], 403), (cookie, 403), ([*cookie, *token], 200)):
        done = subprocess.run([*imported, *words], capture_output=True, text=True).stdout
        assert done.startswith(f"HTTP/1.1 {status} ")


def test_the_first_start_says_what_it_waits_for_and_a_terminal_gets_the_link(stand: Stand) -> None:
    stand.start_daemon()
    assert until(lambda: "started, and not ready to serve: nobody has authorised" in stand.daemon.said)  # type: ignore[union-attr]
    assert "passoproxy login" in stand.daemon.said
    assert "ready to serve:" not in stand.daemon.said.replace("not ready to serve:", "")
    assert "/page/session" not in stand.daemon.said
    stand.stop_daemon()
    shown = on_terminal(stand)
    link = re.search(rf"good once within ten minutes: ({stand.admin}/page/session\?link=[\w-]+)", shown)
    assert link, shown
    assert "run 'passoproxy login'" in shown


def on_terminal(stand: Stand) -> str:
    """What `serve` says to a person, until it has said where the page is."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--config", str(stand.config)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=stand.folder,
        env=stand.environment,
    )
    os.close(theirs)
    shown = b""
    try:
        while b"/page/session" not in shown or not shown.endswith(b"\n"):
            shown += os.read(ours, 4096)
    except OSError as ended:
        raise AssertionError(shown.decode()) from ended
    finally:
        process.terminate()
        process.wait(40)
        os.close(ours)
    return " ".join(shown.decode().split()).replace("\r", "")
