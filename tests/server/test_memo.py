"""The memo of hits: what it learns, what it holds at most, and what ends an answer. That it changes no answer is held by `test_memo_conversations`."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.ports import BytesBody
from passoproxy.server import connection as connections
from passoproxy.server.memo import Memo
from tests.server.conversations import Side, Transport


def get(target: str, *fields: str, method: str = "GET") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", "Host: localhost", *fields, "")).encode()


PLAIN = get("/plain")


async def a_side(*known: bytes, **sizes: int) -> tuple[Side, Transport, Memo]:
    """A side with one client, whose memo knows these requests."""
    side = Side(memo=True, **{"memo_bytes": 10_000_000, "memory_bytes": 10_000_000, **sizes})
    await side.play(("connect", 0, False))
    for head in known:
        await ask(side, head, 2)
    memo = side.shared.memo
    assert memo is not None
    return side, side.links[0], memo


async def ask(side: Side, head: bytes, times: int = 1) -> int:
    """Asks; how many of the answers the memo gave."""
    before = side.hits
    await side.play(("send", 0, (head,) * times))
    return side.hits - before


def last(client: Transport, name: str) -> str:
    """A field of the last answer."""
    head = client.written[client.written.rindex(b"HTTP/1.1 ") :].decode()
    return next(line.partition(": ")[2] for line in head.split("\r\n") if line.startswith(f"{name}:"))


async def test_the_second_hit_is_answered_from_its_bytes() -> None:
    side, _, memo = await a_side()
    assert await ask(side, PLAIN, 2) == 0
    assert await ask(side, PLAIN, 3) == 3
    assert len(memo) == 1


@pytest.mark.parametrize(
    "field",
    [
        "Cache-Control: max-age=60",
        'If-None-Match: "v1"',
        "Range: bytes=0-3",
        "Expect: 100-continue",
        "Connection: close",
    ],
)
async def test_what_depends_on_more_than_its_bytes_is_not_learnt(field: str) -> None:
    head = get("/told", field)
    side, _, memo = await a_side(head)
    assert await ask(side, head) == 0
    assert len(memo) == 0


async def test_long_heads_are_not_learnt() -> None:
    _, _, memo = await a_side(get("/plain", "X-Long: " + "x" * 1500))
    assert len(memo) == 1
    _, _, memo = await a_side(get("/plain", "X-Long: " + "x" * 1900 + "x" * 4096))
    assert len(memo) == 0


async def test_heads_that_differ_in_a_trace_are_one() -> None:
    traces = [get("/plain", f"traceparent: 00-{number:032x}-b7ad6b7169203331-01") for number in range(1, 4)]
    side, _, memo = await a_side(*traces)
    assert (side.hits, len(memo)) == (4, 1)
    assert await ask(side, PLAIN) == 1


def post(body: bytes, *fields: str, kind: str = "json") -> bytes:
    own = f"Content-Type: application/{kind}", f"Content-Length: {len(body)}"
    return get("/asked", *own, *fields, method="POST") + body


async def test_a_question_is_known_by_its_body_too() -> None:
    side, _, memo = await a_side(post(b'{"a": 1}'))
    assert await ask(side, post(b'{"a": 1}')) == 1
    assert await ask(side, post(b'{"a": 1}', "traceparent: 2")) == 1
    assert await ask(side, post(b'{"a": 2}')) == 0
    # in a body, what looks like such a field is none
    one, other = (post(b"a=1\r\nb3:%d\r\n" % number, kind="x-www-form-urlencoded") for number in (1, 2))
    assert [await ask(side, each) for each in (one, one, one, other, one, other)] == [0, 0, 1, 0, 1, 0]
    # the end of a body that came by itself is no request
    whole = post(b'{"a": 1}')
    await side.play(("send", 0, (whole[:-3], whole[-3:])))
    assert (side.shared.count, len(memo)) == (1, 3)


async def test_age_and_ttl_turn_at_their_own_moments() -> None:
    side, client, _ = await a_side(PLAIN)  # fresh for 30.4 seconds
    seen = []
    for _ in range(7):
        await side.play(("wait", 0.3))
        assert await ask(side, PLAIN) == 1
        seen.append((last(client, "Age"), last(client, "Cache-Status").partition("ttl=")[2].partition(";")[0]))
    assert seen == [("0", "30"), ("0", "29"), ("0", "29"), ("1", "29"), ("1", "28"), ("1", "28"), ("2", "28")]


@pytest.mark.parametrize(("target", "seconds"), [("/plain", 30.4), ("/ahead", 2.0)])
async def test_it_ends_with_the_freshness_or_when_it_is_renewed_ahead(target: str, seconds: float) -> None:
    side, _, _ = await a_side(get(target))
    await side.play(("wait", seconds - 0.01))
    assert await ask(side, get(target)) == 1
    await side.play(("wait", 0.01))
    assert await ask(side, get(target)) == 0


@pytest.mark.parametrize(
    "event",
    [
        ("purge", Selector(target="/plain")), ("soften", Selector()), ("foreign_purge", "/plain"), ("foreign_soften", Selector()),
        ("foreign_change", "/plain"), ("foreign_news", 600), ("forget",), ("login", "you"), ("admit", 2), ("routes", True), ("mode", 3), ("finish",),
        ("step", -100.0), ("step", 100.0), ("pair", "gone", 0.0, 60.0), ("pair", "refused", 0.0, 60.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("memory_bytes", [10_000_000, 0], ids=["in memory", "on disk"])
async def test_what_an_answer_rests_on_ends_it(event: tuple[Any, ...], memory_bytes: int) -> None:
    side, _, _ = await a_side(PLAIN, memory_bytes=memory_bytes)
    assert await ask(side, PLAIN) == 1
    await side.play(event)
    assert await ask(side, PLAIN) == 0


async def test_without_a_usable_bearer_each_answer_tells_the_runway_of_its_moment() -> None:
    side, client, _ = await a_side(PLAIN)
    await side.play(("pair", "ends", 2.5, 60.9))
    assert await ask(side, PLAIN, 2) == 1  # another pair is in use, so it is learnt anew
    told = []
    for _ in range(4):
        await side.play(("wait", 1.0))
        hits = await ask(side, PLAIN, 2)
        head = client.written[client.written.rindex(b"HTTP/1.1 ") :].decode()
        told.append((hits, last(client, "Passoproxy-Runway") if "Passoproxy-Runway" in head else None))
    assert told == [(2, None), (2, None), (0, "57"), (0, "56")]
    await side.play(("pair", "there", 0.0, 60.0))
    assert await ask(side, PLAIN, 2) == 2  # what was learnt before holds again
    assert b"Runway" not in client.written[client.written.rindex(b"HTTP/1.1 ") :]


async def test_without_memory_answers_lie_on_disk_and_are_used_and_counted() -> None:
    gzip = get("/json", "Accept-Encoding: gzip")  # which is encoded for the client
    head = get("/plain", method="HEAD")
    question = post(b'{"a": 1}')
    side, client, memo = await a_side(gzip, PLAIN, head, question, memory_bytes=0)
    counts = dict(side.usage.counts)
    for each in (gzip, head, question):
        client.written.clear()
        await side.play(("send", 0, (each,)))
        first = bytes(client.written)
        assert await ask(side, each) == 1
        assert bytes(client.written) == first * 2
    assert sum(side.usage.counts.values()) == sum(counts.values()) + 6
    side.usage.counts.clear()
    side.usage._asked.clear()
    assert await ask(side, question, 2) == 2
    assert set(side.usage.counts.values()) == {2}
    (asked,) = side.usage.most_used(1)
    assert isinstance(asked.body, BytesBody)
    assert (asked.head.method, asked.head.target, asked.body.data) == ("POST", "/asked", b'{"a": 1}')
    assert asked.head.fields["Content-Type"] == "application/json"
    assert (len(memo), memo.bytes_used) == (0, 0)


async def test_a_key_that_is_asked_for_again_soon_is_taken_into_memory() -> None:
    side, _, memo = await a_side()
    await ask(side, PLAIN)
    side.store._shelf.drop(next(iter(side.store._shelf)))
    assert [await ask(side, PLAIN) for _ in range(3)] == [0, 0, 1]
    assert len(memo) == 1
    (key,) = side.store._shelf
    side.store._shelf.drop(key)
    side.store._asked_once.clear()
    assert [await ask(side, PLAIN) for _ in range(3)] == [1, 0, 1]


async def test_a_store_of_another_key_costs_it_nothing() -> None:
    side, _, _ = await a_side(PLAIN)
    await side.play(("fill", 6))
    await side.play(("foreign_news", 3))
    assert await ask(side, PLAIN) == 1


async def test_a_use_begins_to_count_anew_where_it_was_forgotten() -> None:
    side, _, _ = await a_side(PLAIN)
    (key,) = side.usage.counts
    side.usage.counts.clear()
    side.usage._asked.clear()
    assert await ask(side, PLAIN, 2) == 2
    assert side.usage.counts == {key: 2}
    assert [each.head.target for each in side.usage.most_used(1)] == ["/plain"]


async def test_what_the_origin_decides_for_a_cookie_is_not_counted() -> None:
    head = get("/cookies", "Cookie: a=1")
    side, _, memo = await a_side(head)
    assert (await ask(side, head), len(memo)) == (1, 1)
    assert side.usage.counts == {}


async def test_memory_and_store_are_told_of_each_use() -> None:
    side, _, _ = await a_side(PLAIN)
    before = len(side.slow.touched)
    assert await ask(side, PLAIN, 3) == 3
    assert len(side.slow.touched) == before + 3


async def test_what_leaves_the_memory_tier_is_let_go() -> None:
    side, _, memo = await a_side(get("/large"), memory_bytes=900_000)
    assert memo.bytes_used > 0
    for number in range(60):
        for _ in range(2):  # what is asked for once would go first
            await side.play(("send", 0, (get(f"/large?n={number}"),)))
    assert await ask(side, get("/large")) == 0
    assert memo.bytes_used <= 60 * 2000


async def test_its_bytes_are_bounded_and_what_is_asked_for_stays() -> None:
    side, _, memo = await a_side(PLAIN, memo_bytes=24_000)
    for number in range(40):
        await ask(side, get("/plain?b=2", f"X-Number: {number}"), 3)
        assert await ask(side, PLAIN) == 1
        assert memo.bytes_used <= 24_000
    assert 8 < len(memo) < 24


async def test_heads_that_differ_each_time_push_nothing_out() -> None:
    side, _, memo = await a_side(PLAIN, memo_bytes=50_000)
    for number in range(15):
        await ask(side, get("/plain", f"X-Known: {number}"))
    known = len(memo)
    for number in range(200):
        await ask(side, get("/plain", f"X-Number: {number}"))
    assert known < len(memo) <= 50_000 // 1300
    assert [await ask(side, get("/plain", f"X-Known: {number}")) for number in range(15)] == [1] * 15


async def test_it_counts_what_an_answer_takes() -> None:
    side, _, memo = await a_side(PLAIN)
    heads = [get("/plain", f"X-Number: {number}") for number in range(300)]
    for head in heads[:20]:
        await ask(side, head)
    side.batch.flush()
    counted = memo.bytes_used
    gc.collect()
    tracemalloc.start()
    try:
        for head in heads[20:]:
            await ask(side, head)
        side.batch.flush()
        side.lines.clear()
        side.log._waiting.clear()
        client = side.links[0]
        client.written = bytearray()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    counted = memo.bytes_used - counted
    # Field lines that no other request has, and the parts of access lines, come on top.
    assert 0.5 * counted < taken < 2.5 * counted, (taken, counted)


async def test_a_known_head_keeps_an_idle_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    side, client, _ = await a_side(PLAIN)
    connection, now = client.protocol, [1000.0]
    monkeypatch.setattr(connections, "perf_counter", lambda: now[0])
    assert await ask(side, PLAIN) == 1
    assert connection.silent_since is not None
    now[0] += connection._limits.idle_timeout - 1.0
    connection._expired()  # the timer of the request before
    assert client.state == "open"
    now[0] += 1.0
    connection._expired()
    assert client.state == "closed"


async def test_to_learn_nothing_is_read_for_which_the_entry_itself_could_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    side, _, _ = await a_side()
    await ask(side, PLAIN, 2)
    for held in side.store._shelf._keys.values():
        held.bodies.clear()
    read: list[Entry] = []
    monkeypatch.setattr(side.store, "read_nowait", read.append)
    head = get("/plain", method="HEAD")
    await ask(side, head)
    assert (await ask(side, head), read) == (1, [])


async def test_smaller_limits_hold_for_what_was_learnt_under_larger_ones() -> None:
    long = get("/plain", "X-Long: " + "x" * 1500)
    side, old, _ = await a_side(PLAIN, long)
    assert await ask(side, long) == 1
    side.shared.limits = replace(side.shared.limits, header_bytes=1024)
    await side.play(("connect", 1, False))
    await side.play(("send", 1, (long,)))
    assert side.links[1].written.startswith(b"HTTP/1.1 431 ")
    assert await ask(side, long, 2) == 0  # the limits of its own connection still hold for it
    assert last(old, "Cache-Status").startswith("passoproxy; hit")
    await side.play(("connect", 2, False))
    await side.play(("send", 2, (long,)))
    assert side.links[2].written.startswith(b"HTTP/1.1 431 ")
    before = side.hits
    await side.play(("connect", 3, False))
    await side.play(("send", 3, (PLAIN, PLAIN)))
    assert side.hits == before + 1


async def test_a_hit_that_is_not_taken_yet_makes_no_room() -> None:
    side, client, _ = await a_side(PLAIN)
    assert await ask(side, PLAIN) == 1
    client.protocol.pause_writing()
    assert client.protocol.silent_since is None
    assert client.protocol.busy
    client.protocol.resume_writing()
    assert client.protocol.silent_since is not None
    assert not client.protocol.busy


async def test_field_lines_count_for_what_they_take_and_once_if_they_are_shared() -> None:
    many = [f"{number:x}q: {number:x}" for number in range(85)]
    side, _, memo = await a_side(PLAIN)
    before = memo.bytes_used
    await ask(side, get("/plain", *many), 2)
    first = memo.bytes_used - before
    assert first > 85 * 300
    await ask(side, get("/ahead", *many), 2)
    assert 0 < memo.bytes_used - before - first < 5000
    memo.clear()
    assert memo.bytes_used == 0
    await ask(side, get("/plain", *many))
    assert memo.bytes_used == first
    await side.play(("purge", Selector()))
    await ask(side, get("/plain", *many), 2)
    assert memo.bytes_used == first


async def test_forms_count_for_their_long_targets_too() -> None:
    side, _, _ = await a_side()
    side.shared.limits = replace(side.shared.limits, header_bytes=32 * 1024)
    await side.play(("connect", 1, False))
    forms = side.shared.handler._pipeline._forms
    for port in range(5):
        head = get("/plain?" + "x" * 5_000).replace(b"localhost", b"localhost:%d" % port)
        await side.play(("send", 1, (head, head)))
    assert forms.used_bytes > 5 * 3 * 5_000
