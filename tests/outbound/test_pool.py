"""Connections kept and not kept, their number, their waiting, and that no answer ever goes to the wrong request."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import http_parser

from passoproxy.errors import (
    BodyBroken,
    ConnectionDropped,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    Overloaded,
    PassoproxyError,
    Refusal,
)
from passoproxy.outbound.connection import Limits
from passoproxy.outbound.dial import Dialer, Endpoint
from passoproxy.outbound.pool import Pool
from passoproxy.ports import read_whole
from tests.fakes import request
from tests.outbound.wire import AMPLE, AT_ONCE, SHORT, Caller, Line, answering, caller_of, closing, origin_that, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RESTED = 0.01


async def asked(caller: Caller, target: str = "/") -> bytes | None:
    answer = await caller.origin.send(request(target=target))
    return await read_whole(answer.body, 1 << 20)


async def test_one_connection_carries_one_request_after_the_other() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port) as caller:
        for _ in range(5):
            assert await asked(caller) == b"ok"
            await asyncio.sleep(RESTED)
        assert (there.accepted, caller.pool.open, caller.pool.idle) == (1, 1, 1)


async def test_a_connection_rests_before_it_is_used_again_while_another_can_be_opened() -> None:
    async with (
        origin_that(answering(OK)) as there,
        caller_of(there.port, limits=Limits(settling=60.0), max_connections=2) as caller,
    ):
        await asked(caller)
        await asked(caller)
        assert there.accepted == 2
        third = asyncio.ensure_future(asked(caller))
        await asyncio.sleep(SHORT)
        assert not third.done(), "there is no third, so the first one to have rested is waited for"
        caller.pool.reconfigure(caller.pool._dialer, max_connections=2, limits=AT_ONCE)
        await third
        assert there.accepted == 2


async def test_an_answer_sent_twice_goes_to_nobody_at_the_limit_either() -> None:
    async def play(line: Line) -> None:
        await line.request()
        for _ in range(2):
            await line.say(OK if line.number == 0 else OK.replace(b"ok", b"no"))
            await asyncio.sleep(0.01)
        await line.end()

    async with (
        origin_that(play) as there,
        caller_of(there.port, limits=Limits(settling=AMPLE), max_connections=1) as caller,
    ):
        assert [await asked(caller), await asked(caller)] == [b"ok", b"no"]
        assert there.accepted == 2


async def test_bytes_that_wait_in_the_socket_unread_end_it_too() -> None:
    """What the loop has not read yet must not be taken for the next answer either."""
    import socket
    import threading

    go, gone = threading.Event(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        first, _ = listener.accept()
        first.recv(65536)
        first.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        go.wait(5)
        first.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        gone.set()
        second, _ = listener.accept()
        second.recv(65536)
        second.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright")
        first.close()
        second.close()

    thread = threading.Thread(target=serve)
    thread.start()
    async with caller_of(listener.getsockname()[1]) as caller:
        assert await asked(caller) == b"first"
        await asyncio.sleep(RESTED)
        go.set()
        gone.wait(5)  # the loop stands still here: the bytes are in the socket and not one callback has run
        assert await asked(caller) == b"right"
    thread.join()
    listener.close()


async def test_after_anything_unasked_each_connection_carries_one_request_for_a_while() -> None:
    for unasked in (OK + OK, OK):

        async def play(line: Line, said: bytes = unasked) -> None:
            while True:
                await line.request()
                await line.say(said if line.number == 1 else OK)
                if said == OK and line.number == 1:
                    await asyncio.sleep(RESTED)
                    await line.say(b"x")

        limits = Limits(settling=60.0, distrust=AMPLE)
        async with origin_that(play) as there, caller_of(there.port, limits=limits) as caller:
            await asked(caller)
            await asked(caller)
            await until(lambda pool=caller.pool: pool.open == 0)  # type: ignore[misc]
            for _ in range(3):
                assert await asked(caller) == b"ok"
                assert caller.pool.open == 0
            assert there.accepted == 5
            await asyncio.sleep(AMPLE + SHORT)
            await asked(caller)
            assert caller.pool.idle == 1, "trusted again"


async def test_a_silence_ends_those_that_are_kept_beside_it() -> None:
    """An address that moved leaves all of them without an answer: one request finds out, and the next one dials."""

    async def play(line: Line) -> None:
        await line.request()
        if line.number < 3:
            await until(lambda: there.accepted == 3)
        await line.say(OK)
        await line.end()

    limits = Limits(read_timeout=AMPLE, settling=0.0)
    async with origin_that(play) as there, caller_of(there.port, limits=limits) as caller:
        await asyncio.gather(*(asked(caller) for _ in range(3)))
        assert caller.pool.idle == 3
        with pytest.raises(OriginTimeout):
            await asked(caller)
        assert caller.pool.open == 0
        assert await asked(caller) == b"ok"


async def test_an_origin_that_closes_an_idle_connection_costs_nothing() -> None:
    async with origin_that(closing(OK)) as there, caller_of(there.port) as caller:
        for _ in range(3):
            assert await asked(caller) == b"ok"
            await until(lambda: caller.pool.open == 0)
        assert there.accepted == 3


async def test_no_connection_lives_longer_than_its_age() -> None:
    limits = Limits(max_age=SHORT)
    async with origin_that(answering(OK)) as there, caller_of(there.port, limits=limits, max_connections=1) as caller:
        for _ in range(25):
            assert await asked(caller) == b"ok"
            await asyncio.sleep(SHORT / 5)
        assert 3 <= there.accepted < 25  # on a busy machine one may be too old each time


async def test_an_answer_may_outlive_the_age_of_its_connection() -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            await line.say(b"x")
            await asyncio.sleep(SHORT / 10)
        await line.end()

    async with origin_that(play) as there, caller_of(there.port, limits=Limits(max_age=SHORT)) as caller:
        assert await asked(caller) == b"x" * 20
        assert caller.pool.open == 0


async def test_at_most_so_many_and_the_others_in_turn() -> None:
    under_way, most, order = 0, 0, []
    three = asyncio.Barrier(3)  # each answer waits until three requests are there

    async def play(line: Line) -> None:
        nonlocal under_way, most
        while True:
            head = await line.request()
            order.append(head.split()[1])
            under_way += 1
            most = max(most, under_way)
            await three.wait()
            under_way -= 1
            await line.say(OK)

    async with origin_that(play) as there, caller_of(there.port, max_connections=3) as caller:
        await asyncio.gather(*(asked(caller, "/first") for _ in range(3)))
        await asyncio.gather(*(asked(caller, f"/{n:02}") for n in range(30)))
        assert (most, there.accepted) == (3, 3)
        assert all(abs(at - int(target[1:])) <= 3 for at, target in enumerate(order[3:])), order


def hanging() -> tuple[asyncio.Event, object]:
    """A play that answers only once the event is set."""
    free = asyncio.Event()

    async def play(line: Line) -> None:
        while True:
            await line.request()
            await free.wait()
            await line.say(OK)

    return free, play


async def test_who_waits_too_long_for_a_connection_is_told() -> None:
    free, play = hanging()
    async with origin_that(play) as there, caller_of(there.port, max_connections=1, timeout=AMPLE) as caller:  # type: ignore[arg-type]
        first = asyncio.ensure_future(asked(caller))
        await until(lambda: caller.pool.open == 1)
        with pytest.raises(Overloaded, match="max_connections"):
            await asked(caller)
        free.set()
        assert await first == b"ok"
        assert await asked(caller) == b"ok"


async def test_a_cancelled_waiter_leaves_its_place_to_the_next() -> None:
    free, play = hanging()
    async with origin_that(play) as there, caller_of(there.port, max_connections=1) as caller:  # type: ignore[arg-type]
        first = asyncio.ensure_future(asked(caller))
        await until(lambda: caller.pool.open == 1)
        waiters = [asyncio.ensure_future(asked(caller, f"/{n}")) for n in range(4)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        waiters[2].cancel()
        await asyncio.sleep(0)
        free.set()
        results = await asyncio.gather(first, *waiters, return_exceptions=True)
        assert [result for result in results if result == b"ok"] == [b"ok"] * 3
        assert [task.cancelled() for task in waiters] == [True, False, True, False]
        assert (caller.pool.open, caller.pool.idle) == (1, 1)


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_gives_it_back() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port, max_connections=1) as caller:
        connection = await caller.pool.acquire()
        given_up = asyncio.ensure_future(caller.pool.acquire())
        await asyncio.sleep(0)
        caller.pool.released(connection)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert caller.pool.idle == 1
        assert await asked(caller) == b"ok"
        connection = await caller.pool.acquire()
        given_up = asyncio.ensure_future(caller.pool.acquire())
        await asyncio.sleep(0)
        connection.abort()  # its place, not a connection, is what the waiter was given
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert await asked(caller) == b"ok"
        assert there.accepted == 2


async def test_a_connection_that_dies_in_the_hands_of_a_waiter_is_replaced() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port, max_connections=1) as caller:
        connection = await caller.pool.acquire()
        waiter = asyncio.ensure_future(caller.pool.acquire())
        await asyncio.sleep(0)
        caller.pool.released(connection)
        connection.abort()
        another = await waiter
        assert another is not connection
        assert another.usable
        assert caller.pool.open == 1
        caller.pool.released(another)


async def test_a_waiter_for_a_fresh_connection_gets_one() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port, max_connections=1) as caller:
        connection = await caller.pool.acquire()
        waiter = asyncio.ensure_future(caller.pool.acquire(fresh=True))
        await asyncio.sleep(0)
        caller.pool.released(connection)
        another = await waiter
        assert (another is connection, another.usable, caller.pool.open) == (False, True, 1)
        caller.pool.released(another)
        third = await caller.pool.acquire(fresh=True)
        assert (third is another, third.usable, caller.pool.open) == (False, True, 1)
        caller.pool.released(third)
        await until(lambda: there.accepted == 3)


async def test_a_failed_dial_frees_its_place() -> None:
    async with origin_that(answering(OK)) as there:
        port = there.port
    async with caller_of(port, max_connections=1) as caller:
        for _ in range(3):
            with pytest.raises(OriginUnreachable):
                await asked(caller)
    async with origin_that(answering(OK)) as there, caller_of(there.port, max_connections=1) as caller:
        dialing = asyncio.ensure_future(asked(caller))
        await asyncio.sleep(0)
        dialing.cancel()
        await asyncio.gather(dialing, return_exceptions=True)
        assert await asked(caller) == b"ok"


async def test_a_cancelled_exchange_ends_its_connection_and_no_other() -> None:
    free, play = hanging()
    async with origin_that(play) as there, caller_of(there.port, max_connections=1) as caller:  # type: ignore[arg-type]
        task = asyncio.ensure_future(asked(caller))
        await until(lambda: len(there.heard) == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert caller.pool.open == 0
        free.set()
        assert await asked(caller) == b"ok"
        assert there.accepted == 2


async def test_new_settings_hold_for_those_who_wait() -> None:
    free, play = hanging()
    async with origin_that(play) as there, caller_of(there.port, max_connections=1) as caller:  # type: ignore[arg-type]
        tasks = [asyncio.ensure_future(asked(caller)) for _ in range(2)]
        await until(lambda: len(there.heard) == 1)
        dialer = Dialer(Endpoint("http", "127.0.0.1", there.port), timeout=5)
        caller.pool.reconfigure(dialer, max_connections=2, limits=Limits(idle_timeout=AMPLE))
        await until(lambda: len(there.heard) == 2)
        free.set()
        assert await asyncio.gather(*tasks) == [b"ok", b"ok"]
        await until(lambda: caller.pool.open == 1)


async def test_closing_tells_those_who_wait_and_breaks_what_is_under_way() -> None:
    _, play = hanging()
    async with origin_that(play) as there, caller_of(there.port, max_connections=1) as caller:  # type: ignore[arg-type]
        tasks = [asyncio.ensure_future(asked(caller)) for _ in range(2)]
        await until(lambda: len(there.heard) == 1)
        await caller.pool.close()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, OriginUnreachable)
        with pytest.raises(OriginUnreachable, match="stopping"):
            await asked(caller)
        assert caller.pool.open == 0


async def test_the_parser_in_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_parser, "HttpResponseParser", http_parser.HttpResponseParserPy)
    with pytest.raises(PassoproxyError, match="AIOHTTP_NO_EXTENSIONS"):
        Pool(Dialer(Endpoint("http", "127.0.0.1", 1), timeout=1))


# ---- no answer to the wrong request ---------------------------------------------------------------------------------------


def misbehaving(chance: random.Random) -> object:
    """A play that answers each request by its target, and now and then late, double, short, endlessly, or unasked."""

    async def play(line: Line) -> None:
        while True:
            target = (await line.request()).split()[1]
            good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target)
            chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
                len(target),
                target,
            )
            match chance.randrange(24):
                case 0:
                    await asyncio.sleep(SHORT * 1.5)
                    await line.say(good)
                case 1:
                    await line.say(good + good)
                case 2:
                    await line.say(good)
                    for _ in range(3):  # so that the first answer is read before the second is written
                        await asyncio.sleep(0)
                    await line.say(good)
                case 3:
                    await line.say(good[:-1])
                    return
                case 4:
                    await line.say(b"HTTP/1.1 200 OK\r\n\r\n")
                    for _ in range(200):
                        await line.say(target * 100)
                    return
                case 5:
                    await line.say(chunked[:-2])
                    line.reset()
                    return
                case 6:
                    await line.say(chunked + b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
                case 7:
                    await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%b" % target)
                case 8:
                    await line.say(good)
                    return
                case 9:
                    await line.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" + chunked)
                case 10:
                    for byte in good:
                        await line.say(bytes([byte]))
                        await asyncio.sleep(0)
                case 11:
                    return
                case 12:
                    await line.say(good)
                    for _ in range(9):
                        await asyncio.sleep(0)
                    await line.say(b"HTTP/1.1 200 OK\r\n\r\nunasked")
                case 13:
                    await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + target * 200)
                    await line.end()
                case _:
                    await line.say(good if chance.random() < 0.5 else chunked)

    return play


async def exchanges(count: int, seed: int) -> None:
    chance = random.Random(seed)
    told = {"right": 0, "refused": 0, "broken": 0}
    kinds: set[type[Refusal]] = set()
    # The longest rested goes first, so some ninety exchanges lie between two on one connection: whatever comes unasked has come by then,
    # however slow the machine.
    limits = Limits(read_timeout=SHORT, settling=60.0, distrust=0.0)
    queue = iter(range(count))
    async with (
        origin_that(misbehaving(chance)) as there,  # type: ignore[arg-type]
        caller_of(there.port, limits=limits, max_connections=96) as caller,
    ):

        async def client() -> None:
            for number in queue:
                target = f"/{number:07}"
                try:
                    answer = await caller.origin.send(request(target=target))
                except Refusal as refusal:
                    kinds.add(type(refusal))
                    told["refused"] += 1
                    continue
                got = b""
                try:
                    async for part in answer.body:
                        got += part
                        if len(got) > 4000:
                            break
                    told["right"] += 1
                except BodyBroken:
                    told["broken"] += 1
                finally:
                    await answer.body.aclose()
                assert (target.encode() * (len(got) // len(target) + 1)).startswith(got), f"{target} got {got[:40]!r}"

        await asyncio.gather(*(client() for _ in range(8)))
    assert kinds <= {OriginTimeout, OriginUnreachable, OriginInvalid, ConnectionDropped}
    assert told["right"] > count * 0.6, told
    assert told["broken"] > count * 0.05, told
    assert told["refused"] > count * 0.02, told


async def test_no_answer_goes_to_the_wrong_request() -> None:
    await exchanges(500, seed=1)


@pytest.mark.slow
async def test_no_answer_goes_to_the_wrong_request_ten_thousand_times() -> None:
    await exchanges(10_000, seed=2)


# ---- odd moments ------------------------------------------------------------------------------------------------------------


class FakeDialer(Dialer):
    """Hands out connections that are already what the test wants them to be."""

    def __init__(self) -> None:
        super().__init__(Endpoint("http", "origin.example", 80), timeout=5)
        self.gate = asyncio.Event()
        self.fault: BaseException | None = None
        self.ends_at_once = False

    async def dial(self, factory):  # type: ignore[no-untyped-def, override]
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        connection = factory()
        if self.ends_at_once:
            connection.connection_lost(None)
        return connection


async def test_a_connection_that_ended_while_it_was_being_opened() -> None:
    dialer = FakeDialer()
    dialer.gate.set()
    dialer.ends_at_once = True
    pool = Pool(dialer, max_connections=1)
    for _ in range(3):
        with pytest.raises(OriginUnreachable, match="closed it at once"):
            await pool.acquire()
    assert pool.open == 0


async def test_a_fault_in_dialing_that_nobody_expected_frees_the_place() -> None:
    dialer = FakeDialer()
    dialer.gate.set()
    dialer.fault = RuntimeError("unexpected")
    pool = Pool(dialer, max_connections=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await pool.acquire()


async def test_closed_while_a_connection_was_being_opened() -> None:
    dialer = FakeDialer()
    pool = Pool(dialer, max_connections=1)
    opening = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    await pool.close()
    dialer.gate.set()
    with pytest.raises(OriginUnreachable, match="stopping"):
        await opening
    assert pool.open == 0


async def test_a_connection_released_after_the_end_is_closed() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port) as caller:
        connection = await caller.pool.acquire()
        caller.pool._closed = True
        caller.pool.released(connection)
        assert (connection.ended, caller.pool.idle) == (True, 0)


async def test_waiters_that_left_are_passed_over() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port, max_connections=1) as caller:
        connection = await caller.pool.acquire()
        waiters = [asyncio.ensure_future(caller.pool.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        waiters[0].cancel()  # its future is cancelled, its task has not cleared up yet
        caller.pool.released(connection)
        assert await waiters[1] is connection
        again = [asyncio.ensure_future(caller.pool.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        again[0].cancel()
        connection.abort()
        another = await again[1]
        assert another.usable
        caller.pool.released(another)
        await asyncio.gather(*waiters, *again, return_exceptions=True)
        assert (caller.pool.open, caller.pool.idle) == (1, 1)


async def test_closed_in_the_turn_in_which_a_waiter_left() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port, max_connections=1) as caller:
        await caller.pool.acquire()
        waiter = asyncio.ensure_future(caller.pool.acquire())
        await asyncio.sleep(0)
        waiter.cancel()
        await caller.pool.close()
        await asyncio.gather(waiter, return_exceptions=True)
        assert waiter.cancelled()
