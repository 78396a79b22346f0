"""The daemon's handle: what is said of its standing, and what its calls do, over fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from passoproxy.control import COUNT_EVERY, COUNT_SHARE, Control, Facts, Gateway, Trouble, keep_looking, trouble_of
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntriesPurged
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.oauth.alert_levels import Level
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import CommandFailure, EntryStoreFailure, UsageFailure
from passoproxy.ports import LoggedOut, StoreStats
from passoproxy.proxy.explain import Explanation
from passoproxy.tokens.commands import Command, Export, Import, Logout, Refresh
from passoproxy.tokens.login import LoginTicket
from passoproxy.upkeep.prefetch import Filled, Order
from tests.fakes import FakeClock, RememberingObserver, settle

ORIGIN = "https://api.example.com"
HEALTHY = TokenSnapshot(
    access="valid",
    chain="healthy",
    reason="the pair renews itself",
    runway_seconds=3600.0,
    access_until=1_700_003_600.0,
    served_until=1_700_003_600.0,
    next_refresh_at=1_700_001_440.0,
    remedy="",
    link="",
    generation=3,
    grant="authorization_code",
    obtained_at=1_700_000_000.0,
    last_error="",
    saved=True,
)


class Keeper:
    partition = "identity"

    def __init__(self) -> None:
        self.shown = HEALTHY
        self.asked: list[tuple[object, ...]] = []

    def snapshot(self) -> TokenSnapshot:
        return self.shown

    async def execute(self, command: Command) -> object:
        self.asked.append(command)
        match command:
            case Refresh():
                return replace(self.shown, generation=self.shown.generation + 1)
            case Export():
                return {"access_token": "A"}
            case Logout():
                return LoggedOut("erased here", self.partition)
            case _:
                return self.shown


class FakeLogins:
    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.outcome: TokenSnapshot | None = None

    async def begin(self, cookie: str | None) -> LoginTicket:
        return LoginTicket("S", "https://p.example/authorize", 600.0)

    async def complete(self, query: str, cookie: str | None) -> TokenSnapshot:
        self.asked.append((query, cookie))
        return HEALTHY

    async def wait(self, state: str, timeout: float) -> TokenSnapshot | None:
        return self.outcome


class Store:
    """Entries in a list; `away` has everything fail."""

    def __init__(self) -> None:
        self.held: list[Entry] = []
        self.away = False
        self.purged: list[Selector] = []
        self.ended = False
        self.on_count: Callable[[], Awaitable[None]] = settle

    async def stats(self) -> StoreStats:
        if self.away:
            raise EntryStoreFailure("/cache: away")
        return StoreStats(len(self.held), 100, 2)

    async def by_route(self, names: Sequence[str]) -> dict[str, int]:
        await self.on_count()
        if self.away:
            raise EntryStoreFailure("/cache: away")
        return {name: len([entry for entry in self.held if entry.route == name]) for name in names}

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        try:
            for entry in self.held:
                if selector.matches(entry):
                    yield entry
        finally:
            self.ended = True

    async def purge(self, selector: Selector, *, brief: bool = False) -> int:
        self.purged.append(selector)
        gone = [entry for entry in self.held if selector.matches(entry)]
        self.held = [entry for entry in self.held if entry not in gone]
        return len(gone)


class Operations:
    """Explainer, prefetch and change probe: what was asked of them; `away` fails."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[Any] = []
        self.away = False

    def of_entry(self, entry: Entry) -> tuple[float, float]:
        return self.clock.wall() - entry.response_time, 12.3456

    def key(self, method: str, target: str, body: bytes | None) -> str | None:
        return None if body == b"no key" else f"{method} {target} {body!r}"

    async def explain(self, head: RequestHead, body: bytes) -> Explanation:
        self.asked.append((head.method, head.target, list(head.fields.items()), body))
        return Explanation("miss", head.method, head.target, "r", "k", ("because",))

    async def fill(self, orders: Iterable[Order]) -> AsyncGenerator[Filled, None]:
        for order in orders:
            yield Filled(order.number, order.url, "fetched", 200)

    async def soften(self, selector: Selector) -> None:
        if self.away:
            raise EntryStoreFailure("/state: cannot be written")
        self.asked.append(selector)

    def shown(self) -> dict[str, object]:
        return {"state": "on"}


class Stand:
    """A handle over fakes."""

    def __init__(self, gateway: Gateway | None = None) -> None:
        self.clock, self.observer = FakeClock(), RememberingObserver()
        self.operations = Operations(self.clock)
        self.keeper, self.logins, self.store = Keeper(), FakeLogins(), Store()
        self.lately: dict[str, Any] = {"recent_errors": []}
        self.told_purged: list[Selector] = []
        self.asked: dict[str, tuple[str, str]] = {}
        self.routes: list[RoutePolicy] = []
        self.troubles: list[Trouble] = []
        facts = Facts("1.2", self.clock.wall() - 10, origin=ORIGIN, starting=False, ports=(8610,))
        facts.authorities = ("127.0.0.1:8610", "localhost", "localhost:8610")
        self.facts = facts
        self.control = Control(
            facts=facts,
            keeper=self.keeper,
            logins=self.logins,  # type: ignore[arg-type]
            store=self.store,  # type: ignore[arg-type]
            explainer=self.operations,  # type: ignore[arg-type]
            prefetch=self.operations,  # type: ignore[arg-type]
            soften=self.operations.soften,
            probing=self.operations,  # type: ignore[arg-type]
            clock=self.clock,
            observer=self.observer,
            recent=lambda: self.lately,
            asked=self.asked.get,
            routes=lambda: self.routes,
            origin=lambda: {"state": "answering", "in_flight": 1},
            troubles=lambda: self.troubles,
            tiers=lambda: (StoreStats(1, 40, 0, "memory"),),
            purged=self.told_purged.append,
            reload=self._reload,
            gateway=gateway,
        )

    async def _reload(self) -> dict[str, object]:
        return {"applied": ["log.level"]}

    def entry(self, target: str, method: str = "GET", **more: Any) -> None:
        at = self.clock.wall() - 5 + len(self.store.held)
        self.store.held.append(
            Entry(
                f"{method} {target}",
                f"id{len(self.store.held)}",
                "identity",
                method,
                target,
                200,
                response_time=at,
                **more,
            )
        )


@pytest.fixture
def stand() -> Stand:
    return Stand()


# ---- readiness -------------------------------------------------------------------------------------------------------


def ready(stand: Stand, **state: Any) -> tuple[tuple[bool, bool], str, str]:
    """Whether it is ready, plainly and strictly; the word; the reason."""
    entries = state.pop("entries", 0)
    stand.facts.store_stats = StoreStats(entries)
    for name in ("starting", "draining", "offline"):
        setattr(stand.facts, name, state.pop(name, False))
    stand.keeper.shown = replace(HEALTHY, reason="why", remedy="do", **state)
    plain, strict = stand.control.readiness(strict=False), stand.control.readiness(strict=True)
    assert plain[1:] == strict[1:]
    return (plain[0], strict[0]), plain[1], plain[2]


class Recordings:
    """What records or replays: shows `said`, and counts the looks."""

    def __init__(self, **said: object) -> None:
        self.said, self.looks = said, 0

    async def look(self) -> None:
        self.looks += 1

    def shown(self) -> dict[str, object]:
        return self.said


async def test_recordings_need_no_pair_and_one_that_is_broken_is_told() -> None:
    gateway = Recordings(mode="replay", directory="/r", recordings=2, invalid=[])
    stand = Stand(gateway)
    said = "replaying 2 recordings of /r"
    assert ready(stand, access="none", chain="none") == ((True, True), "ready", said)
    assert ready(stand, access="none", starting=True) == ((False, False), "unready", "starting")
    assert stand.control.status()["gateway"] == gateway.said
    gateway.said["invalid"] = ["a.yaml:1: is broken"]
    assert ready(stand, access="none") == ((True, True), "degraded", f"{said}; a.yaml:1: is broken")
    gateway.said["mode"] = "record"
    assert ready(stand, access="none")[0] == (False, False)
    await stand.control.look_at_store()
    assert gateway.looks == 1


async def test_a_disk_that_hangs_holds_up_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        async def look(self) -> None:
            await asyncio.Event().wait()

        def shown(self) -> dict[str, object]:
            return {"mode": "record", "directory": "/r", "recordings": 1}

    monkeypatch.setattr("passoproxy.control.LONGEST_LOOK", 0.0)
    stand = Stand(Stuck())
    stand.entry("/a")
    assert (await stand.control.look_at_store()).entries == 1


@pytest.mark.parametrize("grant", ["authorization_code", "client_credentials"])
@pytest.mark.parametrize("entries", [0, 5])
@pytest.mark.parametrize("chain", ["healthy", "retrying", "unknown", "dead", "none"])
def test_a_valid_token_is_ready_and_whole_with_a_healthy_chain(
    stand: Stand, grant: str, entries: int, chain: str
) -> None:
    found = ready(stand, access="valid", chain=chain, grant=grant, entries=entries)
    assert found == (((True, True), "ready", "") if chain == "healthy" else ((True, False), "degraded", "why"))


@pytest.mark.parametrize("access", ["none", "expired"])
@pytest.mark.parametrize("chain", ["healthy", "retrying", "unknown", "dead", "none"])
def test_without_a_token_it_is_what_is_stored(stand: Stand, access: str, chain: str) -> None:
    strict = chain == "healthy"
    assert ready(stand, access=access, chain=chain, entries=1) == (
        (True, strict),
        "degraded",
        "why; stored answers are served",
    )
    assert ready(stand, access=access, chain=chain) == ((False, False), "unready", "why; do")


def test_a_static_token_has_no_chain_to_be_healthy(stand: Stand) -> None:
    assert ready(stand, access="valid", chain="none", grant="static") == ((True, True), "ready", "")


@pytest.mark.parametrize("phase", ["starting", "draining"])
def test_start_and_end_are_unready_whatever_there_is(stand: Stand, phase: str) -> None:
    assert ready(stand, entries=9, **{phase: True}) == ((False, False), "unready", phase)


def test_offline_serves_what_is_stored(stand: Stand) -> None:
    text = "offline: only stored answers are served"
    assert ready(stand, offline=True, entries=1) == ((True, True), "degraded", text)
    assert ready(stand, offline=True, entries=1, chain="dead") == ((True, False), "degraded", text)
    assert ready(stand, offline=True) == ((False, False), "unready", "offline, and nothing is stored")


def test_a_reason_without_a_remedy(stand: Stand) -> None:
    stand.keeper.shown = replace(HEALTHY, access="none", reason="why", remedy="")
    assert stand.control.readiness(strict=False)[2] == "why"


async def test_the_word_is_that_of_the_worst_of_pair_origin_and_store(stand: Stand) -> None:
    stand.troubles = [trouble_of("origin", "the origin is away: refused; check it")]
    assert ready(stand) == ((True, True), "degraded", "the origin is away: refused")
    assert ready(stand, chain="dead") == ((True, False), "degraded", "why; the origin is away: refused")
    assert ready(stand, access="none", chain="dead")[1:] == ("unready", "why; do")
    assert stand.control.status()["state"] == "unready"
    assert stand.control.status()["troubles"] == [
        {"of": "pair", "reason": "why", "remedy": "do"},
        {"of": "origin", "reason": "the origin is away: refused", "remedy": "check it"},
    ]
    stand.troubles = []
    stand.store.away = True
    await stand.control.look_at_store()
    found = ready(stand)
    assert found[:2] == ((True, True), "degraded")
    assert found[2].startswith("the cache's store cannot be used: ")
    stand.troubles = [Trouble("store", "the shared store is away")]  # the same store: told once
    assert ready(stand)[2] == "the shared store is away"
    stand.troubles = []
    stand.store.away = False
    await stand.control.look_at_store()
    assert ready(stand) == ((True, True), "ready", "")
    assert ready(stand, saved=False) == ((True, True), "degraded", "the pair lives in memory only")


# ---- standing --------------------------------------------------------------------------------------------------------


async def test_status_shows_everything(stand: Stand) -> None:
    stand.entry("/a")
    stand.lately = {"warnings": [], "recent_errors": [1]}
    await stand.control.look_at_store()
    shown = stand.control.status()
    assert (shown["state"], shown["version"], shown["uptime_seconds"]) == ("ready", "1.2", 10.0)
    assert shown["token"]["generation"] == 3  # type: ignore[index]
    assert shown["origin"] == {"url": ORIGIN, "state": "answering", "in_flight": 1}
    assert shown["recent_errors"] == [1]
    cache = shown["cache"]
    assert isinstance(cache, dict)
    assert (cache["entries"], cache["bytes"], cache["memory_bytes"], cache["evictions"]) == (1, 100, 40, 2)


class Bell:
    """An alarm at a level."""

    level = Level.NOTIFY

    async def test(self) -> dict[str, Any]:
        return {"sent": {}, "results": []}


async def test_the_alarm_is_shown_and_tried(stand: Stand) -> None:
    assert stand.control.status()["alert"] == {"level": "none", "deadline": 3600.0}
    assert stand.control.outlook() == "runway 1 h"
    stand.control._alarm = Bell()
    assert stand.control.status()["alert"] == {"level": "notify", "deadline": 3600.0}
    assert stand.control.outlook() == "runway 1 h, alert notify, a person is needed by 1970-01-01T01:00:00Z"
    assert await stand.control.test_alerts() == {"sent": {}, "results": []}


async def test_a_store_that_is_away_shows_what_was_seen_last(stand: Stand) -> None:
    stand.entry("/a")
    assert (await stand.control.cache_stats())["entries"] == 1
    stand.store.away = True
    stand.entry("/b")
    assert (await stand.control.look_at_store()).entries == 1


async def test_the_store_is_looked_at_now_and_again(stand: Stand) -> None:
    task = asyncio.create_task(keep_looking(stand.control, stand.clock, lambda: None))
    await settle()
    assert stand.facts.store_stats.entries == 0
    stand.entry("/a")
    await stand.clock.advance(5)
    assert stand.facts.store_stats.entries == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# ---- the pair --------------------------------------------------------------------------------------------------------


async def test_the_pairs_calls_reach_the_keeper(stand: Stand) -> None:
    assert (await stand.control.refresh(force=True))["generation"] == 4
    assert (await stand.control.import_pair(b"{}"))["access"] == "valid"
    assert await stand.control.export_pair() == {"access_token": "A"}
    assert stand.keeper.asked == [Refresh(force=True), Import(b"{}"), Export()]
    assert (await stand.control.execute(b'{"command": "refresh", "force": false}'))["answer"]["generation"] == 4
    assert (await stand.control.execute(b"{"))["fault"]["exit_code"] == 2


async def test_logins(stand: Stand) -> None:
    ticket = await stand.control.begin_login("cookie")
    assert ticket.url == "https://p.example/authorize"
    assert (await stand.control.complete_login("code=1", "cookie"))["generation"] == 3
    assert stand.logins.asked == [("code=1", "cookie")]
    assert await stand.control.wait_login("S", 1.0) is None
    stand.logins.outcome = HEALTHY
    assert (await stand.control.wait_login("S", 1.0) or {})["access"] == "valid"


@pytest.mark.parametrize(("keep", "left"), [(False, ["/other"]), (True, ["/a", "/other"])])
async def test_logout_ends_the_partition(stand: Stand, keep: bool, left: list[str]) -> None:
    stand.entry("/a")
    stand.entry("/other")
    stand.store.held[1] = replace(stand.store.held[1], partition="someone else")
    assert await stand.control.logout(keep) == {"revocation": "erased here", "purged": 0 if keep else 1}
    assert [entry.target for entry in stand.store.held] == left
    assert [event.count for event in stand.observer.of(EntriesPurged)] == ([] if keep else [1])  # type: ignore[attr-defined]


# ---- what is chosen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/a/b?c=1", "/a/b?c=1"),
        ("/a?", "/a?"),
        ("/a#part", "/a"),
        (ORIGIN, "/"),
        (f"{ORIGIN}/a%2Fb?x", "/a%2Fb?x"),
        (f"{ORIGIN}?x=1", "/?x=1"),
        (f"{ORIGIN}:443/a", "/a"),
        ("https://API.example.com/a", "/a"),
        ("http://localhost:8610/a?b#c", "/a?b"),
        ("http://127.0.0.1:8610/a?", "/a?"),
        ("http://localhost/a//b", "/a//b"),
    ],
)
def test_targets(stand: Stand, url: str, target: str) -> None:
    assert stand.control.target_of(url) == target


@pytest.mark.parametrize(("url", "named"), [("/a b", "a space"), ("/a\r\nX: y", "0x0D"), (f"{ORIGIN}/ä", "%C3%A4")])
def test_what_may_not_stand_in_a_target_is_named(stand: Stand, url: str, named: str) -> None:
    with pytest.raises(UsageFailure, match=f"{named} may not stand in the path|write {named} for it"):
        stand.control.target_of(url)


@pytest.mark.parametrize("url", ["", "a/b", "//api.example.com/a", "https:///a", "http://[::1", "mailto:x"])
def test_what_is_no_url(stand: Stand, url: str) -> None:
    with pytest.raises(UsageFailure, match="neither a path"):
        stand.control.target_of(url)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a", "http://localhost:8611/a", "http://api.example.com:443/a", "http://user@localhost/a"],
)
def test_urls_of_others(stand: Stand, url: str) -> None:
    with pytest.raises(UsageFailure, match=r"neither the proxy's nor the origin's; known are .*api\.example\.com"):
        stand.control.target_of(url)


@pytest.mark.parametrize(
    ("chosen", "selector"),
    [
        ({}, Selector()),
        ({"all": True}, Selector()),
        ({"all": False, "route": "r"}, Selector(route="r")),
        ({"url": f"{ORIGIN}/a"}, Selector(target="/a")),
        ({"url": "/a", "data": "{}"}, Selector(target="/a", key="POST /a b'{}'")),
        ({"prefix": "/a*"}, Selector(prefix="/a*")),
        ({"route": "r"}, Selector(route="r")),
        ({"tag": "t", "url": None}, Selector(tag="t")),
    ],
)
def test_selectors(stand: Stand, chosen: dict[str, object], selector: Selector) -> None:
    assert stand.control.selector(chosen) == selector


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"colour": "red"}, "'colour' names nothing"),
        ({"url": "/a", "tag": "t"}, "not by several"),
        ({"url": "/a", "all": True}, "not by several"),
        ({"route": ""}, "not empty"),
        ({"tag": 5}, "must be a text"),
    ],
)
def test_what_selects_nothing(stand: Stand, chosen: dict[str, object], told: str) -> None:
    with pytest.raises(UsageFailure, match=told):
        stand.control.selector(chosen)


def test_a_body_that_is_no_key(stand: Stand) -> None:
    with pytest.raises(CommandFailure, match="POST /a with this body is never stored"):
        stand.control.selector({"url": "/a", "data": "no key"})


# ---- the cache -------------------------------------------------------------------------------------------------------


async def test_a_listing_ends_at_its_limit_and_lets_the_store_go(stand: Stand) -> None:
    for name in "abc":
        stand.entry(f"/{name}", route="r", tags=("t",))
    listed = [entry async for entry in stand.control.entries(Selector(), 2)]
    assert [entry["url"] for entry in listed] == ["/a", "/b"]
    assert stand.store.ended
    first = listed[0]
    assert (first["age"], first["ttl"], first["route"], first["tags"]) == (5.0, 12.346, "r", ["t"])
    assert len([entry async for entry in stand.control.entries(Selector(), 9)]) == 3


async def test_whether_a_listing_would_be_cut_short(stand: Stand) -> None:
    for name in "abc":
        stand.entry(f"/{name}", tags=("t",) if name != "c" else ())
    assert [await stand.control.exceeds(Selector(), limit) for limit in (2, 3)] == [True, False]
    assert [await stand.control.exceeds(Selector(tag="t"), limit) for limit in (1, 2)] == [True, False]
    assert stand.store.ended


async def test_the_youngest_variant_is_shown(stand: Stand) -> None:
    stand.entry("/a", fields=fields_of([("Age", "1")]))
    stand.entry("/a", fields=fields_of([("Content-Type", "text/plain"), ("X", "1")]))
    shown = await stand.control.show("/a", "HEAD", None)
    assert shown is not None
    assert shown["variants"] == 2
    assert shown["fields"] == [["Content-Type", "text/plain"], ["X", "1"]]
    assert await stand.control.show("/a", "POST", None) is None
    assert await stand.control.show("/b", "GET", None) is None
    assert await stand.control.show("/a", "HEAD", b"") is None  # a key of its own, which nothing has


async def test_purging(stand: Stand) -> None:
    stand.entry("/a")
    stand.entry("/b")
    assert await stand.control.purge({"url": "/a"}) == 1
    assert stand.facts.store_stats.entries == 1
    assert await stand.control.purge({"all": True}) == 1
    assert stand.observer.events == [EntriesPurged(1, "command")] * 2
    assert stand.told_purged == [Selector(target="/a"), Selector(key="GET /a None"), Selector()]


async def test_what_answers_a_url_is_found_and_purged_under_whatever_spelling_it_was_stored(stand: Stand) -> None:
    stand.entry("/a?y=1&x=2")
    stand.store.held[0] = replace(stand.store.held[0], key="GET /a?x=2&y=1 None")
    shown = await stand.control.show("/a?x=2&y=1", "GET", None)
    assert shown is not None
    assert shown["url"] == "/a?y=1&x=2"
    assert await stand.control.show("/a?x=2&y=1", "GET", b"{}") is None
    assert await stand.control.purge({"url": "/a?x=2&y=1"}) == 1
    assert stand.observer.events == [EntriesPurged(1, "command")]


async def test_whoever_asks_after_a_purge_that_failed_gets_no_older_answer_either(stand: Stand) -> None:
    async def away(selector: Selector) -> int:
        raise EntryStoreFailure("/cache: away")

    stand.store.purge = away  # type: ignore[method-assign]
    with pytest.raises(EntryStoreFailure):
        await stand.control.purge({"all": True})
    assert stand.told_purged == [Selector()]


@pytest.mark.parametrize("nothing", [{}, {"all": False}, {"url": ""}, {"data": "x"}])
async def test_a_purge_of_nothing_is_refused(stand: Stand, nothing: dict[str, object]) -> None:
    with pytest.raises(UsageFailure, match="say what to purge"):
        await stand.control.purge(nothing)
    assert stand.store.purged == []


async def test_reload(stand: Stand) -> None:
    assert await stand.control.reload() == {"applied": ["log.level"]}


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://localhost:8610/ds/a?b", "/a?b"),
        ("http://localhost:8610/ds", "/"),
        ("http://localhost:8610/ds?b", "/?b"),
        ("https://api.example.com/v1/a", "/a"),
        ("/a", "/a"),
    ],
)
def test_prefixes_of_paths_are_no_part_of_targets(stand: Stand, url: str, target: str) -> None:
    stand.control.facts.base_path, stand.control.facts.origin = "/ds", "https://api.example.com/v1"
    assert stand.control.target_of(url) == target


@pytest.mark.parametrize("url", ["http://localhost:8610/a", "http://localhost:8610/dsx", "https://api.example.com/a"])
def test_what_lies_beside_the_prefix_is_not_here(stand: Stand, url: str) -> None:
    stand.control.facts.base_path, stand.control.facts.origin = "/ds", "https://api.example.com/v1"
    with pytest.raises(UsageFailure, match=r"is not below /(ds|v1), where every path begins"):
        stand.control.target_of(url)


# ---- for the status page ---------------------------------------------------------------------------------------------


async def test_the_moments_of_the_present_states(stand: Stand) -> None:
    began = stand.clock.wall()
    assert set(stand.control.since().values()) == {began}
    stand.clock.step(5)
    stand.keeper.shown = replace(HEALTHY, chain="retrying")
    stand.control.since()
    stand.clock.step(60)
    assert stand.control.status()["since"] == {"chain": began + 5, "access": began, "origin": began}


async def test_a_count_that_takes_long_is_made_seldom_and_never_twice_at_once(stand: Stand) -> None:
    counts = 0

    async def slow() -> None:
        nonlocal counts
        counts += 1
        await stand.clock.sleep(1)

    stand.store.on_count = slow
    looks = [asyncio.ensure_future(stand.control.look_at_routes()) for _ in range(2)]
    await stand.clock.advance(1)
    await asyncio.gather(*looks)
    await stand.clock.advance(COUNT_EVERY)
    await stand.control.look_at_routes()
    assert counts == 1
    await stand.clock.advance(COUNT_SHARE)
    looks = [asyncio.ensure_future(stand.control.look_at_routes())]
    await stand.clock.advance(1)
    await asyncio.gather(*looks)
    assert counts == 2


async def test_nothing_is_since_a_moment_that_is_to_come(stand: Stand) -> None:
    stand.control.since()
    stand.clock.step(-3_600)
    assert set(stand.control.since().values()) == {stand.clock.wall()}


async def test_what_is_stored_by_route_is_counted_now_and_again(stand: Stand) -> None:
    stand.routes = [RoutePolicy("r", "/a/**", ttl=60.0, stale_if_error=5.0)]
    stand.entry("/a/1", route="r")
    assert stand.control.status()["routes"][0]["entries"] is None  # type: ignore[index]
    await stand.control.look_at_routes()
    stand.entry("/a/2", route="r")
    await stand.control.look_at_routes()  # too soon
    assert stand.control.status()["routes"] == [
        {
            "name": "r",
            "match": "/a/**",
            "entries": 1,
            "ttl": 60.0,
            "stale_while_revalidate": 0.0,
            "stale_if_error": 5.0,
            "stale_if_unauthorized": 0.0,
        }
    ]
    await stand.clock.advance(COUNT_EVERY)
    stand.store.away = True
    await stand.control.look_at_routes()
    assert stand.control.status()["routes"][0]["entries"] == 1  # type: ignore[index]


async def test_why_is_the_explanation_of_a_request_that_is_remembered(stand: Stand) -> None:
    stand.asked["abc"] = ("GET", "/a?b=c")
    assert await stand.control.why("other") is None
    found = await stand.control.why("abc")
    assert found is not None
    assert (found["method"], found["target"]) == ("GET", "/a?b=c")
