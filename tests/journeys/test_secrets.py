"""Planted secrets, searched for in everything that a daemon and its commands write, answer and store.

The daemon runs at debug level through login, refreshes, faults, purges and bad requests. What travelled to and from the provider is recorded on
the way, so that every token, code, verifier and client secret that really existed is known and looked for, in its plain form and as it is encoded.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.journeys.conftest import Stand, ask, until

PLANTED = {
    "client secret": "planted-client-secret-4f1c",
    "admin token": "planted-admin-token-77ab",
    "client key": "planted-client-key-09de",
    "wrong client key": "planted-wrong-key-51aa",
    "client's own bearer": "planted-client-bearer-33cf",
    "client's cookie": "planted-cookie-8d01",
    "query": "planted-query-token-6b6b",
    "broken import": "planted-import-token-e0e0",
    "forged code": "planted-forged-code-1212",
    "proxy password": "planted-proxy-password-9c9c",
}

BEARER, COOKIE = PLANTED["client's own bearer"], PLANTED["client's cookie"]

MAY_HOLD = re.compile(
    r"state/(pair\.\d+\.json|answer\.json|reserve)(\.new)?|config\.yaml|admin_token|client_keys|client_secret|state_key|broken\.json"
)
"""The files that are there to hold a secret."""


class Listening:
    """A relay to the provider that remembers every byte."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.heard = bytearray()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as there:
            back = threading.Thread(target=self._pour, args=(there, client), daemon=True)
            back.start()
            self._pour(client, there)
            back.join()

    def _pour(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.heard += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def secrets(self) -> dict[str, str]:
        """Every secret that travelled, by a name for the report."""
        text = self.heard.decode("latin-1")
        found: dict[str, str] = {}
        for name in ("access_token", "refresh_token", "code_verifier", "code"):
            for number, value in enumerate(dict.fromkeys(re.findall(rf'"{name}": ?"([^"]{{16,}})"', text))):
                found[f"{name} {number}"] = value.replace("\\/", "/")
        return found

    def close(self) -> None:
        self._server.close()


def forms(secret: str) -> set[bytes]:
    """A secret as it may be written: plain, as a URL and JSON have it, in base64 at any offset."""
    raw = secret.encode()
    made = {raw, urllib.parse.quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + raw)
        made.add(whole[4 if offset else 0 : -4])
    return {each for each in made if len(each) >= 12}


class Heard:
    """Everything that came out, by where."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, bytes]] = []

    def note(self, where: str, data: bytes | str) -> None:
        self.parts.append((where, data.encode(errors="replace") if isinstance(data, str) else data))

    def asked(self, port: int, target: str, **how: Any) -> None:
        answer = ask(port, target, **how)
        self.note(
            f"answer to {how.get('method', 'GET')} {target[:60]}",
            json.dumps(dict(answer.headers)).encode() + answer.body,
        )

    def raw(self, port: int, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(data)
            parts = b""
            with contextlib.suppress(OSError):
                while part := connection.recv(65536):
                    parts += part
                    if len(parts) > 200_000:
                        break
        self.note(f"answer to {data[:40]!r}", parts)

    def holding(self, secret: str) -> list[str]:
        wanted = forms(secret)
        return [where for where, data in self.parts if any(each in data for each in wanted)]


@pytest.fixture
def listening(stand: Stand) -> Iterator[Listening]:
    made = Listening(stand.sandbox_port)
    yield made
    made.close()


def configure(stand: Stand, listening: Listening) -> None:
    secret, admin, keys, sealed = (
        stand.folder / name for name in ("client_secret", "admin_token", "client_keys", "state_key")
    )
    provider = f"http://127.0.0.1:{listening.port}"
    stand.configure(
        oauth={
            "token_url": f"{provider}/oauth/token",
            "revocation_url": f"{provider}/oauth/revoke",
            "lost_answer_replay": "once",
        },
        server={"client_keys_file": str(keys)},
        admin={"token_file": str(admin)},
        log={"level": "debug", "format": "json", "query": "names"},
    )
    for path, text in (
        (secret, PLANTED["client secret"]),
        (admin, PLANTED["admin token"]),
        (keys, f"app:{PLANTED['client key']}"),
        (sealed, base64.b64encode(b"planted-state-key-of-32-bytes-ab").decode()),
    ):
        path.write_text(text + "\n")
        path.chmod(0o600)


@pytest.mark.timeout(240)
def test_no_secret_is_anywhere_but_where_it_belongs(stand: Stand, listening: Listening) -> None:
    configure(stand, listening)
    stand.start_sandbox("--lifetime", "60s", "--client-secret", PLANTED["client secret"], "--allow-replays", "1")
    stand.start_daemon()
    heard = Heard()
    _log_in(stand, heard)
    _serve_and_be_asked_badly(stand, heard)
    for fault in ("refresh_5xx:1", "refresh_lost:1", "refresh_garbage:1", "refresh_429:1"):
        stand.fault(fault)
        done = stand.run("token", "refresh", "--json")
        heard.note(f"token refresh under {fault}", done.stdout + done.stderr)
        # by itself, before the next one: an answer that is lost twice cannot be had again
        assert until(lambda: _token(stand)["chain"] == "healthy"), fault
    _commands(stand, heard)
    for path in ("/", "/metrics", "/api/status", "/readyz", "/api/cache/entries"):
        heard.asked(stand.admin_port, path, headers={"Authorization": f"Bearer {PLANTED['admin token']}"})
        heard.asked(stand.admin_port, path, headers={"Authorization": f"Bearer {PLANTED['client key']}"})
    files = _files(stand)
    stand.fault("revoked:1")
    heard.note("logout", (lambda done: done.stdout + done.stderr)(stand.run("logout")))
    assert stand.stop_daemon() == 0
    heard.note("the log of the daemon", stand.daemon.said)
    for place, data in (*files, *_files(stand)):
        heard.note(place, data)

    secrets = {
        **PLANTED,
        **listening.secrets(),
        "state key": base64.b64encode(b"planted-state-key-of-32-bytes-ab").decode(),
    }
    kinds = {name.split()[0] for name in secrets}
    assert {"access_token", "refresh_token", "code", "code_verifier"} <= kinds, kinds
    assert len(stand.daemon.said) > 5000, "the daemon said next to nothing at debug level"
    found = {name: heard.holding(secret) for name, secret in secrets.items()}
    # what a client writes into its address is part of a stored answer's name, and so of the cache and its listing; never of a log
    found["query"] = [
        where for where in found["query"] if where != "cache list" and not where.startswith("file cache/")
    ]
    print(f"{len(secrets)} secrets, {len(heard.parts)} places, {sum(len(data) for _, data in heard.parts):,} bytes, "
          f"found: {sum(map(len, found.values()))}")  # fmt: skip
    assert {name: places for name, places in found.items() if places} == {}


def _token(stand: Stand) -> dict[str, Any]:
    answer = ask(stand.admin_port, "/api/status", headers={"Authorization": f"Bearer {PLANTED['admin token']}"})
    return dict(answer.json["token"])


def _log_in(stand: Stand, heard: Heard) -> None:
    process, url = stand.begin_login()
    back = urllib.parse.urlsplit(stand.approve(url))
    heard.asked(stand.admin_port, f"{back.path}?code={PLANTED['forged code']}&state=forged")
    heard.asked(stand.admin_port, f"{back.path}?{back.query}")
    assert process.wait(30) == 0, process.said
    heard.asked(stand.admin_port, f"{back.path}?{back.query}")
    heard.note("login", process.said)
    assert until(lambda: _token(stand)["chain"] == "healthy")


def _serve_and_be_asked_badly(stand: Stand, heard: Heard) -> None:
    key = {"X-Passoproxy-Key": PLANTED["client key"]}
    own = {**key, "Authorization": f"Bearer {BEARER}", "Cookie": f"session={COOKIE}"}
    good = "/api/v2/content/all/html?lang=en&countries=TR&nat=DE"
    for target in (
        good,
        good,
        f"{good}&access_token={PLANTED['query']}",
        "/api/v2/nowhere",
        "/__internal/x",
        "/api/v2/auth/login/generate_link?page=/&username=x",
    ):
        heard.asked(stand.port, target, headers=own)
    heard.asked(stand.port, good, headers={"X-Passoproxy-Key": PLANTED["wrong client key"]})
    heard.asked(stand.port, good, headers={**own, "Host": "elsewhere.example"})
    heard.asked(stand.port, good, headers={**own, "Origin": "https://elsewhere.example"})
    heard.asked(stand.port, good, headers=own, method="TRACE")
    heard.asked(
        stand.port,
        "/api/v2/content/all/html",
        method="POST",
        headers={**own, "Content-Type": "application/json"},
        body='{"countries": ["TR"]',
    )
    secret = BEARER.encode()
    heard.raw(
        stand.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + secret + b"\r\nBad Name: x\r\n\r\n"
    )
    heard.raw(stand.port, b"GET /?t=" + PLANTED["query"].encode() + b" HTTP/9.9\r\nHost: localhost\r\n\r\n")
    heard.raw(stand.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + secret * 2000 + b"\r\n\r\n")
    heard.raw(stand.admin_port, b"POST /api/token/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
              + PLANTED["wrong client key"].encode() + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")  # fmt: skip
    for fault in ("origin_401:2", "origin_5xx:1", "origin_reset_midbody:1"):
        stand.fault(fault)
        heard.asked(stand.port, f"/api/v2/account/subscription?turn={fault}", headers=own)
    stand.fault()


def _commands(stand: Stand, heard: Heard) -> None:
    broken = stand.folder / "broken.json"
    broken.write_text(json.dumps({"access_token": ["x"], "refresh_token": PLANTED["broken import"]}))
    several = (
        ["status"], ["status", "--json"], ["token", "status"], ["token", "status", "--json"], ["token", "export"],
        ["token", "import", str(broken)], ["--debug", "token", "import", str(broken)], ["config", "show"], ["config", "show", "--json"],
        ["config", "check"], ["cache", "list"], ["cache", "stats"], ["cache", "purge", "--prefix", "/api/v2/content"],
    )  # fmt: skip
    with ThreadPoolExecutor(4) as pool:  # half of a command's time is the start of its process
        for words, done in zip(several, pool.map(lambda each: stand.run(*each), several), strict=True):
            heard.note(" ".join(words), done.stdout + done.stderr)
    environment = {
        **stand.environment,
        "PASSOPROXY__UPSTREAM__PROXY": f"http://me:{PLANTED['proxy password']}@127.0.0.1:1x",
    }
    before, stand.environment = stand.environment, environment
    done = stand.run("config", "check")
    heard.note("config check of a wrong proxy", done.stdout + done.stderr)
    stand.environment = before


def _files(stand: Stand) -> list[tuple[str, bytes]]:
    """Every file of the daemon's but those that are there for secrets."""
    found = []
    for path in sorted(stand.folder.rglob("*")):
        place = str(path.relative_to(stand.folder))
        if path.is_file() and not MAY_HOLD.fullmatch(place):
            with contextlib.suppress(FileNotFoundError):
                found.append((f"file {place}", path.read_bytes()))
    assert any(place.startswith("file cache/") for place, _ in found)
    return found
