"""Places at the origin: never more than there are, never one lost, in turn by client; and the rest after a 429 (contract §5)."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.cache.policy import BypassPolicy, RoutePolicy
from passoproxy.core.events import Warned
from passoproxy.core.origin import BudgetSpent
from passoproxy.errors import (
    AuthorizationRequired,
    ConnectFailed,
    ConnectionDropped,
    ConnectTimeout,
    CoolingDown,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    Overloaded,
)
from passoproxy.ports import Client, Request, Response, Trail
from passoproxy.proxy.limiter import Limiter, LimiterState
from tests.fakes import BROKEN, ChunkedBody, FakeClock, RememberingObserver, ScriptedHop, request, response, settle

SHORT = 0.05
A, B, C = Client("10.0.0.1"), Client("10.0.0.2"), Client("10.0.0.3")


class Gate:
    """A hop whose requests wait until they are let through, one by one."""

    def __init__(self) -> None:
        self.inside: list[tuple[Request, asyncio.Future[Response]]] = []
        self.entered: list[str] = []
        self.most = 0

    async def send(self, request: Request) -> Response:
        through: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.inside.append((request, through))
        self.entered.append(request.head.target)
        self.most = max(self.most, len(self.inside))
        try:
            return await through
        finally:
            self.inside = [pair for pair in self.inside if pair[1] is not through]

    def open(self, answer: Response | BaseException | None = None) -> None:
        through = next((through for _, through in self.inside if not through.done()), None)
        if through is None:  # the only one has just been cancelled
            return
        if isinstance(answer, BaseException):
            through.set_exception(answer)
        else:
            through.set_result(answer or response(200, body=b"x"))


def queue(
    hop: object, places: int = 1, timeout: float = 5.0, clock: FakeClock | None = None, **more: object
) -> Limiter:
    return Limiter(
        hop,  # type: ignore[arg-type]
        max_concurrency=places,
        queue_timeout=timeout,
        clock=clock or FakeClock(),
        **more,  # type: ignore[arg-type]
    )


def ask(limiter: Limiter, target: str = "/", client: Client = A, background: bool = False) -> asyncio.Task[Response]:
    asked = request(target=target, client=client, background=background)
    return asyncio.get_running_loop().create_task(limiter.send(asked))


def state(limiter: Limiter) -> tuple[int, int]:
    snapshot = limiter.snapshot()
    return snapshot.in_flight, snapshot.waiting


async def test_so_many_at_once_and_no_more() -> None:
    gate = Gate()
    limiter = queue(gate, 2)
    tasks = [ask(limiter, f"/{number}") for number in range(5)]
    await settle()
    assert state(limiter) == (2, 3)
    for _ in range(5):
        gate.open()
        await settle()
    assert gate.most == 2
    assert gate.entered == [f"/{number}" for number in range(5)]
    assert all(task.done() for task in tasks)
    assert limiter.snapshot() == LimiterState(0, 0, None)


async def test_a_client_with_many_does_not_keep_one_with_few_waiting() -> None:
    gate = Gate()
    limiter = queue(gate)
    for number in range(4):
        ask(limiter, f"/a{number}", A)
        await settle()
    ask(limiter, "/b0", B)
    ask(limiter, "/c0", C)
    ask(limiter, "/b1", B)
    await settle()
    while gate.inside:
        gate.open()
        await settle()
    assert gate.entered == ["/a0", "/a1", "/b0", "/c0", "/a2", "/b1", "/a3"]


async def test_background_work_goes_last() -> None:
    gate = Gate()
    limiter = queue(gate)
    ask(limiter, "/first")
    await settle()
    ask(limiter, "/back", B, background=True)
    await settle()
    ask(limiter, "/a", A)
    ask(limiter, "/c", C)
    await settle()
    while gate.inside:
        gate.open()
        await settle()
    assert gate.entered == ["/first", "/a", "/c", "/back"]


async def test_background_work_that_a_client_joined_takes_a_clients_turn() -> None:
    gate = Gate()
    limiter = queue(gate)
    ask(limiter, "/first")
    await settle()
    joined = request(target="/joined", client=B, background=True)
    asyncio.get_running_loop().create_task(limiter.send(joined))
    await settle()
    ask(limiter, "/a", A)
    await settle()
    joined.trail.awaited = True
    limiter.hear(BudgetSpent(100.0))
    while gate.inside:
        gate.open()
        await settle()
    assert gate.entered == ["/first", "/joined", "/a"]


async def test_who_waits_too_long_is_told_when_to_come_again() -> None:
    gate = Gate()
    limiter = queue(gate, timeout=SHORT)
    first = ask(limiter)
    await settle()
    with pytest.raises(Overloaded, match="max_concurrency") as caught:
        await ask(limiter)
    assert dict(caught.value.fields)["Retry-After"] == "5"
    assert state(limiter) == (1, 0)
    gate.open()
    await first
    assert state(limiter) == (0, 0)


async def test_a_place_is_taken_until_the_body_was_read() -> None:
    limiter = queue(ScriptedHop([response(200, body=ChunkedBody(b"a", b"b", length=2))]))
    answer = await limiter.send(request())
    assert answer.body.length == 2
    assert state(limiter) == (1, 0)
    assert [part async for part in answer.body] == [b"a", b"b"]
    assert state(limiter) == (0, 0)
    await answer.body.aclose()
    assert state(limiter) == (0, 0)


async def test_a_place_is_free_at_once_where_the_body_is_in_memory() -> None:
    whole = response(200, body=b"whole")
    limiter = queue(ScriptedHop([whole]))
    assert await limiter.send(request()) is whole
    assert state(limiter) == (0, 0)


async def test_a_body_closed_early_or_broken_frees_its_place_once() -> None:
    closed, broken = ChunkedBody(b"a", b"b"), ChunkedBody(b"a", BROKEN)
    limiter = queue(ScriptedHop([response(200, body=closed), response(200, body=broken)]), 2)
    first, second = await limiter.send(request()), await limiter.send(request())
    assert state(limiter) == (2, 0)
    await first.body.aclose()
    await first.body.aclose()
    assert closed.closed
    assert state(limiter) == (1, 0)
    await anext(second.body)
    with pytest.raises(type(BROKEN)):
        await anext(second.body)
    await second.body.aclose()
    assert state(limiter) == (0, 0)


async def test_a_cancelled_reader_keeps_its_place_until_it_closes() -> None:
    class Silent(ChunkedBody):
        async def __anext__(self) -> bytes:
            await asyncio.Event().wait()
            return b""

    limiter = queue(ScriptedHop([response(200, body=Silent())]))
    answer = await limiter.send(request())
    reading = asyncio.ensure_future(anext(answer.body))
    await settle()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert state(limiter) == (1, 0)
    await answer.body.aclose()
    assert state(limiter) == (0, 0)


async def test_a_fault_or_a_client_that_leaves_frees_the_place() -> None:
    gate = Gate()
    limiter = queue(gate)
    tasks = [ask(limiter, f"/{number}") for number in range(3)]
    await settle()
    gate.open(OriginUnreachable("away"))
    await settle()
    assert isinstance(tasks[0].exception(), OriginUnreachable)
    tasks[1].cancel()
    await settle()
    assert state(limiter) == (1, 0)
    gate.open()
    await tasks[2]
    assert state(limiter) == (0, 0)


async def test_a_waiter_that_leaves_is_forgotten() -> None:
    gate = Gate()
    limiter = queue(gate)
    tasks = [ask(limiter, f"/{number}", client) for number, client in enumerate((A, A, B, A))]
    await settle()
    tasks[2].cancel()
    await settle()
    assert state(limiter) == (1, 2)
    while gate.inside:
        gate.open()
        await settle()
    assert gate.entered == ["/0", "/1", "/3"]
    assert state(limiter) == (0, 0)


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    gate = Gate()
    limiter = queue(gate)
    tasks = [ask(limiter, f"/{number}") for number in range(3)]
    await settle()
    gate.open()
    await asyncio.sleep(0)  # the first is done and has handed its place to the second, which has not run yet
    tasks[1].cancel()
    await settle()
    assert tasks[1].cancelled()
    assert gate.entered == ["/0", "/2"]
    gate.open()
    await settle()
    assert state(limiter) == (0, 0)


async def test_new_limits_hold_at_once() -> None:
    gate = Gate()
    limiter = queue(gate)
    for number in range(5):
        ask(limiter, f"/{number}")
    await settle()
    limiter.set_limits(max_concurrency=3)
    await settle()
    assert state(limiter) == (3, 2)
    limiter.set_limits(max_concurrency=1)
    gate.open()
    await settle()
    assert state(limiter) == (2, 2)
    while gate.inside:
        gate.open()
        await settle()
    assert state(limiter) == (0, 0)


# ---- the cool-down ----------------------------------------------------------------------------------------------------------


async def test_what_was_lent_begins_nothing_after_its_time_and_again_at_once_when_it_is_renewed() -> None:
    clock, gate = FakeClock(), Gate()
    limiter = queue(gate, 2, clock=clock)
    limiter.set_limits(lent_until=clock.monotonic() + 3)
    await clock.advance(3)
    waiting = ask(limiter)
    await settle()
    assert state(limiter) == (0, 1)
    limiter.set_limits(lent_until=clock.monotonic() + 3)
    await settle()
    assert state(limiter) == (1, 0)
    gate.open()
    await waiting


async def cooled(retry_after: str | None, clock: FakeClock, times: int = 1) -> Limiter:
    """A queue that has met a 429 so many times."""
    fields = [] if retry_after is None else [("Retry-After", retry_after)]
    limiter = queue(ScriptedHop([response(429, fields)], repeat=True), 4, clock=clock)
    for _ in range(times):
        assert (await limiter.send(request())).head.status == 429
        await clock.advance(0.001)
    return limiter


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0),
        ("99999999999999999999", 86400),
        ("nonsense", 1),
        ("-5", 1),
        ("\u0665", 1),
        (None, 1),
    ],
)
async def test_how_long_a_429_lasts(said: str | None, seconds: float) -> None:
    clock = FakeClock()
    limiter = await cooled(said, clock)
    until = limiter.snapshot().cool_down_until
    if seconds:
        assert until == pytest.approx(1_700_000_000 + seconds, abs=0.01)
        await clock.advance(seconds)
    assert limiter.snapshot().cool_down_until is None


async def test_without_a_word_of_the_origin_it_grows_and_is_capped() -> None:
    clock = FakeClock()
    waits = []
    limiter = queue(ScriptedHop([response(429)], repeat=True), 4, clock=clock)
    for _ in range(8):
        await limiter.send(request())
        waits.append((limiter.snapshot().cool_down_until or 0) - clock.wall())
        await clock.advance(waits[-1] + 0.1)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])


async def test_another_answer_ends_the_growing() -> None:
    clock = FakeClock()
    hop = ScriptedHop([response(429), response(429), response(200), response(429)])
    limiter = queue(hop, clock=clock)
    waits = []
    for _ in range(4):
        await limiter.send(request())
        waits.append((limiter.snapshot().cool_down_until or clock.wall()) - clock.wall())
        await clock.advance(10)
    assert waits == pytest.approx([1, 2, 0, 1])


async def test_several_under_way_at_once_count_as_one() -> None:
    clock = FakeClock()
    gate = Gate()
    limiter = queue(gate, 4, clock=clock)
    for _ in range(4):
        ask(limiter)
    await settle()
    await clock.advance(1)
    while gate.inside:
        gate.open(response(429))
        await settle()
    assert limiter.snapshot().cool_down_until == pytest.approx(clock.wall() + 1)


async def pass_time(limiter: Limiter, clock: FakeClock, seconds: float) -> None:
    """Time of the fake clock, after which the queue looks again as its timer would have it."""
    await clock.advance(seconds)
    limiter._wake()
    await settle()


async def answered(gate: Gate, answer: Response | BaseException | None = None) -> None:
    gate.open(answer)
    await settle()


async def test_during_a_pause_nothing_is_sent_and_after_it_one_at_a_time_until_one_succeeds() -> None:
    clock, gate = FakeClock(), Gate()
    limiter = queue(gate, 4, timeout=40, clock=clock)
    for _ in range(3):
        ask(limiter)
    await settle()
    await answered(gate, response(429, [("Retry-After", "30")]))
    refused = ask(limiter, background=True)
    for number in range(5):
        ask(limiter, f"/{number}")
    await settle()
    error = refused.exception()
    assert isinstance(error, CoolingDown)
    assert dict(error.fields)["Retry-After"] == "30"
    assert state(limiter) == (2, 5), "those under way stay"
    assert limiter.use == (2, 0), "who waits for a moment needs no place yet"
    for _ in range(2):
        await answered(gate)
    assert state(limiter) == (0, 5), "and their answers do not end the pause"
    limiter.set_limits(max_concurrency=0)
    await pass_time(limiter, clock, 31)
    assert limiter.use == (0, 1), "and then one"
    limiter.set_limits(max_concurrency=4)
    await settle()
    assert state(limiter) == (1, 4)
    await answered(gate, response(503))
    assert state(limiter) == (1, 3), "that was no success"
    await answered(gate, OriginUnreachable("away"))
    assert state(limiter) == (1, 2)
    await answered(gate)
    assert state(limiter) == (2, 0)


async def test_who_cannot_wait_for_the_end_of_the_pause_is_told_at_once() -> None:
    clock = FakeClock()
    limiter = queue(ScriptedHop([response(429, [("Retry-After", "30")])]), 4, timeout=10, clock=clock)
    await limiter.send(request())
    await clock.advance(5)
    with pytest.raises(CoolingDown) as caught:
        await limiter.send(request("POST"))
    assert (caught.value.status, dict(caught.value.fields)["Retry-After"]) == (429, "25")


async def test_a_pause_that_becomes_longer_lets_those_go_who_cannot_wait_for_it() -> None:
    clock, gate = FakeClock(), Gate()
    limiter = queue(gate, 4, timeout=10, clock=clock)
    for _ in range(2):
        ask(limiter)
    await settle()
    await answered(gate, response(429, [("Retry-After", "5")]))
    waiting = ask(limiter)
    await settle()
    assert state(limiter) == (1, 1)
    await answered(gate, response(429, [("Retry-After", "60")]))
    assert isinstance(waiting.exception(), CoolingDown)
    assert state(limiter) == (0, 0)


async def test_a_streamed_answer_holds_up_nobody_who_waits_for_a_sign() -> None:
    clock, gate = FakeClock(), Gate()
    limiter = queue(gate, 2, timeout=40, clock=clock)
    ask(limiter)
    await settle()
    await answered(gate, response(429, [("Retry-After", "5")]))
    for _ in range(3):
        ask(limiter)
    await pass_time(limiter, clock, 6)
    assert state(limiter) == (1, 2)
    await answered(gate, response(503, body=ChunkedBody(b"x")))
    assert state(limiter) == (2, 1), "the next one begins while the body is still on its way"


async def test_those_who_wait_enter_when_it_is_over() -> None:
    """With time as it is: a real timer lets the first one in."""
    from passoproxy.host.clock import SystemClock

    gate = Gate()
    clock = SystemClock()
    limiter = queue(gate, 4, clock=clock, timeout=60.0, first_pause=0.5)  # type: ignore[arg-type]
    ask(limiter)
    await settle()
    began = clock.monotonic()
    gate.open(response(429))
    await settle()
    for _ in range(3):
        ask(limiter)
    async with asyncio.timeout(20):
        while state(limiter) != (1, 2):
            await asyncio.sleep(0.005)
    assert clock.monotonic() - began >= 0.5
    await settle()
    gate.open()
    await settle()
    assert state(limiter) == (2, 0)


async def test_a_pause_is_told_once_and_its_end_too() -> None:
    clock, observer, gate = FakeClock(), RememberingObserver(), Gate()
    limiter = queue(gate, 3, clock=clock, observer=observer)
    for _ in range(3):
        ask(limiter)
    await settle()
    for _ in range(3):
        await answered(gate, response(429))
    await pass_time(limiter, clock, 2)
    told = [(event.code, event.over) for event in observer.events if isinstance(event, Warned)]
    assert told == [("origin_cool_down", False), ("origin_cool_down", True)]


async def test_a_low_quota_stops_background_work_alone() -> None:
    clock = FakeClock()
    low = [("RateLimit-Policy", '"day";q=100'), ("RateLimit", '"day";r=9;t=30')]
    limiter = queue(
        ScriptedHop([response(200, low), response(), response(200, [("RateLimit", '"day";r=0;t=9')]), response()]),
        clock=clock,
    )
    await limiter.send(request())
    with pytest.raises(CoolingDown) as caught:
        await limiter.send(request(background=True))
    assert dict(caught.value.fields)["Retry-After"] == "30"
    assert (limiter.snapshot().background_rests_until, limiter.snapshot().cool_down_until) == (
        clock.wall() + 30,
        None,
    )
    await limiter.send(request())
    await limiter.send(request())
    await clock.advance(10)
    await limiter.send(request(background=True))


async def test_a_spent_budget_stops_background_work_alone_but_for_asking_whether_the_origin_is_back() -> None:
    clock = FakeClock()
    limiter = queue(ScriptedHop([REFUSED, REFUSED, REFUSED, response()], repeat=True), clock=clock)
    limiter.hear(BudgetSpent(100.0))
    with pytest.raises(CoolingDown, match="daily_budget is used up"):
        await limiter.send(request(background=True))
    state = limiter.snapshot()
    assert (state.budget_rests_until, state.background_rests_until) == (clock.wall() + 100, None)
    for _ in range(3):
        with pytest.raises(ConnectFailed):
            await limiter.send(request())
    await clock.advance(1)
    await limiter.send(request(background=True))  # it is back: for clients' sake
    with pytest.raises(CoolingDown):
        await limiter.send(request(background=True))
    limiter.hear(BudgetSpent(0.0))
    await limiter.send(request(background=True))


async def test_background_work_that_waits_hears_of_a_spent_budget() -> None:
    gate = Gate()
    limiter = queue(gate, 1)
    ask(limiter)
    waits = asyncio.create_task(limiter.send(request(background=True)))
    await settle()
    limiter.hear(BudgetSpent(100.0))
    with pytest.raises(CoolingDown, match="daily_budget"):
        await waits
    await answered(gate, response())


# ---- an origin that is away -----------------------------------------------------------------------------------------------------

REFUSED = ConnectFailed("refused")


async def gone(clock: FakeClock, *faults: BaseException, places: int = 4, **more: object) -> tuple[Limiter, Gate]:
    """A queue whose origin failed so, on another path each time."""
    gate = Gate()
    limiter = queue(gate, places, clock=clock, **more)  # type: ignore[arg-type]
    for number, fault in enumerate(faults):
        ask(limiter, f"/{number}")
        await settle()
        await answered(gate, fault)
    gate.entered.clear()
    return limiter, gate


@pytest.mark.parametrize(
    ("faults", "away"),
    [
        ([REFUSED] * 3, True),
        ([REFUSED] * 2, False),
        ([ConnectTimeout("slow")] * 3, True),
        ([OriginTimeout("silent")] * 2, True),
        ([OriginUnreachable("reset"), OriginInvalid("garbage")], True),
        ([OriginTimeout("silent"), Overloaded("no connection free"), AuthorizationRequired("log in")], False),
        ([ConnectionDropped("it restarts")] * 3, False),
    ],
)
async def test_when_it_is_taken_for_away(faults: list[BaseException], away: bool) -> None:
    limiter, _ = await gone(FakeClock(), *faults)
    assert (bool(limiter.snapshot().away), bool(limiter.spared("/x"))) == (away, away)


async def test_one_asks_every_second_and_the_others_share_what_it_gets() -> None:
    clock = FakeClock()
    limiter, gate = await gone(clock, *[REFUSED] * 3)
    tasks = [ask(limiter, f"/{letter}", client) for letter, client in (("a", A), ("b", B), ("c", A))]
    await settle()
    assert gate.entered == [], "the last failure is a moment old"
    await pass_time(limiter, clock, 1)
    assert gate.entered == ["/a"]
    late = ask(limiter, "/d")
    await pass_time(limiter, clock, 5)
    assert gate.entered == ["/a"]
    await answered(gate, ConnectTimeout("slow"))
    assert [str(task.exception()) for task in (*tasks, late)] == ["slow"] * 4
    assert {type(task.exception()) for task in (*tasks[1:], late)} == {OriginTimeout}
    assert len({id(task.exception()) for task in (*tasks, late)}) == 4, "each has an exception of its own"
    next_one = ask(limiter, "/e")
    await pass_time(limiter, clock, 1)
    await answered(gate)
    assert next_one.result().head.status == 200
    assert gate.entered == ["/a", "/e"]
    assert not limiter.snapshot().away


async def test_who_waits_when_it_is_found_to_be_away_shares_that_failure() -> None:
    gate = Gate()
    limiter = queue(gate, 2)
    tasks = [ask(limiter, f"/{number}") for number in range(6)]
    await settle()
    for _ in range(2):
        await answered(gate, OriginTimeout("silent"))
    assert [str(task.exception()) for task in tasks[:2]] == ["silent"] * 2
    await answered(gate, OriginTimeout("more silent"))
    assert [str(task.exception()) for task in tasks[3:]] == ["silent"] * 3, "the fourth was not begun"
    assert state(limiter) == (0, 0)


async def test_who_waits_longer_than_the_one_that_asks_gets_the_last_failure() -> None:
    clock = FakeClock()
    limiter, _ = await gone(clock, *[OriginTimeout("silent")] * 2, timeout=SHORT)
    await clock.advance(1)
    asking = ask(limiter, "/a")
    await settle()
    with pytest.raises(OriginTimeout, match="silent"):
        await ask(limiter, "/b")
    assert not asking.done()


async def test_no_turn_comes_between_two_looks_at_the_clock() -> None:
    """Each look is a little later than the one before: whichever is the first at which the turn has come, it is taken."""

    class Passing(FakeClock):
        def monotonic(self) -> float:
            self._monotonic += 0.001
            return super().monotonic()

    for early in range(8):
        clock = Passing()
        limiter, gate = await gone(clock, *[REFUSED] * 3)
        await clock.advance(0.99 + early / 1000)
        asking = ask(limiter, "/a")
        async with asyncio.timeout(5):
            while not gate.entered:
                await asyncio.sleep(0)
        await answered(gate)
        assert asking.result().head.status == 200


async def test_a_safe_request_asks_before_one_that_changes_something() -> None:
    clock = FakeClock()
    limiter, gate = await gone(clock, *[REFUSED] * 3)
    loop = asyncio.get_running_loop()
    changing = loop.create_task(limiter.send(request("POST", "/post")))
    marked = loop.create_task(
        limiter.send(request("GET", "/x?mark=1", policy=RoutePolicy(bypass_when=BypassPolicy(query_has=("mark",)))))
    )
    await settle()
    read = loop.create_task(limiter.send(request("POST", "/read", trail=Trail(key="k"))))
    await pass_time(limiter, clock, 1)
    assert gate.entered == ["/read"]
    await answered(gate)
    assert sorted(gate.entered) == ["/post", "/read", "/x?mark=1"]
    for task in (changing, marked, read):
        task.cancel()


async def test_one_that_changes_something_asks_where_no_other_comes() -> None:
    clock = FakeClock()
    limiter, gate = await gone(clock, *[REFUSED] * 3)
    await clock.advance(10)
    task = asyncio.get_running_loop().create_task(limiter.send(request("POST", "/post")))
    await settle()
    assert gate.entered == []
    await pass_time(limiter, clock, 1)
    assert gate.entered == ["/post"]
    await answered(gate)
    assert task.result().head.status == 200


async def test_a_path_alone_is_asked_for_one_at_a_time_and_others_as_always() -> None:
    clock = FakeClock()
    gate = Gate()
    limiter = queue(gate, 4, clock=clock)
    for _ in range(3):
        ask(limiter, "/slow?a")
        await settle()
        await answered(gate, OriginTimeout("silent"))
        ask(limiter, "/good")
        await settle()
        await answered(gate)
    assert (limiter.snapshot().away, limiter.spared("/slow"), limiter.spared("/good")) == (
        "",
        "the origin is away",
        "",
    )
    await clock.advance(1)
    gate.entered.clear()
    first, second = ask(limiter, "/slow?b"), ask(limiter, "/slow?c")
    others = [ask(limiter, f"/good?{number}") for number in range(3)]
    await settle()
    assert gate.entered == ["/slow?b", "/good?0", "/good?1", "/good?2"]
    await answered(gate, OriginTimeout("still silent"))
    assert [str(task.exception()) for task in (first, second)] == ["still silent"] * 2
    for task in others:
        task.cancel()


async def test_background_work_asks_only_where_it_is_time_and_never_waits_in_line() -> None:
    clock = FakeClock()
    limiter, gate = await gone(clock, *[REFUSED] * 3)
    assert not limiter.is_to_be_asked("/x")
    with pytest.raises(OriginUnreachable):
        await limiter.send(request(background=True))
    await clock.advance(1)
    assert limiter.is_to_be_asked("/x")
    asking = ask(limiter, "/x", background=True)
    await settle()
    assert gate.entered == ["/x"]
    assert not limiter.is_to_be_asked("/x")
    with pytest.raises(OriginUnreachable):
        await limiter.send(request(background=True))
    await answered(gate)
    assert asking.result().head.status == 200


async def test_one_that_asks_and_leaves_lets_the_next_one_ask_a_second_later() -> None:
    clock = FakeClock()
    limiter, gate = await gone(clock, *[REFUSED] * 3)
    await clock.advance(1)
    first, second = ask(limiter, "/a"), ask(limiter, "/b")
    await settle()
    first.cancel()
    await settle()
    assert gate.entered == ["/a"]
    await pass_time(limiter, clock, 1)
    assert gate.entered == ["/a", "/b"]
    second.cancel()
    await settle()
    assert state(limiter) == (0, 0)


async def test_what_is_away_and_what_is_back_is_told() -> None:
    clock, observer = FakeClock(), RememberingObserver()
    limiter, gate = await gone(clock, *[REFUSED] * 3, observer=observer)
    await clock.advance(1)
    ask(limiter)
    await settle()
    await answered(gate)
    told = [(event.code, event.over) for event in observer.events if isinstance(event, Warned)]
    assert told == [("origin_away", False), ("origin_away", True)]


async def test_two_queues_that_tell_each_other_know_the_same() -> None:
    clock, observers = FakeClock(), (RememberingObserver(), RememberingObserver())
    hop = ScriptedHop([REFUSED], repeat=True)
    here, there = (queue(hop, clock=clock, observer=each) for each in observers)
    here.tell, there.tell = there.hear, here.hear
    waiting = None
    for _ in range(3):
        with pytest.raises(ConnectFailed):
            await here.send(request())
    assert there.snapshot().away == here.snapshot().away == "refused"
    waiting = ask(here, "/a")
    await settle()
    await clock.advance(1)
    with pytest.raises(ConnectFailed):
        await there.send(request())
    await settle()
    assert isinstance(waiting.exception(), OriginUnreachable)
    hop.script = [response()]
    await clock.advance(1)
    await there.send(request())
    assert (here.snapshot().away, there.snapshot().away) == ("", "")
    told = [[(event.code, event.over) for event in each.events if isinstance(event, Warned)] for each in observers]
    assert told == [[("origin_away", False)], [("origin_away", True)]]


# ---- what must always hold ----------------------------------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from([A, B, C]), st.booleans()),
    st.tuples(st.sampled_from(["answer", "stream", "fail", "429"]), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("close"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("limit"), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("time"), st.integers(0, 5), st.booleans()),
)


@settings(max_examples=60)
@given(steps=st.lists(STEP, max_size=50))
def test_never_more_than_the_places_and_never_a_place_lost(steps: list[tuple[str, object, bool]]) -> None:
    asyncio.run(_played(steps))


async def _played(steps: list[tuple[str, object, bool]]) -> None:
    gate, clock = Gate(), FakeClock()
    limiter = queue(gate, 2, clock=clock, timeout=60.0)
    tasks: list[asyncio.Task[Response]] = []
    bodies: list[ChunkedBody] = []
    limit = highest = 2
    for kind, value, flag in steps:
        if kind == "ask":
            assert isinstance(value, Client)
            tasks.append(ask(limiter, "/", value, background=flag))
        elif kind == "limit":
            assert isinstance(value, int)
            limit = value
            highest = max(highest, limit)
            limiter.set_limits(max_concurrency=limit)
        elif kind == "time":
            assert isinstance(value, int)
            await clock.advance(float(value))
            limiter.set_limits(max_concurrency=limit)
        elif kind == "cancel" and tasks:
            tasks[int(str(value)) % len(tasks)].cancel()
        elif kind == "close":
            done = [task for task in tasks if task.done() and not task.cancelled() and task.exception() is None]
            if done:
                await done[int(str(value)) % len(done)].result().body.aclose()
        elif gate.inside:
            body = ChunkedBody(b"x")
            bodies.append(body)
            gate.open(
                {
                    "answer": response(200, body=b"x"),
                    "stream": response(200, body=body),
                    "fail": OriginUnreachable("away"),
                    "429": response(429, [("Retry-After", "2")] if flag else []),
                }[kind]
            )
        if flag:
            await settle(6)
        assert gate.most <= highest
        assert limiter.snapshot().in_flight >= len(gate.inside)
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            await task.result().body.aclose()
    assert state(limiter) == (0, 0)
    await clock.advance(100_000)
    gate.inside.clear()
    well = ask(limiter)
    await settle()
    await answered(gate)
    assert well.done()
    fresh = [ask(limiter) for _ in range(limit + 1)]
    await settle()
    assert state(limiter) == (limit, 1), "every place can be taken again"
    for task in fresh:
        task.cancel()
    await asyncio.gather(*fresh, return_exceptions=True)
    assert state(limiter) == (0, 0)


@given(waiting=st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=24))
def test_nobody_is_served_twice_while_another_client_waits_unserved(waiting: list[Client]) -> None:
    async def played() -> list[Client]:
        gate = Gate()
        limiter = queue(gate)
        ask(limiter, client=Client("first"))
        await settle()
        for client in waiting:
            ask(limiter, client=client)
        await settle()
        served = []
        while gate.inside:
            served.append(gate.inside[0][0].client)
            gate.open()
            await settle(8)
        return served[1:]

    served = asyncio.run(played())
    assert sorted(map(str, served)) == sorted(map(str, waiting))
    for client in set(waiting):
        turns = [at for at, other in enumerate(served) if other == client]
        for one, next_one in itertools.pairwise(turns):
            between = served[one + 1 : next_one]
            assert len(between) == len(set(between)), "between two turns of one client, every other has one at most"
            for other in set(served[next_one:]) - {client}:
                assert other in between, "and who still waits has had exactly one"
