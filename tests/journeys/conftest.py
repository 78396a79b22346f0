"""The whole daemon against the sandbox, each a process of its own, as a user runs them."""

from __future__ import annotations

import contextlib
import html.parser
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from passoproxy.cli import main
from tests.journeys.nursery import Child, Nursery, environment, shared
from tests.ports import free_port
from tests.whole import least

if TYPE_CHECKING:
    from tests.journeys.proving import LiveSandbox

PROGRAM = [sys.executable, "-m", "passoproxy"]
"""For the few tests that need a shell or `exec` before it."""

START = 60.0
"""Seconds that a process may take to be there on a busy machine."""


def until(condition: Callable[[], Any], seconds: float = START) -> Any:
    """The first true value of `condition`; what it says at the end if there is none."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    return condition()


@dataclass(frozen=True)
class Answer:
    """One answer; `status` 0 where none came, `broken` where it ended before its end."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    broken: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cache_status(self) -> str:
        return self.headers.get("cache-status", "")


def ask(
    port: int,
    target: str = "/",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    timeout: float = 30.0,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        fields: dict[str, str] = {}
        for name, value in response.getheaders():
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields and name != "set-cookie" else value
        try:
            return Answer(response.status, fields, response.read())
        except (http.client.IncompleteRead, OSError):
            return Answer(response.status, fields, broken=True)
    except (OSError, http.client.HTTPException):
        return Answer(0)
    finally:
        connection.close()


class Form(html.parser.HTMLParser):
    """The first form of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self._found = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form" and not self._found:
            self._found = True
            self.action = found.get("action") or ""
        elif tag == "input" and found.get("name"):
            self.fields[str(found["name"])] = found.get("value") or ""


@dataclass
class Stand:
    """Sandbox and daemon of one test; ports, folders, and the hands to use them."""

    folder: Path
    environment: dict[str, str]
    sandbox_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    settings: dict[str, Any] = field(default_factory=dict)
    started: list[Child] = field(default_factory=list)
    place: dict[str, Any] = field(default_factory=dict)
    """Where and as whom what is started from now on runs, as the nursery has it."""
    sandbox: Child = field(init=False)
    daemon: Child = field(init=False)

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def configure(self, **sections: Any) -> None:
        """Writes the configuration: what a user of the sandbox would write, and `sections` over it."""
        secret = self.folder / "client_secret"
        secret.write_text("demo\n")
        secret.chmod(0o600)
        settings = least(self.origin, self.folder, self.admin_port, self.port)
        del settings["oauth"]["client_secret"]
        settings["oauth"]["client_secret_file"] = str(secret)
        for name, section in sections.items():
            if isinstance(section, dict):
                settings[name] = {**settings.get(name, {}), **section}
            else:
                settings[name] = section
        self.settings = settings
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False))

    def start(self, *arguments: str, **how: Any) -> Child:
        """A command of ours in the background; `how` as in the nursery."""
        child = shared().start(arguments, self.environment, self.folder, **self.place, **how)
        self.started.append(child)
        return child

    def begin(self, *options: str) -> None:
        """Sandbox, daemon and login."""
        self.start_sandbox(*options)
        self.start_daemon()
        self.login()

    def start_sandbox(self, *options: str) -> None:
        self.sandbox = self.start("sandbox", "--listen", f"127.0.0.1:{self.sandbox_port}", *options)
        assert until(lambda: ask(self.sandbox_port, "/__sandbox/faults").status == 200), self.sandbox.said

    def start_daemon(self, ready: bool = False, **how: Any) -> None:
        self.daemon = self.start("serve", "--config", str(self.config), **how)
        path = "/readyz" if ready else "/healthz"
        daemon = self.daemon
        up = until(lambda: ask(self.admin_port, path).status == 200 or daemon.poll() is not None)
        assert up, daemon.said
        assert daemon.poll() is None, daemon.said

    def stop_daemon(self, how: signal.Signals = signal.SIGTERM) -> int:
        return self.daemon.stop(how)

    def run(self, *arguments: str, text: str = "", timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command of ours to its end, in the folder of this stand's configuration, where it finds it."""
        return shared().run(arguments, self.environment, self.folder, text, timeout, **self.place)

    def get(self, target: str, **headers: str) -> Answer:
        return ask(self.port, target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, target: str, body: object, **headers: str) -> Answer:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return ask(self.port, target, "POST", {"Content-Type": "application/json", **headers}, text)

    def status(self) -> Any:
        return ask(self.admin_port, "/api/status").json

    @property
    def token(self) -> Any:
        """What the daemon says of the pair."""
        return self.status()["token"]

    @property
    def role(self) -> str:
        """owner or following; nothing while the daemon does not answer."""
        try:
            return str(self.token["role"])
        except ValueError:
            return ""

    def refreshes(self) -> list[dict[str, Any]]:
        """The refreshes that the provider was asked for, each with the token that was presented."""
        return [each for each in self.journal()["requests"] if each.get("grant_type") == "refresh_token"]

    def beside(self, **sections: Any) -> Stand:
        """Another daemon of the same provider on this machine: ports and folders of its own, unless `sections` say otherwise."""
        folder = self.folder / "second"
        folder.mkdir(exist_ok=True)
        # what it starts ends with the test's own stand
        other = Stand(folder, environment(folder), sandbox_port=self.sandbox_port, started=self.started)
        other.configure(**sections)
        return other

    def follower(self) -> Stand:
        """Another daemon of the same configuration but for its ports, on the same folders."""
        return self.beside(**{name: each for name, each in self.settings.items() if name not in ("server", "admin")})

    def fault(self, *names: str) -> None:
        """Arms faults of the sandbox, and disarms all others."""
        answer = ask(
            self.sandbox_port,
            "/__sandbox/faults",
            "POST",
            {"Content-Type": "application/json"},
            json.dumps({"faults": names}),
        )
        assert answer.status in (200, 204), answer

    def journal(self) -> Any:
        return ask(self.sandbox_port, "/__sandbox/journal").json

    def approve(self, url: str, decision: str = "approve") -> str:
        """What a person in a browser does; the address that the browser is sent to."""
        parts = urllib.parse.urlsplit(url)
        page = ask(self.sandbox_port, f"{parts.path}?{parts.query}")
        assert page.status == 200, page
        form = Form(page.body.decode())
        target = urllib.parse.urlsplit(urllib.parse.urljoin(url, form.action or url))
        body = urllib.parse.urlencode({**form.fields, "decision": decision})
        cookie = {"Cookie": page.headers["set-cookie"].split(";")[0]} if "set-cookie" in page.headers else {}
        where = target.path + (f"?{target.query}" if target.query else "")
        back = ask(
            self.sandbox_port, where, "POST", {"Content-Type": "application/x-www-form-urlencoded", **cookie}, body
        )
        assert back.status in (302, 303), back
        return back.headers["location"]

    def page_session(self) -> dict[str, str]:
        """The cookie of a browser that opened the link of `passoproxy page`."""
        said = self.run("page", "--print")
        assert said.returncode == 0, said.stderr
        link = urllib.parse.urlsplit(said.stdout.strip())
        assert link.port == self.admin_port
        opened = ask(self.admin_port, f"{link.path}?{link.query}")
        assert opened.status == 200, opened
        return {"Cookie": opened.headers["set-cookie"].split(";")[0]}

    def from_page(self) -> dict[str, str]:
        """What such a browser sends along with a change that a person asks for on the page."""
        cookie = self.page_session()
        page = Form(ask(self.admin_port, "/", headers=cookie).body.decode())
        return {**cookie, "Origin": self.admin, "X-Passoproxy-Page": page.fields["page_token"]}

    def begin_login(self, *options: str) -> tuple[Child, str]:
        """`login --no-browser` in the background, and the address that it printed."""
        process = self.start("login", "--no-browser", "--config", str(self.config), *options)
        found = until(lambda: re.search(rf"^{re.escape(self.origin)}/oauth/authorize\?\S+$", process.said, re.M))
        assert found, process.said
        return process, found.group(0)

    def login(self) -> None:
        """The whole login against the running daemon."""
        process, url = self.begin_login()
        back = urllib.parse.urlsplit(self.approve(url))
        assert back.port == self.admin_port
        assert ask(self.admin_port, f"{back.path}?{back.query}").status in (200, 302, 303)
        assert process.wait(30) == 0, process.said
        assert until(lambda: ask(self.admin_port, "/readyz").status == 200)

    def end(self) -> None:
        """Stops whatever still runs. A process that does not stop by itself is killed, and fails the test."""
        stuck = []
        for process in reversed(self.started):
            try:
                process.stop()
            except AssertionError as failure:
                stuck.append(failure)
        if stuck:
            raise ExceptionGroup("processes of this test did not stop", stuck)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A stand of the test's own, nothing started yet."""
    made = Stand(tmp_path, environment(tmp_path))
    made.configure()
    yield made
    made.end()


@contextlib.contextmanager
def everywhere(stand: Stand, workers: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Kept connections to each worker: the kernel chooses by the client's port."""
    made = [http.client.HTTPConnection("127.0.0.1", stand.port, timeout=30) for _ in range(workers * 8)]
    try:
        for each in made:
            each.connect()
        yield made
    finally:
        for each in made:
            each.close()


@pytest.fixture
def inside(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command as `Stand.run` does, in this process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        for name in set(os.environ) - set(stand.environment):
            monkeypatch.delenv(name)
        for name, value in stand.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(stand.folder)
        capfd.readouterr()
        code = main(arguments)
        sys.stdout.flush()
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def shared_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Sandbox and authorised daemon, shared by the tests of a module that only ask."""
    folder = tmp_path_factory.mktemp("shared")
    made = Stand(folder, environment(folder))
    made.configure()
    try:
        made.start_sandbox()
        made.start_daemon()
        made.login()
        yield made
    finally:
        made.end()


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[LiveSandbox]:
    """A sandbox in a thread of the test, with the options that the module names in SANDBOX."""
    from tests.journeys.proving import LiveSandbox

    made = LiveSandbox(**getattr(request.module, "SANDBOX", {}))
    yield made
    made.close()


@pytest.fixture(scope="session")
def forking() -> Nursery:
    """Where daemons are forked from."""
    return shared()
