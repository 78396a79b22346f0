"""Login, refreshes and a restart against a provider that nobody here wrote: oidc-provider from the npm registry, single-use refresh tokens, reuse punished.

It is installed once into a cache folder outside the repository. Skipped visibly where node, npm or the registry is missing; in CI that is a failure.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import npm_package, program
from tests.journeys.conftest import Stand, ask, free_port, until

LIFETIME = 16
VERSION = "^9"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def installed() -> Path:
    """The folder in which oidc-provider is."""
    program("node")
    return npm_package("oidc-provider", VERSION)


class Foreign:
    """The running provider, and what it tells."""

    def __init__(self, installed: Path, redirect: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [program("node"), str(HERE / "provider.mjs"), str(self.port), redirect, str(LIFETIME), str(installed)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert until(lambda: any("listening" in line for line in self.lines)), self.lines

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def events(self, name: str) -> list[dict[str, Any]]:
        found = []
        for line in self.lines:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [each for each in found if each.get("event") == name]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def foreign(installed: Path, stand: Stand) -> Iterator[Foreign]:
    made = Foreign(installed, f"{stand.admin}/oauth/callback")
    yield made
    made.close()


class Browser:
    """What a person does in one: keeps cookies, follows redirects on the provider, sends forms."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: dict[str, str] = {}

    def open(self, url: str, form: dict[str, str] | None = None) -> tuple[str, str]:
        """The address where it ends, and the page there; an address elsewhere is not opened."""
        while True:
            parts = urllib.parse.urlsplit(url)
            if parts.port != self._port:
                return url, ""
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
            if form is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(
                "GET" if form is None else "POST", target, form and urllib.parse.urlencode(form), headers
            )
            answer = connection.getresponse()
            page = answer.read().decode()
            for value in answer.headers.get_all("Set-Cookie") or []:
                name, _, rest = value.partition("=")
                self._cookies[name] = rest.partition(";")[0]
            connection.close()
            if answer.status not in (302, 303):
                assert answer.status == 200, (answer.status, page[:500])
                return url, page
            url, form = urllib.parse.urljoin(url, answer.headers["Location"]), None

    def approve(self, url: str) -> str:
        """Logs in and consents; the address of the client that it is sent to."""
        where, page = self.open(url)
        while page:
            action = re.search(r'<form[^>]*action="([^"]+)"', page)
            assert action, page[:800]
            fields = dict(re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page))
            if 'name="login"' in page:
                fields |= {"login": "service-account", "password": "anything"}
            where, page = self.open(urllib.parse.urljoin(where, action.group(1)), fields)
        return where


@pytest.mark.needs_ci
@pytest.mark.timeout(240)
@pytest.mark.slow
def test_a_pair_of_a_foreign_provider_lives_through_refreshes_and_restarts(foreign: Foreign, stand: Stand) -> None:
    base = f"http://127.0.0.1:{foreign.port}"
    stand.configure(
        oauth={
            "authorization_url": f"{base}/auth", "token_url": f"{base}/token", "revocation_url": f"{base}/token/revocation",
            "client_auth": "basic", "scope": "openid", "lost_answer_replay": "never", "refresh_on_exit": "never",
        }
    )  # fmt: skip
    (stand.folder / "client_secret").write_text("demo-secret-of-the-foreign-provider\n")
    stand.start_daemon()
    login = stand.start("login", "--no-browser", "--config", str(stand.config))
    found = until(lambda: re.search(rf"^{re.escape(base)}/auth\?\S+$", login.said, re.M))
    assert found, login.said
    back = urllib.parse.urlsplit(Browser(foreign.port).approve(found.group(0)))
    assert back.port == stand.admin_port
    assert ask(stand.admin_port, f"{back.path}?{back.query}").status in (200, 302, 303)
    assert login.wait(30) == 0, login.said
    # left alone for so many lifetimes: renewed by timer alone, at 40 % of each
    generation = stand.status()["token"]["generation"]
    end = time.monotonic() + 2 * LIFETIME
    while time.monotonic() < end:
        token = stand.status()["token"]
        assert token["chain"] == "healthy", token
        assert token["access"] == "valid", token
        time.sleep(0.25)
    assert until(lambda: stand.status()["token"]["generation"] - generation >= 3, 5)
    renewed = stand.status()["token"]["generation"] - generation
    # killed and restarted, and ended in order and restarted: the same chain goes on
    for how in (9, 15):
        assert stand.daemon is not None
        stand.daemon.send(how)
        stand.daemon.wait(30)
        stand.start_daemon()
        assert until(lambda: stand.status()["token"]["chain"] == "healthy")
        done = stand.run("token", "refresh", "--config", str(stand.config))
        assert done.returncode == 0, done.stderr
    refreshed = [each for each in foreign.events("grant.success") if each["grant"] == "refresh_token"]
    refused = foreign.events("grant.error") + foreign.events("grant.revoked") + foreign.events("server_error")
    print(
        f"{len(refreshed)} refreshes at oidc-provider, {len(refused)} refused, the chain is {stand.status()['token']['chain']}"
    )
    assert len(refreshed) >= renewed + 2
    assert refused == []
    # a revocation by us ends it there too
    assert stand.run("logout", "--config", str(stand.config)).returncode == 0
