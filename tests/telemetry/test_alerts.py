"""The watch over the runway, and the events of the pair: what is told, by which hook, and that a hook which hangs or fails delays nothing.

Every message that a hook gets here is held against the schema of docs/.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from passoproxy.core.events import (
    AlertFailed,
    ChainChanged,
    Event,
    OwnershipChanged,
    PairErased,
    RunwayWarned,
    TaskFailed,
    TokenRefreshed,
)
from passoproxy.core.oauth.alert_levels import Alarmed, Level, Thresholds
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import AlertUndelivered, ConfigurationError
from passoproxy.ports import AlertHook
from passoproxy.telemetry.alerts import LONGEST_LOOK, MOST_WAITING, AlertPolicy, Alerts, alert
from passoproxy.tokens.waits import first_of
from tests.fakes import FakeClock, RememberingObserver, settle

T0 = 1_700_000_000.0
SCHEMA = json.loads(Path("docs/alert.schema.json").read_text())
Draft202012Validator.check_schema(SCHEMA)
VALIDATOR = Draft202012Validator(SCHEMA)
SEEN = TokenSnapshot(
    access="valid",
    chain="retrying",
    reason="the provider answers 503",
    runway_seconds=3600.0,
    access_until=T0 + 3600,
    served_until=T0 + 3600,
    next_refresh_at=T0 + 1440,
    remedy="none needed if the provider comes back in time",
    link="http://127.0.0.1:8611/",
    generation=1,
    grant="authorization_code",
    obtained_at=T0,
    last_error="503",
    saved=True,
    as_of=T0,
)


def read(document: bytes) -> dict[str, Any]:
    """The message in a document, which is one line and fits the schema with nothing beyond it."""
    assert document.count(b"\n") == 1
    told: dict[str, Any] = json.loads(document)
    VALIDATOR.validate(told)
    assert list(told) == SCHEMA["required"] == list(SCHEMA["properties"])
    return told


class Pair:
    """A keeper whose pair ages with the clock; `words` are laid over what is shown."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.words = clock, dict[str, Any]()
        self.turn = asyncio.Event()
        self.began = clock.monotonic()

    def current(self) -> Bearer | None:
        return None

    def snapshot(self) -> TokenSnapshot:
        if isinstance(self.words.get("fault"), Exception):
            raise self.words["fault"]
        age = self.clock.monotonic() - self.began
        return replace(SEEN, **{"runway_seconds": max(0.0, 3600 - age), "as_of": T0 + age, **self.words})

    def becomes(self, **words: Any) -> None:
        self.words = words
        self.turn.set()
        self.turn = asyncio.Event()

    def renewed(self) -> None:
        self.began = self.clock.monotonic()
        self.becomes(chain="healthy")

    async def news(self, seconds: float) -> None:
        await first_of(self.turn.wait(), self.clock.sleep(seconds))


@dataclass
class Hook:
    """Keeps what it gets; waits for `opened`, and then raises `fault` where there is one."""

    name: str
    got: list[dict[str, Any]] = field(default_factory=list)
    fault: Exception | None = None
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened.set()

    async def deliver(self, document: bytes) -> str:
        await self.opened.wait()
        if self.fault is not None:
            raise self.fault
        self.got.append(read(document))
        return "told"

    def where(self) -> str:
        return "here"

    @property
    def levels(self) -> list[str]:
        return [each["level"] for each in self.got]


class Memory:
    """An AlarmMemory that outlives the watch."""

    def __init__(self) -> None:
        self.kept: Alarmed | None = None
        self.saves = self.loads = 0

    def load(self) -> Alarmed | None:
        self.loads += 1
        return self.kept

    def save(self, alarmed: Alarmed | None) -> None:
        self.saves += 1
        self.kept = alarmed


async def inline(call: Callable[[], Any]) -> Any:
    return call()


class Stand:
    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self.clock, self.observer = FakeClock(), RememberingObserver()
        self.pair = Pair(self.clock)
        self.command, self.webhook = Hook("command"), Hook("webhook")
        self.alerts = Alerts(
            self.pair,
            self.policy(self.command, self.webhook),
            self.clock,
            self.observer,
            self.memory,
            instance="here",
            version="1",
            blocking=inline,
        )

    def policy(self, *hooks: AlertHook, repeat: float = 1800.0, events: tuple[str, ...] = ()) -> AlertPolicy:
        return AlertPolicy(Thresholds(), repeat, hooks, frozenset(events))

    def kinds(self) -> list[tuple[str, str]]:
        told = self.observer.of(RunwayWarned)
        return [(each.kind, each.level) for each in told if isinstance(each, RunwayWarned)]

    def failures(self) -> list[tuple[str, str]]:
        return [(each.hook, each.detail) for each in self.observer.of(AlertFailed) if isinstance(each, AlertFailed)]


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    task = asyncio.create_task(made.alerts.run())
    await settle()
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_levels_in_order_once_each_at_their_moments_and_once_on_recovery(stand: Stand) -> None:
    await stand.clock.advance(0.45 * 3600 - 1)
    assert (stand.alerts.level, stand.kinds()) == (Level.NONE, [])
    await stand.clock.advance(1.1)
    assert (stand.alerts.level, stand.command.levels) == (Level.LOG, ["log"])
    await stand.clock.advance(0.05 * 3600)
    assert stand.command.levels == ["log", "notify"]
    await stand.clock.advance(0.15 * 3600)
    assert stand.command.levels == ["log", "notify", "page"]
    stand.pair.renewed()
    await settle()
    assert stand.alerts.level is Level.NONE
    assert stand.command.levels == stand.webhook.levels == ["log", "notify", "page", "recovered"]
    assert stand.kinds() == [("raised", "log"), ("raised", "notify"), ("raised", "page"), ("recovered", "none")]


async def test_what_a_hook_is_told(stand: Stand) -> None:
    stand.pair.becomes(chain="dead", reason="refused", remedy="run 'passoproxy login'", runway_seconds=0.0)
    await settle()
    (told,) = stand.command.got
    assert told == {
        "level": "page",
        "event": None,
        "state": "dead",
        "reason": "refused",
        "remedy": "run 'passoproxy login'",
        "since": "2023-11-14T22:13:20Z",
        "runway_seconds": 0.0,
        "deadline": "2023-11-14T23:13:20Z",
        "access_until": "2023-11-14T23:13:20Z",
        "served_until": "2023-11-14T23:13:20Z",
        "link": "http://127.0.0.1:8611/",
        "instance": "here",
        "version": "1",
    }


EVERY = ("login", "refresh", "import", "logout", "dead")
LIFE: tuple[tuple[Event, str | None], ...] = (
    (TokenRefreshed(1, "login", T0 + 3600, 3600.0), "login"),
    (ChainChanged("valid", "healthy", "renews itself", 3600.0, "", "none"), None),
    (TokenRefreshed(2, "refresh", T0 + 7200, 3600.0), "refresh"),
    (TokenRefreshed(3, "client_credentials", None, None), "refresh"),
    (TokenRefreshed(4, "import", T0 + 7200, 3600.0), "import"),
    (TokenRefreshed(5, "seed", T0 + 7200, 3600.0), "import"),
    (TokenRefreshed(6, "static", None, None), None),
    (ChainChanged("valid", "dead", "invalid_grant", 0.0, "log in", "healthy"), "dead"),
    (ChainChanged("expired", "dead", "invalid_grant", 0.0, "log in"), None),  # it was dead before
    (PairErased("revoked at the provider and erased here"), "logout"),
    (OwnershipChanged("owner"), None),
)


@pytest.mark.parametrize("wanted", [EVERY, ("dead",), ()])
async def test_events_are_told_once_in_order_by_every_hook_if_they_are_asked_for(
    stand: Stand, wanted: tuple[str, ...]
) -> None:
    stand.alerts.policy = stand.policy(stand.command, stand.webhook, events=wanted)
    for event, _ in LIFE:
        stand.alerts.hear(event)
    await settle()
    assert [each["event"] for each in stand.command.got] == [word for _, word in LIFE if word in wanted]
    assert stand.command.got == stand.webhook.got
    assert {*stand.command.levels} <= {"event"}


async def test_what_an_event_tells(stand: Stand) -> None:
    stand.alerts.policy = stand.policy(stand.command, events=EVERY)
    for event, word in LIFE:
        if word in ("login", "dead", "logout"):
            stand.alerts.hear(event)
    await settle()
    login, dead, logout = stand.command.got
    assert (login["reason"], login["access_until"]) == ("a person has logged in", "2023-11-14T23:13:20Z")
    assert (dead["state"], dead["reason"], dead["remedy"]) == ("dead", "invalid_grant", "log in")
    assert (dead["runway_seconds"], dead["since"]) == (0.0, "2023-11-14T22:13:20Z")
    assert logout["reason"] == "revoked at the provider and erased here"


async def test_an_event_that_cannot_be_told_ends_nothing(stand: Stand) -> None:
    stand.pair.words = {"fault": RuntimeError("no")}
    stand.alerts.hear(LIFE[0][0])
    assert stand.observer.of(TaskFailed) == [TaskFailed("alerts", "RuntimeError")]


async def test_what_waits_gets_out_at_the_end_within_its_time() -> None:
    stand = Stand()  # nothing watches
    stand.alerts.policy = stand.policy(stand.command, stand.webhook, events=EVERY)
    stand.alerts.hear(LIFE[0][0])
    await stand.alerts.send_off()
    assert len(stand.command.got) == len(stand.webhook.got) == 1
    stand.webhook.opened.clear()
    stand.alerts.hear(LIFE[0][0])
    await stand.alerts.settle(0.01)
    assert len(stand.webhook.got) == 1


async def test_it_is_repeated_at_the_level_that_lasts(stand: Stand) -> None:
    stand.pair.becomes(chain="dead")
    await stand.clock.advance(1799)
    assert stand.webhook.levels == ["page"]
    await stand.clock.advance(1.1)
    await stand.clock.advance(1800)
    assert stand.webhook.levels == ["page"] * 3


async def test_a_hook_that_hangs_delays_neither_the_other_nor_the_watch(stand: Stand) -> None:
    stand.command.opened.clear()
    await stand.clock.advance(0.66 * 3600)
    assert stand.webhook.levels == ["log", "notify", "page"]
    assert stand.alerts.level is Level.PAGE
    assert stand.command.levels == []
    stand.command.opened.set()
    await settle()
    assert stand.command.levels == ["log", "notify", "page"]


async def test_what_waits_for_a_hook_that_hangs_for_long_is_bounded(stand: Stand) -> None:
    stand.alerts.policy = stand.policy(stand.command, repeat=60.0)
    stand.command.opened.clear()
    stand.pair.becomes(chain="dead")
    await stand.clock.advance(60.0 * 3 * MOST_WAITING)
    stand.command.opened.set()
    await settle(100)
    assert len(stand.command.got) == MOST_WAITING + 1
    assert stand.failures() == [("command", f"{MOST_WAITING} messages wait for it, and the oldest is lost")]


async def test_a_failure_is_told_once_until_it_works_again(stand: Stand) -> None:
    stand.webhook.fault = AlertUndelivered("alerts.webhook: answered 500")
    stand.pair.becomes(chain="dead")
    await stand.clock.advance(3 * 1800.0)
    assert stand.failures() == [("webhook", "alerts.webhook: answered 500")]
    stand.webhook.fault = None
    await stand.clock.advance(1800.0)
    assert stand.webhook.levels == ["page"]
    stand.webhook.fault = AlertUndelivered("again")
    await stand.clock.advance(1800.0)
    assert stand.failures()[1:] == [("webhook", "again")]
    assert len(stand.command.levels) == 6


async def test_a_fault_of_ours_in_a_hook_silences_nothing(stand: Stand) -> None:
    stand.command.fault = RuntimeError("a text that may hold anything")
    stand.pair.becomes(chain="dead")
    await settle()
    assert stand.failures() == [("command", "a fault inside passoproxy (RuntimeError)")]
    stand.command.fault = None
    await stand.clock.advance(1800.0)
    assert stand.command.levels == ["page"]


async def test_a_look_that_fails_is_told_and_repeated(stand: Stand) -> None:
    stand.pair.becomes(fault=RuntimeError("no"))
    await settle()
    assert stand.observer.of(TaskFailed) == [TaskFailed("alerts", "RuntimeError")]
    stand.pair.words = {"chain": "dead"}
    await stand.clock.advance(LONGEST_LOOK)
    assert stand.command.levels == ["page"]


async def test_one_who_follows_leaves_it_to_the_owner(stand: Stand) -> None:
    stand.pair.becomes(chain="dead", role="following")
    await settle()
    assert (stand.alerts.level, stand.kinds()) == (Level.PAGE, [])
    assert stand.command.levels == []
    stand.pair.becomes(chain="dead")
    await settle()
    assert stand.command.levels == ["page"]


@contextlib.asynccontextmanager
async def watching(memory: Memory) -> AsyncIterator[Stand]:
    """A watch from its start to its end, as a process has it."""
    made = Stand(memory)
    made.pair.becomes(chain="dead")
    task = asyncio.create_task(made.alerts.run())
    await settle()
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_what_was_told_is_not_told_again_by_the_next_process() -> None:
    memory = Memory()
    async with watching(memory) as first:
        assert first.command.levels == ["page"]
        told_at = first.clock.wall()
        assert memory.kept == Alarmed(Level.PAGE, told_at, told_at)
    async with watching(memory) as second:
        assert (second.command.levels, second.alerts.level) == ([], Level.PAGE)
        assert memory.saves == 1
        await second.clock.advance(1799)
        assert second.command.levels == []
        await second.clock.advance(1.1)
        assert second.command.levels == ["page"]  # repeated when its time is up
        assert memory.kept is not None
        assert memory.kept.at == pytest.approx(told_at + 1800, abs=1)
        second.pair.renewed()
        await settle()
        assert (second.command.levels, memory.kept) == (["page", "recovered"], None)
        assert {each["since"] for each in (*first.command.got, *second.command.got)} == {first.command.got[0]["since"]}
    async with watching(memory) as third:
        assert third.command.levels == ["page"]  # a new alarm


async def test_a_recovery_while_nobody_watched_is_told_once() -> None:
    memory = Memory()
    memory.kept = Alarmed(Level.NOTIFY, T0, T0 - 7200)
    made = Stand(memory)
    made.pair.renewed()
    task = asyncio.create_task(made.alerts.run())
    await settle()
    assert (made.command.levels, memory.kept) == (["recovered"], None)
    assert made.command.got[0]["since"] == "2023-11-14T20:13:20Z"  # when the alarm began that is over now
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_was_not_brought_is_not_remembered_as_told() -> None:
    """Who dies before the hook has it has told nobody."""
    memory = Memory()
    stand = Stand(memory)
    stand.webhook.opened.clear()
    stand.pair.becomes(chain="dead")
    task = asyncio.create_task(stand.alerts.run())
    await settle()
    assert (stand.command.levels, memory.kept) == (["page"], None)
    stand.webhook.opened.set()
    await settle()
    assert memory.kept is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_who_becomes_the_owner_goes_on_where_the_one_before_was(stand: Stand) -> None:
    stand.pair.becomes(chain="dead", role="following")
    await settle()
    assert (stand.memory.loads, stand.memory.saves) == (1, 0)  # it was the owner's for a moment
    stand.memory.kept = Alarmed(Level.PAGE, stand.clock.wall() - 600, 0.0)
    stand.pair.becomes(chain="dead")
    await settle()
    assert stand.command.levels == []
    await stand.clock.advance(1201)
    assert stand.command.levels == ["page"]
    stand.webhook.opened.clear()
    stand.pair.becomes(chain="healthy", runway_seconds=3600.0)
    await settle()
    stand.pair.becomes(chain="dead", role="following")
    await settle()
    saves = stand.memory.saves
    stand.webhook.opened.set()
    await settle()
    assert stand.memory.saves == saves  # who follows has nothing to remember


async def test_one_who_follows_nobody_speaks_until_the_owner_is_back(stand: Stand) -> None:
    stand.pair.becomes(role="following", chain="healthy", runway_seconds=3600.0)
    await settle()
    stand.pair.becomes(role="following", alone=True, chain="dead")
    await settle()
    assert stand.command.levels == ["page"]
    assert stand.memory.kept is not None
    stand.pair.becomes(role="following", chain="healthy", runway_seconds=3600.0)
    await settle()
    assert stand.command.levels == ["page", "recovered"]
    assert stand.memory.kept is None  # else the next owner would tell of the recovery once more
    stand.pair.becomes(role="following", chain="dead")
    await settle()
    stand.pair.becomes(role="following", chain="healthy", runway_seconds=3600.0)
    await settle()
    assert stand.command.levels == ["page", "recovered"]  # the rest is the owner's


async def test_a_recovery_after_a_logout_is_told_with_the_next_pair(stand: Stand) -> None:
    stand.pair.becomes(chain="dead")
    await settle()
    assert stand.memory.kept is not None
    stand.pair.becomes(access="none", chain="none", last_error="")
    await settle()
    assert stand.command.levels == ["page"]
    stand.pair.renewed()
    await settle()
    assert (stand.command.levels, stand.memory.kept) == (["page", "recovered"], None)


async def test_hooks_follow_the_policy(stand: Stand) -> None:
    stand.alerts.policy = stand.policy(stand.webhook)
    stand.pair.becomes(chain="dead")
    await settle()
    stand.alerts.policy = stand.policy()
    await stand.clock.advance(1800.0)
    assert (stand.command.levels, stand.webhook.levels) == ([], ["page"])
    assert len(stand.kinds()) == 2


async def test_a_failure_is_told_again_after_a_reload(stand: Stand) -> None:
    stand.webhook.fault = AlertUndelivered("alerts.webhook: no such host")
    stand.pair.becomes(chain="dead")
    await settle()
    another = Hook("webhook", fault=AlertUndelivered("alerts.webhook: answered 404"))
    stand.alerts.policy = stand.policy(another)
    await stand.clock.advance(1800.0)
    assert [said for _, said in stand.failures()] == ["alerts.webhook: no such host", "alerts.webhook: answered 404"]


async def test_a_hook_that_was_taken_away_gets_nothing_more(stand: Stand) -> None:
    stand.command.opened.clear()
    await stand.clock.advance(0.66 * 3600)
    stand.alerts.policy = stand.policy()
    stand.command.opened.set()
    await settle()
    assert stand.command.levels == ["log"]  # the one that was under way


async def test_a_test_says_what_came_back_from_each(stand: Stand) -> None:
    stand.webhook.fault = AlertUndelivered("answered 500")
    tried = await stand.alerts.test()
    assert tried["results"] == [
        {"hook": "command", "where": "here", "ok": True, "said": "told"},
        {"hook": "webhook", "where": "here", "ok": False, "said": "answered 500"},
    ]
    (told,) = stand.command.got
    assert tried["sent"] == told
    assert told["level"] == "test"
    assert told["reason"] == "this is a test; nothing is wrong"
    assert stand.kinds() == []


async def test_a_test_without_hooks_says_so(stand: Stand) -> None:
    stand.alerts.policy = stand.policy()
    with pytest.raises(ConfigurationError, match=r"alerts\.command or alerts\.webhook"):
        await stand.alerts.test()


def test_an_alert_where_no_daemon_runs() -> None:
    told = read(alert("test", None, "here", "1", T0))
    assert (told["state"], told["runway_seconds"], told["deadline"], told["link"]) == ("not running", None, None, "")


def test_a_moment_beyond_the_calendar_is_left_out() -> None:
    assert read(alert("log", replace(SEEN, as_of=1e300), "here", "1", T0))["deadline"] is None


def test_what_cannot_be_written_in_utf8_is_replaced() -> None:
    assert read(alert("log", replace(SEEN, reason="a\udc80"), "here", "1", T0))["reason"] == "a?"
