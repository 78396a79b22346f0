"""A daemon's handle that follows a script, for tests of the admin listener."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import PassoproxyError, PersonNeeded, UsageFailure

NOW = 1_700_000_000.0
PROVIDER = "https://web.example/oauth/authorize?state=S1&code_challenge=abc"


@dataclass(frozen=True)
class FakeTicket:
    url: str = PROVIDER
    state: str = "S1"
    expires_at: float = NOW + 600


def healthy(**token: Any) -> dict[str, Any]:
    """A status document of a daemon in good health."""
    return {
        "version": "0.1.0",
        "state": "ready",
        "reason": "",
        "started_at": NOW - 7_200,
        "uptime_seconds": 7_200.0,
        "token": {
            "access": "valid",
            "chain": "healthy",
            "reason": "",
            "remedy": "",
            "runway_seconds": 800_000.0,
            "access_until": NOW + 800_000,
            "served_until": NOW + 800_000,
            "next_refresh_at": NOW + 400_000,
            "obtained_at": NOW - 64_000,
            "grant": "authorization_code",
            "generation": 7,
            "saved": True,
        }
        | token,
        "cache": {"entries": 1_234, "bytes": 48_000_000, "max_bytes": 1_073_741_824, "evictions": 0},
        "origin": {
            "url": "https://api.passolution.eu",
            "state": "answering",
            "answers": 900,
            "failures": 2,
            "last_status": 200,
            "last_answer_at": NOW - 4,
            "last_duration_seconds": 0.183,
            "last_failure": "",
        },
        "requests": {
            "total": 12_345,
            "by_cache": {"hit": 11_000, "stale": 45, "miss": 900, "pass": 400, "error": 0},
            "hit_ratio": 0.925,
            "per_second": 12.4,
            "refused": 3,
            "recent": [
                {
                    "at": NOW - n,
                    "request_id": f"{n:032x}",
                    "client": "127.0.0.1",
                    "method": "GET",
                    "target": "/api/v2/content/all/html?lang=***&countries=***&nat=***",
                    "status": [200, 200, 404, 502][n % 4],
                    "route": "requirements",
                    "cache": ["hit", "miss", "pass", "error"][n % 4],
                    "duration_seconds": 0.0004 * (n + 1),
                    "outcome": "complete",
                    "code": "",
                }
                for n in range(8)
            ],
        },
        "recent_errors": [
            {
                "at": NOW - 60,
                "first_at": NOW - 1_260,
                "count": 17,
                "listener": "",
                "level": "warning",
                "what": "no answer from the origin to GET: connection reset",
                "target": "/api/v2/<b>",
            }
        ],
        "warnings": [],
        "since": {"chain": NOW - 64_000, "access": NOW - 64_000, "origin": NOW - 540},
        "alert": {"level": "none", "deadline": NOW + 800_000},
        "last_hour": last_hour(),
        "routes": [
            route("requirements", "/api/v2/content/**", 1_204, 86_400.0, 86_400.0, 300.0),
            route("countries", "/api/v2/country/**", 30, 604_800.0, 0.0, 0.0),
            route("account", "/api/v2/me", 0, 0.0, 0.0, 0.0),
        ],
        "most_used": [
            {
                "method": "GET",
                "target": f"/api/v2/content/all/html?lang={lang}&countries=***&nat=***",
                "requests": 900 // (n + 1),
            }
            for n, lang in enumerate(("de", "en", "fr", "nl"))
        ],
        "refreshes": [
            {"at": NOW - 64_000, "duration_seconds": 0.21, "renewed": True, "outcome": "refresh", "detail": ""},
            {
                "at": NOW - 64_060,
                "duration_seconds": 10.0,
                "renewed": False,
                "outcome": "answered",
                "detail": "the provider answered 503",
            },
            {"at": NOW - 400_000, "duration_seconds": None, "renewed": True, "outcome": "login", "detail": ""},
        ],
        "listeners": ["127.0.0.1:8610", "[::1]:8610"],
        "config": "/etc/passoproxy/config.yaml",
    }


def last_hour() -> dict[str, Any]:
    """An hour with a gap, a slow minute and two routes."""
    odd = [(n * 7_919 + n * n * 104_729) % 101 for n in range(60)]
    asked = [0 if n in (17, 18) else int(600 + 210 * math.sin(n / 8)) + odd[n] for n in range(60)]

    def shown(of: Callable[[int], float]) -> list[float | None]:
        return [of(n) if each else None for n, each in enumerate(asked)]

    return {
        "requests": sum(asked),
        "hit_ratio": 0.925,
        "p50_seconds": 0.00042,
        "p99_seconds": 0.31,
        "minutes": {
            "requests": asked,
            "hit_ratio": shown(lambda n: 0.86 + 0.06 * math.sin(n / 11) + odd[n] / 1_500),
            "p50_seconds": shown(lambda n: 0.0003 + odd[n] / 250_000),
            "p99_seconds": shown(lambda n: (0.12 + odd[n] / 300) * (6 if n == 40 else 1)),
        },
        "routes": [
            {
                "route": "requirements",
                "requests": 37_106,
                "hit_ratio": 0.951,
                "p50_seconds": 0.0004,
                "p99_seconds": 0.29,
            },
            {"route": "", "requests": 812, "hit_ratio": None, "p50_seconds": 0.18, "p99_seconds": 0.9},
        ],
    }


def route(name: str, match: str, entries: int, error: float, unauthorized: float, renewed: float) -> dict[str, Any]:
    """A route as status shows it; windows in seconds."""
    return {
        "name": name,
        "match": match,
        "entries": entries,
        "ttl": 3_600.0,
        "stale_while_revalidate": renewed,
        "stale_if_error": error,
        "stale_if_unauthorized": unauthorized,
    }


def without_pair() -> dict[str, Any]:
    """A status document of a daemon that nobody authorised yet."""
    document = healthy(access="none", chain="none", runway_seconds=0.0, access_until=None, served_until=None)
    document["token"] |= {
        "next_refresh_at": None,
        "obtained_at": None,
        "reason": "no pair",
        "remedy": "authorise it",
        "grant": "",
    }
    return document | {"state": "unready", "reason": "there is no pair and nothing is stored"}


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class FakeDaemon:
    """Remembers what it was asked; `fails` is raised by every call that does something."""

    document: dict[str, Any] = field(default_factory=healthy)
    ready: tuple[bool, str, str] = (True, "ready", "")
    fails: BaseException | None = None
    hooks: list[dict[str, Any]] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)
    given: int = 0
    """Entries of `listed` that were asked for."""
    shown: dict[str, Any] | None = None
    outcome: dict[str, Any] | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    logins: dict[str, str] = field(default_factory=dict)
    filling: asyncio.Event = field(default_factory=_set)
    outlook_line: str = ""
    explained: dict[str, Any] | None = None

    def identity(self) -> dict[str, Any]:
        return {"pid": 4711, "config": None, "state_directory": "/state"}

    async def look_at_store(self) -> None:
        pass

    async def look_at_routes(self) -> None:
        pass

    async def why(self, request: str) -> dict[str, Any] | None:
        self._did("why", request)
        return self.explained

    def status(self) -> dict[str, Any]:
        return self.document

    def readiness(self, strict: bool) -> tuple[bool, str, str]:
        self.calls.append(("readiness", strict))
        return self.ready

    def outlook(self) -> str:
        return self.outlook_line

    async def test_alerts(self) -> dict[str, Any]:
        return {**self._did("test_alerts"), "results": self.hooks}

    def _did(self, *call: Any) -> dict[str, Any]:
        self.calls.append(call)
        if self.fails is not None:
            raise self.fails
        return {"did": call[0]}

    async def refresh(self, force: bool = False) -> dict[str, Any]:
        return self._did("refresh", force)

    async def import_pair(self, document: bytes, force: bool = False) -> dict[str, Any]:
        return self._did("import", document, force)

    async def export_pair(self) -> dict[str, Any]:
        return self._did("export")

    async def execute(self, message: bytes) -> dict[str, Any]:
        return self._did("execute", message)

    async def logout(self, keep_cache: bool = False) -> dict[str, Any]:
        return self._did("logout", keep_cache)

    async def begin_login(self, cookie: str | None = None) -> FakeTicket:
        self._did("begin_login", cookie)
        self.logins["S1"] = cookie
        return FakeTicket()

    def takes_redirect(self) -> bool:
        return True

    async def complete_login(self, query: str, cookie: str | None = None) -> dict[str, Any]:
        """Once for each state, and only for whoever it is bound to, as the daemon's logins do."""
        self._did("complete_login", query, cookie)
        if "error=access_denied" in query:
            raise PersonNeeded("the provider says access_denied: the request was denied; start again and approve it")
        if "S1" not in self.logins or "state=S1" not in query:
            raise UsageFailure("this login is not known, used already or over ten minutes old; start again")
        if self.logins["S1"] not in (None, cookie):
            raise UsageFailure("this login was begun in another browser; start again")
        del self.logins["S1"]
        return {"access": "valid"}

    async def wait_login(self, state: str, timeout: float) -> dict[str, Any] | None:
        self._did("wait_login", state, timeout)
        return self.outcome

    def selector(self, chosen: Mapping[str, object]) -> Selector:
        """Only what the tests choose by."""
        if unknown := set(chosen) - {"prefix", "route", "tag"}:
            raise UsageFailure(f"{min(unknown)!r} names nothing that can be chosen")
        return Selector(**{name: str(value) for name, value in chosen.items()})

    async def entries(self, selector: Selector, limit: int) -> AsyncIterator[dict[str, Any]]:
        self._did("entries", selector, limit)
        for entry in self.listed[:limit]:
            self.given += 1
            yield entry

    async def exceeds(self, selector: Selector, limit: int) -> bool:
        return len(self.listed) > limit

    async def cache_stats(self) -> dict[str, Any]:
        return self._did("cache_stats")

    async def show(self, url: str, method: str, data: bytes | None) -> dict[str, Any] | None:
        self._did("show", url, method, data)
        return self.shown

    async def purge(self, what: Mapping[str, object]) -> int:
        self._did("purge", dict(what))
        return 3

    async def explain(self, described: object) -> dict[str, Any]:
        return self._did("explain", described)

    async def warm(self, described: Sequence[object]) -> AsyncGenerator[dict[str, Any], None]:
        self._did("warm", list(described))
        try:
            for number, each in enumerate(described):
                await self.filling.wait()
                outcome = str(each).strip("/")
                detail = "no" if outcome == "failed" else ""
                yield {"number": number, "url": each, "outcome": outcome, "status": None, "detail": detail}
        finally:
            self.calls.append(("warmed",))

    async def reload(self) -> dict[str, Any]:
        return self._did("reload")


class OddFault(PassoproxyError):
    """A fault that the admin listener has no status for."""
