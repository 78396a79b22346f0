"""Places at the origin: never more than there are, never one lost, in turn by client; and the rest after a 429 (contract §5)."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.events import Warned
from passoproxy.errors import OriginUnreachable, Overloaded
from passoproxy.ports import Client, Request, Response
from passoproxy.proxy.queueing import Queueing, QueueSnapshot
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
) -> Queueing:
    return Queueing(
        hop,  # type: ignore[arg-type]
        max_concurrency=places,
        queue_timeout=timeout,
        clock=clock or FakeClock(),
        **more,  # type: ignore[arg-type]
    )


def ask(queueing: Queueing, target: str = "/", client: Client = A, background: bool = False) -> asyncio.Task[Response]:
    asked = request(target=target, client=client, background=background)
    return asyncio.get_running_loop().create_task(queueing.send(asked))


def state(queueing: Queueing) -> tuple[int, int]:
    snapshot = queueing.snapshot()
    return snapshot.in_flight, snapshot.waiting


async def test_so_many_at_once_and_no_more() -> None:
    gate = Gate()
    queueing = queue(gate, 2)
    tasks = [ask(queueing, f"/{number}") for number in range(5)]
    await settle()
    assert state(queueing) == (2, 3)
    for _ in range(5):
        gate.open()
        await settle()
    assert gate.most == 2
    assert gate.entered == [f"/{number}" for number in range(5)]
    assert all(task.done() for task in tasks)
    assert queueing.snapshot() == QueueSnapshot(0, 0, None)


async def test_a_client_with_many_does_not_keep_one_with_few_waiting() -> None:
    gate = Gate()
    queueing = queue(gate)
    for number in range(4):
        ask(queueing, f"/a{number}", A)
        await settle()
    ask(queueing, "/b0", B)
    ask(queueing, "/c0", C)
    ask(queueing, "/b1", B)
    await settle()
    while gate.inside:
        gate.open()
        await settle()
    assert gate.entered == ["/a0", "/a1", "/b0", "/c0", "/a2", "/b1", "/a3"]


async def test_background_work_goes_last() -> None:
    gate = Gate()
    queueing = queue(gate)
    ask(queueing, "/first")
    await settle()
    ask(queueing, "/back", B, background=True)
    await settle()
    ask(queueing, "/a", A)
    ask(queueing, "/c", C)
    await settle()
    while gate.inside:
        gate.open()
        await settle()
    assert gate.entered == ["/first", "/a", "/c", "/back"]


async def test_who_waits_too_long_is_told_when_to_come_again() -> None:
    gate = Gate()
    queueing = queue(gate, timeout=SHORT)
    first = ask(queueing)
    await settle()
    with pytest.raises(Overloaded, match="max_concurrency") as caught:
        await ask(queueing)
    assert dict(caught.value.fields)["Retry-After"] == "5"
    assert state(queueing) == (1, 0)
    gate.open()
    await first
    assert state(queueing) == (0, 0)


async def test_a_place_is_taken_until_the_body_was_read() -> None:
    queueing = queue(ScriptedHop([response(200, body=ChunkedBody(b"a", b"b", length=2))]))
    answer = await queueing.send(request())
    assert answer.body.length == 2
    assert state(queueing) == (1, 0)
    assert [part async for part in answer.body] == [b"a", b"b"]
    assert state(queueing) == (0, 0)
    await answer.body.aclose()
    assert state(queueing) == (0, 0)


async def test_a_place_is_free_at_once_where_the_body_is_in_memory() -> None:
    whole = response(200, body=b"whole")
    queueing = queue(ScriptedHop([whole]))
    assert await queueing.send(request()) is whole
    assert state(queueing) == (0, 0)


async def test_a_body_closed_early_or_broken_frees_its_place_once() -> None:
    closed, broken = ChunkedBody(b"a", b"b"), ChunkedBody(b"a", BROKEN)
    queueing = queue(ScriptedHop([response(200, body=closed), response(200, body=broken)]), 2)
    first, second = await queueing.send(request()), await queueing.send(request())
    assert state(queueing) == (2, 0)
    await first.body.aclose()
    await first.body.aclose()
    assert closed.closed
    assert state(queueing) == (1, 0)
    await anext(second.body)
    with pytest.raises(type(BROKEN)):
        await anext(second.body)
    await second.body.aclose()
    assert state(queueing) == (0, 0)


async def test_a_cancelled_reader_keeps_its_place_until_it_closes() -> None:
    class Silent(ChunkedBody):
        async def __anext__(self) -> bytes:
            await asyncio.Event().wait()
            return b""

    queueing = queue(ScriptedHop([response(200, body=Silent())]))
    answer = await queueing.send(request())
    reading = asyncio.ensure_future(anext(answer.body))
    await settle()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert state(queueing) == (1, 0)
    await answer.body.aclose()
    assert state(queueing) == (0, 0)


async def test_a_fault_or_a_client_that_leaves_frees_the_place() -> None:
    gate = Gate()
    queueing = queue(gate)
    tasks = [ask(queueing, f"/{number}") for number in range(3)]
    await settle()
    gate.open(OriginUnreachable("away"))
    await settle()
    assert isinstance(tasks[0].exception(), OriginUnreachable)
    tasks[1].cancel()
    await settle()
    assert state(queueing) == (1, 0)
    gate.open()
    await tasks[2]
    assert state(queueing) == (0, 0)


async def test_a_waiter_that_leaves_is_forgotten() -> None:
    gate = Gate()
    queueing = queue(gate)
    tasks = [ask(queueing, f"/{number}", client) for number, client in enumerate((A, A, B, A))]
    await settle()
    tasks[2].cancel()
    await settle()
    assert state(queueing) == (1, 2)
    while gate.inside:
        gate.open()
        await settle()
    assert gate.entered == ["/0", "/1", "/3"]
    assert state(queueing) == (0, 0)


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    gate = Gate()
    queueing = queue(gate)
    tasks = [ask(queueing, f"/{number}") for number in range(3)]
    await settle()
    gate.open()
    await asyncio.sleep(0)  # the first is done and has handed its place to the second, which has not run yet
    tasks[1].cancel()
    await settle()
    assert tasks[1].cancelled()
    assert gate.entered == ["/0", "/2"]
    gate.open()
    await settle()
    assert state(queueing) == (0, 0)


async def test_new_limits_hold_at_once() -> None:
    gate = Gate()
    queueing = queue(gate)
    for number in range(5):
        ask(queueing, f"/{number}")
    await settle()
    queueing.set_limits(3, 5.0)
    await settle()
    assert state(queueing) == (3, 2)
    queueing.set_limits(1, 5.0)
    gate.open()
    await settle()
    assert state(queueing) == (2, 2)
    while gate.inside:
        gate.open()
        await settle()
    assert state(queueing) == (0, 0)


# ---- the cool-down ----------------------------------------------------------------------------------------------------------


async def cooled(retry_after: str | None, clock: FakeClock, times: int = 1) -> Queueing:
    """A queue that has met a 429 so many times."""
    fields = [] if retry_after is None else [("Retry-After", retry_after)]
    queueing = queue(ScriptedHop([response(429, fields)], repeat=True), 4, clock=clock)
    for _ in range(times):
        assert (await queueing.send(request())).head.status == 429
        await clock.advance(0.001)
    return queueing


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
    queueing = await cooled(said, clock)
    until = queueing.snapshot().cool_down_until
    if seconds:
        assert until == pytest.approx(1_700_000_000 + seconds, abs=0.01)
        await clock.advance(seconds)
    assert queueing.snapshot().cool_down_until is None


async def test_without_a_word_of_the_origin_it_grows_and_is_capped() -> None:
    clock = FakeClock()
    waits = []
    queueing = queue(ScriptedHop([response(429)], repeat=True), 4, clock=clock)
    for _ in range(8):
        await queueing.send(request())
        waits.append((queueing.snapshot().cool_down_until or 0) - clock.wall())
        await clock.advance(waits[-1] + 0.1)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])


async def test_another_answer_ends_the_growing() -> None:
    clock = FakeClock()
    hop = ScriptedHop([response(429), response(429), response(200), response(429)])
    queueing = queue(hop, clock=clock)
    waits = []
    for _ in range(4):
        await queueing.send(request())
        waits.append((queueing.snapshot().cool_down_until or clock.wall()) - clock.wall())
        await clock.advance(10)
    assert waits == pytest.approx([1, 2, 0, 1])


async def test_several_under_way_at_once_count_as_one() -> None:
    clock = FakeClock()
    gate = Gate()
    queueing = queue(gate, 4, clock=clock)
    for _ in range(4):
        ask(queueing)
    await settle()
    await clock.advance(1)
    while gate.inside:
        gate.open(response(429))
        await settle()
    assert queueing.snapshot().cool_down_until == pytest.approx(clock.wall() + 1)


async def test_meanwhile_one_at_a_time_and_background_work_not_at_all() -> None:
    clock = FakeClock()
    gate = Gate()
    queueing = queue(gate, 4, clock=clock)
    for _ in range(3):
        ask(queueing)
    await settle()
    gate.open(response(429, [("Retry-After", "30")]))
    await settle()
    refused = ask(queueing, background=True)
    for number in range(3):
        ask(queueing, f"/{number}")
    await settle()
    error = refused.exception()
    assert isinstance(error, Overloaded)
    assert dict(error.fields)["Retry-After"] == "30"
    assert state(queueing) == (2, 3), "those under way stay"
    gate.open()
    await settle()
    assert state(queueing) == (1, 3)
    for left in (2, 1):
        gate.open()
        await settle()
        assert state(queueing) == (1, left)
    await clock.advance(31)
    ask(queueing, background=True)
    await settle()
    assert state(queueing) == (3, 0)


async def test_those_who_wait_enter_when_it_is_over() -> None:
    """With time as it is: a real timer lets them in."""
    from passoproxy.host.clock import SystemClock

    gate = Gate()
    queueing = queue(gate, 4, clock=SystemClock(), first_pause=2.0)  # type: ignore[arg-type]
    ask(queueing)
    await settle()
    gate.open(response(429))
    await settle()
    for _ in range(3):
        ask(queueing)
    await settle()
    assert state(queueing) == (1, 2)
    async with asyncio.timeout(20):
        while state(queueing) != (3, 0):
            await asyncio.sleep(0.005)


async def test_it_is_told_once() -> None:
    clock, observer = FakeClock(), RememberingObserver()
    queueing = queue(ScriptedHop([response(429)], repeat=True), clock=clock, observer=observer)
    for _ in range(3):
        await queueing.send(request())
    assert [event.code for event in observer.events if isinstance(event, Warned)] == ["origin_cool_down"]


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
    queueing = queue(gate, 2, clock=clock, timeout=60.0)
    tasks: list[asyncio.Task[Response]] = []
    bodies: list[ChunkedBody] = []
    limit = highest = 2
    for kind, value, flag in steps:
        if kind == "ask":
            assert isinstance(value, Client)
            tasks.append(ask(queueing, "/", value, background=flag))
        elif kind == "limit":
            assert isinstance(value, int)
            limit = value
            highest = max(highest, limit)
            queueing.set_limits(limit, 60.0)
        elif kind == "time":
            assert isinstance(value, int)
            await clock.advance(float(value))
            queueing.set_limits(limit, 60.0)
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
        assert queueing.snapshot().in_flight >= len(gate.inside)
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            await task.result().body.aclose()
    assert state(queueing) == (0, 0)
    await clock.advance(100_000)
    fresh = [ask(queueing) for _ in range(limit + 1)]
    await settle()
    assert state(queueing) == (limit, 1), "every place can be taken again"
    for task in fresh:
        task.cancel()
    await asyncio.gather(*fresh, return_exceptions=True)
    assert state(queueing) == (0, 0)


@given(waiting=st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=24))
def test_nobody_is_served_twice_while_another_client_waits_unserved(waiting: list[Client]) -> None:
    async def played() -> list[Client]:
        gate = Gate()
        queueing = queue(gate)
        ask(queueing, client=Client("first"))
        await settle()
        for client in waiting:
            ask(queueing, client=client)
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
