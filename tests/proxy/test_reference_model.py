"""The cache against a model of it: slow, obvious, and written apart from `core.cache`, of which it uses nothing.

The model keeps what was answered as plain records and says of each request whether a stored answer must serve, may serve, or must not. The
hop is driven with the same requests; each of its answers has to be explained by the model.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.http.syntax import print_date
from passoproxy.errors import Offline, OriginUnreachable
from passoproxy.ports import Response, Trail
from tests.caching_stand import Stand, read
from tests.fakes import response

STEPS = 40
QUICK, SLOW = 25, 485
"""Sequences; times STEPS that is 1,000 steps in the quick form, and 20,400 with the slow one."""

POLICY = RoutePolicy(name="r", stale_while_revalidate=7.0, stale_if_error=20.0)
NEVER = float("inf")
PATHS = {"/a": True, "/b": False}
"""Whether the answers vary on Foo."""

controls = st.sampled_from(
    [
        "max-age=10",
        "max-age=10",
        "max-age=10",
        "max-age=0",
        "max-age=30, s-maxage=5",
        "max-age=10, must-revalidate",
        "max-age=10, proxy-revalidate",
        "max-age=10, stale-while-revalidate=15",
        "max-age=5, stale-if-error=60",
        "no-cache",
        "no-store",
        "max-age=10, private",
        'max-age=10, private="x-secret"',
        "max-age=x",
        "max-age=10, max-age=1",
        "Max-Age=10",
        "",
    ]
)
wishes = st.sampled_from(
    [""] * 8
    + ["no-cache", "no-store", "max-age=3", "max-age=0", "min-fresh=5", "max-stale", "max-stale=4", "only-if-cached"]
)


@dataclass(frozen=True)
class Move:
    """Time passes, the origin is as it is, and someone asks."""

    wait: float
    step: float
    path: str
    method: str
    identity: str
    foo: str
    wish: str
    ranged: bool
    state: str
    control: str
    tagged: bool
    changed: bool
    age: int


moves = st.builds(
    Move,
    wait=st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.5, 4.0, 9.0, 12.0, 25.0, 61.0]),
    step=st.sampled_from([0.0] * 12 + [-15.0, -90.0, 30.0]),
    path=st.sampled_from(sorted(PATHS)),
    method=st.sampled_from(["GET"] * 15 + ["POST"]),
    identity=st.sampled_from(["me", "me", "you"]),
    foo=st.sampled_from(["1", "1", "2"]),
    wish=wishes,
    ranged=st.sampled_from([False, False, False, True]),
    state=st.sampled_from(["well"] * 8 + ["away", "500"]),
    control=controls,
    tagged=st.booleans(),
    changed=st.booleans(),
    age=st.sampled_from([0, 0, 0, 2, 8]),
)


# ---- the model ---------------------------------------------------------------------------------------------------------


def words(control: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for each in control.split(","):
        name, mark, value = each.strip().partition("=")
        if name and name.lower() not in found:
            found[name.lower()] = value if mark else None
    return found


def number(found: dict[str, str | None], name: str) -> float | None:
    if name not in found:
        return None
    text = found[name] or ""
    return float(text) if text.isdigit() else 0.0


@dataclass
class Record:
    """One stored answer, as a person would note it down."""

    body: bytes
    came: float
    age_then: float
    control: str
    tag: str
    outdated: float = NEVER
    """When the origin gave another answer, which could not be stored."""

    def age(self, now: float) -> float:
        return max(0.0, now - self.came + self.age_then)

    def of_the_future(self, now: float) -> bool:
        return now < self.came - 60.0


@dataclass
class Model:
    """Everything that is stored, and the rules in their plainest form."""

    shared: bool
    records: dict[tuple[str, str, str | None], Record] = field(default_factory=dict)

    def slot(self, move: Move) -> tuple[str, str, str | None]:
        return move.identity, move.path, move.foo if PATHS[move.path] else None

    def may_store(self, control: str) -> bool:
        said = words(control)
        return "no-store" not in said and not (self.shared and "private" in said and said["private"] is None)

    def life(self, record: Record) -> float:
        said = words(record.control)
        if self.shared and "s-maxage" in said:
            return number(said, "s-maxage") or 0.0
        return number(said, "max-age") or 0.0

    def never_stale(self, record: Record) -> bool:
        said = words(record.control)
        strict = {"no-cache", "must-revalidate"} | ({"proxy-revalidate", "s-maxage"} if self.shared else set())
        return bool(strict & set(said))

    def window(self, record: Record, name: str, of_route: float) -> float:
        return max(of_route, number(words(record.control), name) or 0.0)

    def usable(self, move: Move) -> Record | None:
        record = self.records.get(self.slot(move))
        return record if record is not None and self.may_store(record.control) else None

    def fresh(self, record: Record, now: float) -> bool:
        return record.outdated == NEVER and not record.of_the_future(now) and self.over(record, now) < 0.0

    def over(self, record: Record, now: float) -> float:
        """Seconds since the end of freshness, negative before it."""
        return max(record.age(now) - self.life(record), now - record.outdated)

    def too_old_for_the_wish(self, record: Record, wish: str, now: float) -> bool:
        asked, age = words(wish), record.age(now)
        if "no-cache" in asked:
            return True
        if "max-age" in asked and (age > (number(asked, "max-age") or 0.0) or not number(asked, "max-age")):
            return True
        left = self.life(record) - (now - record.came + record.age_then)
        return "min-fresh" in asked and left < (number(asked, "min-fresh") or 0.0)

    def verdict(self, move: Move, now: float) -> str:
        """`fresh`, `stale` or `renew` (stale, and renewed behind the answer): served without asking; `refuse`; `ask`."""
        record, asked = self.usable(move), words(move.wish)
        if record is not None and not self.too_old_for_the_wish(record, move.wish, now):
            if self.fresh(record, now) and "no-cache" not in words(record.control):
                return "fresh"
            over = self.over(record, now)
            if not self.never_stale(record) and not record.of_the_future(now):
                most = float("inf") if asked.get("max-stale", "") is None else number(asked, "max-stale")
                if most is not None and over <= most:
                    return "stale"
                if record.outdated == NEVER and over < self.window(
                    record, "stale-while-revalidate", POLICY.stale_while_revalidate
                ):
                    return "renew"
        return "refuse" if "only-if-cached" in asked else "ask"

    def instead_of_a_failure(self, move: Move, now: float) -> Record | None:
        record = self.usable(move)
        if record is None or record.of_the_future(now):
            return None
        if self.fresh(record, now) and "no-cache" not in words(record.control):
            return record
        window = self.window(record, "stale-if-error", POLICY.stale_if_error)
        over = self.over(record, now)
        return record if not self.never_stale(record) and over < window else None


# ---- the origin --------------------------------------------------------------------------------------------------------


class Origin:
    """Answers as the move says, and notes what it answered."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.versions: dict[tuple[str, str, str], int] = {}
        self.move: Move | None = None
        self.answered: list[tuple[int, bytes, str]] = []

    def __call__(self, asked: object) -> Response:
        move, fields = self.move, asked.head.fields  # type: ignore[attr-defined]
        assert move is not None
        if move.state == "away":
            self.answered.append((0, b"", ""))
            raise OriginUnreachable("away")
        if move.state == "500":
            self.answered.append((500, b"", ""))
            return self.stand.says(status=500, body=b"broken")(asked)  # type: ignore[arg-type, operator]
        if asked.head.method == "POST":  # type: ignore[attr-defined]
            self.answered.append((204, b"", ""))
            return self.stand.says(status=204, body=b"")(asked)  # type: ignore[arg-type, operator]
        what = (move.identity, move.path, fields["Foo"] if PATHS[move.path] else "")
        self.versions[what] = self.versions.get(what, 0) + move.changed
        body = f"{'|'.join(what)}|version {self.versions[what]}".encode()
        tag = f'"{"-".join(what).replace("/", "")}-{self.versions[what]}"' if move.tagged else ""
        said = [
            ("Date", print_date(self.stand.clock.wall())),
            *([("Cache-Control", move.control)] if move.control else []),
            *([("ETag", tag)] if tag else []),
            *([("Age", str(move.age))] if move.age else []),
            *([("Vary", "Foo")] if PATHS[move.path] else []),
        ]
        status = 304 if tag and tag in fields.get("If-None-Match", "") else 200
        self.answered.append((status, body, tag))
        return response(status, said, body if status == 200 else b"")


# ---- both, step by step ------------------------------------------------------------------------------------------------


async def play(steps: list[Move], shared: bool) -> None:
    stand = Stand(policy=POLICY, mode=CacheMode(http=True, shared=shared), repeat=True)
    origin, model = Origin(stand), Model(shared)
    stand.origin.script = [origin]
    for move in steps:
        await stand.clock.advance(move.wait)
        stand.clock.step(move.step)
        stand.partition, origin.move, origin.answered = move.identity, move, []
        now = stand.clock.wall()
        verdict = model.verdict(move, now)
        fields = [("Foo", move.foo)]
        fields += [("Cache-Control", move.wish)] if move.wish else []
        fields += [("Range", "bytes=1-4")] if move.ranged else []
        trail = Trail()
        try:
            answer = await read(await stand.response(move.path, move.method, fields, trail=trail), trail)
        except Offline:
            assert "only-if-cached" in move.wish
            assert move.method == "POST" or verdict == "refuse", (move, model)
            assert not origin.answered
            continue
        except OriginUnreachable:
            assert origin.answered == [(0, b"", "")]
            if move.method != "POST" and move.wish != "no-store":
                assert verdict == "ask"
                assert model.instead_of_a_failure(move, now) is None, (move, model)
            continue
        await stand.quiet()
        if move.method == "POST":
            if answer.status < 400:
                model.records = {slot: each for slot, each in model.records.items() if slot[1] != move.path}
            continue
        explain(move, answer, origin, model, verdict, now)
    await stand.cache.close()


def explain(move: Move, answer: object, origin: Origin, model: Model, verdict: str, now: float) -> None:
    status, body, headers = answer.status, answer.body, answer.headers  # type: ignore[attr-defined]
    record, told = model.usable(move), headers["cache-status"]
    if move.wish != "no-store" and verdict in ("fresh", "stale", "renew"):
        assert record is not None
        assert "hit" in told, (move, told, model)
        assert headers["age"] == str(int(record.age(now)))
        assert answer.trail.cache == ("hit" if verdict == "fresh" else "stale")  # type: ignore[attr-defined]
        assert len(origin.answered) <= (1 if verdict == "renew" else 0)
        check_content(move, status, body, record.body)
    else:
        assert "hit" not in told, (move, told, model)
        assert verdict != "refuse"
        assert len(origin.answered) == 1
        code, made, _ = origin.answered[0]
        if code in (0, 500):
            stale = None if move.wish == "no-store" else model.instead_of_a_failure(move, now)
            if stale is None:
                assert (status, code) == (500, 500), (move, told, model)
            else:
                check_content(move, status, body, stale.body)
        elif code == 304:
            assert record is not None or model.slot(move) in model.records
            check_content(move, status, body, made)
        else:
            check_content(move, status, body, made)
    if origin.answered and move.wish != "no-store":
        note(move, origin.answered[0], model, told, now)


def check_content(move: Move, status: int, body: bytes, whole: bytes) -> None:
    assert (status, body) in [(200, whole), *([(206, whole[1:5])] if move.ranged else [])], (move, status, body, whole)


def note(move: Move, answered: tuple[int, bytes, str], model: Model, told: str, now: float) -> None:
    """What the cache holds after it was told: what it says that it stored, or, where it renewed in the background, what it had to."""
    code, body, tag = answered
    slot = model.slot(move)
    if code == 304:
        model.records[slot] = Record(model.records[slot].body, now, move.age, renewed(move, model.records[slot]), tag)
        return
    renewed_behind = "hit" in told
    if code == 200 and ("stored" in told or (renewed_behind and worth_it(move, model))):
        assert model.may_store(move.control), (move, told)
        model.records[slot] = Record(body, now, move.age, move.control, tag)
    elif code == 200 and slot in model.records:
        model.records[slot].outdated = now


def renewed(move: Move, old: Record) -> str:
    """A 304 without a field leaves the stored one (RFC 9111 §3.2)."""
    return move.control or old.control


def worth_it(move: Move, model: Model) -> bool:
    """Whether an answer is stored that was fetched for nobody: whatever may be, since the route has windows for all of it."""
    said = words(move.control)
    if not model.may_store(move.control):
        return False
    probe = Record(b"", 0.0, 0.0, move.control, "")
    return bool(move.tagged or not model.never_stale(probe) or ("no-cache" not in said and model.life(probe) > 0))


sequences = st.lists(moves, min_size=STEPS, max_size=STEPS)
# Without shrinking: forty moves would take minutes to become thirty-nine.
_settings = settings(
    deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


@settings(_settings, max_examples=QUICK)
@given(sequences, st.booleans())
def test_every_answer_is_explained(steps: list[Move], shared: bool) -> None:
    asyncio.run(play(steps, shared))


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(_settings, max_examples=SLOW)
@given(sequences, st.booleans())
def test_every_answer_of_twenty_thousand_steps_is_explained(steps: list[Move], shared: bool) -> None:
    asyncio.run(play(steps, shared))
