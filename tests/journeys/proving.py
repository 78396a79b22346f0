"""What the proofs of the pair share: a sandbox in a thread of the test, a pair in a folder without a login, and the journal as the judge."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from passoproxy.cli.client import Remote
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.token_response import read_import
from passoproxy.errors import PassoproxyError
from passoproxy.sandbox.app import Sandbox
from passoproxy.sandbox.journal import fingerprint
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.stores.pair.directory import DirectoryPairStore
from tests.journeys.conftest import Answer, ask, until
from tests.journeys.nursery import Child, Nursery
from tests.ports import free_port
from tests.whole import least

T = TypeVar("T")


def kills(usual: int) -> int:
    """How many kills a long series makes: `usual`, or what PASSOPROXY_KILLS says."""
    return int(os.environ.get("PASSOPROXY_KILLS", usual))


class LiveSandbox:
    """A sandbox that runs in a thread; everything is asked in its loop."""

    def __init__(self, clock: Callable[[], float] = time.time, **options: Any) -> None:
        self.lifetime: float = options.get("lifetime", SandboxOptions().lifetime)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        given = {"port": 0, "token_requests_per_minute": 0, **options}
        self._sandbox = self._do(lambda: Sandbox(SandboxOptions(**given), clock=clock))
        self.origin = asyncio.run_coroutine_threadsafe(self._sandbox.start(), self._loop).result(10)

    def _do(self, work: Callable[[], T]) -> T:
        async def done() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(30)

    def issue(self) -> dict[str, Any]:
        """A pair as if a person had just approved it."""
        return self._do(self._sandbox.issue_pair)

    def fault(self, *names: str) -> None:
        self._do(lambda: self._sandbox.faults.arm(names))

    def end(self, token: str) -> None:
        """An access token ends before its time, and its chain goes on."""
        self._do(lambda: self._sandbox.grants.revoke(token))

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """What arrived, oldest first."""
        found = self._do(lambda: [each.describe() for each in self._sandbox.journal.requests()])
        return [each for each in found if each["path"].startswith(path)]

    def refreshes(self) -> list[dict[str, Any]]:
        return [each for each in self.requests("/oauth/token") if each["grant_type"] == "refresh_token"]

    def tokens(self) -> list[dict[str, Any]]:
        """Every token that was issued, oldest first."""
        return self._do(lambda: [dict(each.describe()) for each in self._sandbox.journal.tokens()])

    def chain(self, refresh_token: str) -> list[dict[str, Any]]:
        """Every refresh token of the chain that began with this one."""
        tokens = self.tokens()
        name = next(each["chain"] for each in tokens if each["hash"] == fingerprint(refresh_token))
        return [each for each in tokens if each["chain"] == name and each["kind"] == "refresh"]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._sandbox.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class House:
    """One daemon's folder and configuration, with a pair of its own in it."""

    folder: Path
    sandbox: LiveSandbox
    nursery: Nursery
    oauth: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    child: Child | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.state = self.folder / "state"
        self.config = self.folder / "config.yaml"
        self.configure()
        self.first = self.second = self.access = ""

    def configure(self) -> None:
        settings = least(self.sandbox.origin, self.folder, self.admin_port, self.port)
        del settings["oauth"]["revocation_url"]
        settings["upstream"]["max_concurrency"] = 64
        settings["oauth"] |= {"lost_answer_replay": "once", "refresh_on_exit": "never", **self.oauth}
        settings["server"]["shutdown_grace"] = "2s"
        settings["state"]["directory"] = str(self.state)
        settings["log"] = {"level": "info", "access": False}
        for name, section in self.sections.items():
            settings[name] = {**settings.get(name, {}), **section}
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False))
        self.config.chmod(0o600)

    def move_in(self) -> None:
        """A pair that the sandbox has just issued, as an earlier process would have left it. The daemon must not run."""
        document = self.sandbox.issue()
        self.first, self.access = document["refresh_token"], document["access_token"]
        store = DirectoryPairStore(self.state)
        store.acquire()
        store.erase()
        store.commit(read_import(json.dumps(document).encode(), time.time(), Terms(), "salt"))
        store.release()

    def live(self) -> Child:
        """Moves in, and starts the daemon until it has the pair."""
        self.move_in()
        child = self.start()
        self.wait_for()
        return child

    def start(self, **how: Any) -> Child:
        self.child = self.nursery.serve(self.config, **how)
        return self.child

    def token(self) -> dict[str, Any]:
        """What the daemon says of the pair; {} where it says nothing."""
        answer = ask(self.admin_port, "/api/status", timeout=15.0)
        return dict(answer.json["token"]) if answer.status == 200 else {}

    def is_up(self) -> bool:
        return bool(self.token())

    def wait_for(self, chain: str = "healthy", seconds: float = 30.0) -> dict[str, Any]:
        """The pair once its chain is in that state, and the daemon not waiting to ask."""
        found = until(lambda: (token := self.token()).get("chain") == chain and token, seconds)
        assert found, (self.token(), self.child and self.child.said[-3000:])
        return dict(found)

    def refresh(self) -> None:
        """Orders a refresh, and does not mind what comes of it."""
        try:
            Remote(self.state).ask("POST", "/api/token/refresh", b"")
        except (PassoproxyError, OSError, ValueError):
            pass

    def import_another(self) -> None:
        """Orders the import of a second pair that the sandbox has just issued, and does not mind what comes of it."""
        document = self.sandbox.issue()
        self.second = document["refresh_token"]
        try:
            Remote(self.state).ask("POST", "/api/token/import", json.dumps(document).encode())
        except (PassoproxyError, OSError, ValueError):
            pass

    def get(self, target: str, timeout: float = 30.0) -> Answer:
        return ask(self.port, target, timeout=timeout)


class Traffic:
    """Clients that ask on and on what only the origin can answer, one for each house; whoever gets no answer asks the next house.

    `seen` are their statuses (0: no house answered), `longest_gap` is the longest time in which one of them got no 200.
    """

    def __init__(self, *houses: House, clients: int = 0, pause: float = 0.02) -> None:
        self._houses, self._pause, self._ended = houses, pause, threading.Event()
        self.seen: Counter[int] = Counter()
        self.longest_gap = 0.0
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients or len(houses))]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, client: int) -> None:
        turn, last = 0, time.monotonic()
        while not self._ended.wait(self._pause):
            turn += 1
            for at in range(len(self._houses)):
                house = self._houses[(client + turn + at) % len(self._houses)]
                answer = house.get(f"/api/v2/account/subscription?client={client}&turn={turn}", timeout=20)
                if answer.status:
                    break
            self.seen[answer.status] += 1
            if answer.status == 200:
                now = time.monotonic()
                self.longest_gap, last = max(self.longest_gap, now - last), now
