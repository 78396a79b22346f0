"""What must hold for any sequence of requests, answers and clock moves: the hop against a bookkeeping that knows no rule of the cache."""

import asyncio
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.errors import OriginUnreachable
from passoproxy.ports import Trail
from tests.caching_stand import Stand, read
from tests.fakes import settle

FRESH, REVALIDATE, ERROR = 10.0, 7.0, 20.0


@dataclass(frozen=True)
class Move:
    """One step: wait, then ask."""

    wait: float
    path: str
    identity: str
    variant: str
    directive: str
    origin: str


moves = st.builds(
    Move,
    wait=st.sampled_from([0.0, 0.0, 1.0, 4.0, 9.0, 12.0, 25.0, 60.0]),
    path=st.sampled_from(["/a", "/b"]),
    identity=st.sampled_from(["me", "you"]),
    variant=st.sampled_from(["1", "2"]),
    directive=st.sampled_from(["", "", "", "no-cache", "max-age=3", "min-fresh=5", "no-store"]),
    origin=st.sampled_from(["well", "well", "well", "away", "500", "no-store"]),
)


class Origin:
    """Answers with who, what and when; sometimes confirms, sometimes fails."""

    def __init__(self, stand):
        self.stand, self.state, self.version = stand, "well", 0
        self.made = {}

    def __call__(self, request):
        if self.state == "away":
            raise OriginUnreachable("away")
        if self.state == "500":
            return self.stand.says(status=500)(request)
        self.version += 1
        body = f"{request.head.path} {self.stand.partition} {request.head.fields['Foo']} {self.version}".encode()
        self.made[body] = self.stand.clock.wall()
        control = self.state if self.state == "no-store" else f"max-age={FRESH:.0f}"
        return self.stand.says(("Vary", "Foo"), ("Cache-Control", control), body=body)(request)


async def play(steps):
    policy = RoutePolicy(stale_while_revalidate=REVALIDATE, stale_if_error=ERROR)
    stand = Stand(policy=policy, repeat=True)
    origin = Origin(stand)
    stand.origin.script = [origin]
    for step in steps:
        await stand.clock.advance(step.wait)
        stand.partition, origin.state = step.identity, step.origin
        fields = [("Foo", step.variant), *([("Cache-Control", step.directive)] if step.directive else [])]
        trail, before = Trail(), len(stand.origin.seen)
        try:
            answer = await read(await stand.response(step.path, fields=fields, trail=trail), trail)
        except OriginUnreachable:
            assert step.origin == "away"
            continue
        asked = len(stand.origin.seen) > before
        check(step, answer, origin, stand.clock.wall(), asked)
        await settle(60)
    await stand.cache.close()


def check(step, answer, origin, now, asked):
    if answer.status == 500:
        assert step.origin == "500"
        return
    assert answer.body.decode().split()[:3] == [step.path, step.identity, step.variant]
    age = now - origin.made[answer.body]
    if "hit" in answer.cache:
        assert answer.headers["age"] == str(int(age))
        assert step.directive not in ("no-cache", "no-store")
        assert age < FRESH + (REVALIDATE if answer.trail.cache == "stale" else 0.0)
        assert step.directive != "max-age=3" or age <= 3.0
        assert step.directive != "min-fresh=5" or age <= FRESH - 5.0
    else:
        assert asked
        assert age < FRESH + ERROR
        assert (age == 0.0) or step.origin in ("away", "500")
    if age >= FRESH:
        assert answer.trail.cache == "stale"
    elif answer.trail.cache == "stale":  # outdated by an answer that may not be stored, and all that there is
        assert step.origin in ("away", "500")


@given(st.lists(moves, min_size=5, max_size=25))
def test_no_answer_is_older_or_anothers_than_policy_allows(steps):
    asyncio.run(play(steps))
