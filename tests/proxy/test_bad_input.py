"""What no honest peer sends, against the whole hop: each is read carefully or as nothing; never an error, never a hit that is not right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import BodyBroken, OriginInvalid
from passoproxy.ports import Body
from passoproxy.proxy.representation import Codings
from tests.caching_stand import JSON, ROUTE, Stand, read
from tests.fakes import BROKEN, ChunkedBody, request, response

FRESH = ("Cache-Control", "max-age=100")
LONG = "a" * 10_000
POSTS = replace(ROUTE, methods=("GET", "POST"))


async def stored(stand: Stand) -> int:
    return len([entry async for entry in stand.store.entries(Selector())])


HIT, MISS = True, False


@pytest.mark.parametrize(
    ("fields", "hits"),
    [
        # invalid dates
        ([FRESH, ("Date", "yesterday")], HIT),
        ([FRESH, ("Date", "Mon, 99 Jan 2024 25:61:61 GMT")], HIT),
        ([FRESH, ("Date", "\udcff" * 40)], HIT),
        ([("Expires", "0")], MISS),
        ([("Expires", "-1")], MISS),
        ([("Expires", LONG)], MISS),
        ([("Expires", "Mon, 01 Jan 9999 00:00:00 GMT")], HIT),
        ([("Expires", "Mon, 01 Jan 2001 00:00:00 GMT"), ("Expires", "Mon, 01 Jan 2099 00:00:00 GMT")], MISS),
        ([FRESH, ("Last-Modified", "never"), ("Expires", "never")], HIT),
        # ages
        ([FRESH, ("Age", "-1")], HIT),
        ([FRESH, ("Age", "99")], HIT),
        ([FRESH, ("Age", "100")], MISS),
        ([FRESH, ("Age", "2147483648")], MISS),
        ([FRESH, ("Age", "9" * 10_000)], MISS),
        ([FRESH, ("Age", "1e3")], HIT),
        ([FRESH, ("Age", "-" + "9" * 10_000)], HIT),
        # directives
        ([("Cache-Control", f"x={LONG}, max-age=100")], HIT),
        ([("Cache-Control", f'max-age=100, x="{LONG}, no-store"')], HIT),
        ([("Cache-Control", f"max-age=100, {LONG}, no-store")], MISS),
        ([("Cache-Control", "max-age=" + "9" * 10_000)], HIT),
        ([("Cache-Control", "max-age=-" + "9" * 10_000)], MISS),
        ([("Cache-Control", "max-age=x")], MISS),
        ([("Cache-Control", f"max-age=100, private={LONG}")], HIT),  # one field of that name
        ([("Cache-Control", f"max-age=100, private, x={LONG}")], MISS),
        ([("Cache-Control", ",".join(["max-age=100", *("x" * number for number in range(140))]))], HIT),
        ([("Cache-Control", "max-age=100"), ("CDN-Cache-Control", LONG + '="')], HIT),
        ([("Cache-Control", "max-age=100"), ("Passoproxy-Cache-Control", "no-store")], MISS),
        # codings
        ([FRESH, ("Content-Encoding", "no-such-coding")], HIT),
        ([FRESH, ("Content-Encoding", LONG)], HIT),
        # Vary
        ([FRESH, ("Vary", "*")], MISS),
        ([FRESH, ("Vary", "X, *")], MISS),
        ([FRESH, ("Vary", "X"), ("Vary", "*")], MISS),
        ([FRESH, ("Vary", LONG)], HIT),
        ([FRESH, ("Vary", ",".join(f"X-{number}" for number in range(2000)))], HIT),
        ([FRESH, ("Vary", "\t,, ,X")], HIT),
        # tags and groups that are none
        ([FRESH, ("ETag", LONG)], HIT),
        ([FRESH, ("Cache-Groups", '"' + LONG)], HIT),
    ],
)
async def test_an_answer_of_odd_fields(fields: list[tuple[str, str]], hits: bool) -> None:
    own_date = any(name == "Date" for name, _ in fields)
    stand = Stand()
    script = (lambda _: response(200, fields, b"one")) if own_date else stand.says(*fields, body=b"one")
    stand.origin.script = [script, stand.says(FRESH, body=b"two")]
    first = await stand.ask()
    assert (first.status, first.body) == (200, b"one")
    second = await stand.ask()
    assert second.body == (b"one" if hits else b"two")
    assert ("; hit" in second.cache) is hits


@pytest.mark.parametrize(
    "fields",
    [
        [("Cache-Control", LONG)],
        [("Cache-Control", "max-age=" + "9" * 10_000)],
        [("Cache-Control", "max-stale=-1, min-fresh=x, only-if-cachedx")],
        [("Pragma", LONG)],
        [("If-None-Match", LONG)],
        [("If-None-Match", '"' + '","' * 3000)],
        [("If-Modified-Since", LONG)],
        [("Range", "bytes=" + ",".join(f"{number}-" for number in range(2000)))],
        [("Range", "bytes=" + "9" * 10_000 + "-")],
        [("Range", LONG), ("If-Range", LONG)],
        [("Accept-Encoding", LONG)],
    ],
)
async def test_a_request_of_odd_fields(fields: list[tuple[str, str]]) -> None:
    stand = Stand(repeat=True)
    stand.origin.script = [stand.says(FRESH, ("Content-Type", "text/plain"))]
    for _ in range(2):
        answer = await stand.ask(fields=fields)
        assert answer.status in (200, 416)
        assert answer.body in (b"hello", b"")


async def test_keys_of_64_kib_are_told_apart_and_kept_as_digests() -> None:
    stand = Stand(repeat=True)
    stand.origin.script = [lambda asked: stand.says(FRESH, body=asked.head.target[-1:].encode())(asked)]
    for end in "ab":
        assert (await stand.ask("/" + "x" * 65_536 + end)).body == end.encode()
    for end in "ab":
        answer = await stand.ask("/" + "x" * 65_536 + end)
        assert ("; hit" in answer.cache, answer.body, len(answer.trail.key)) == (True, end.encode(), 64)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * 30_000,
        b'{"a":1' + b"0" * 60_000 + b"}",
        b'"' + b"\\u0000" * 10_000 + b'"',
        b"\xff\xfe{}",
    ],
)
async def test_a_body_that_is_hard_to_read_is_forwarded_and_answers_nobody_else(body: bytes) -> None:
    stand = Stand(policy=POSTS, repeat=True)
    stand.origin.script = [lambda asked: stand.says(FRESH, body=str(len(stand.door.bodies[-1])).encode())(asked)]
    for sent in (body, b"{}", body):
        answer = await stand.ask("/x", "POST", [JSON], body=sent)
        assert answer.body == str(len(sent)).encode()


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (lambda: ChunkedBody(b"hal", BROKEN, length=10), "10"),  # the connection's end came first
        (lambda: ChunkedBody(b"hal", OriginInvalid("more than it said"), length=3), "3"),
        (lambda: ChunkedBody(b"hal", BROKEN), None),
    ],
)
async def test_an_origin_that_lies_about_the_length_is_never_stored(body: object, length: str | None) -> None:
    stand = Stand(repeat=True)
    said = [FRESH, ETAG] + ([("Content-Length", length)] if length else [])
    stand.origin.script = [lambda asked: stand.says(*said, body=body())(asked)]  # type: ignore[operator]
    for _ in range(2):
        with pytest.raises((BodyBroken, OriginInvalid)):
            await stand.ask()
        await stand.quiet()
    assert await stored(stand) == 0


ETAG = ("ETag", '"v"')


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("length", [None, 2000])
async def test_an_origin_that_lies_about_the_coding_breaks_its_own_answer_alone(
    coding: str, length: int | None
) -> None:
    stand = Stand(repeat=True)

    def lying(asked: object) -> object:
        body: Body = ChunkedBody(b"this is plain text" * 200, length=length and 3600)
        return stand.says(FRESH, ETAG, ("Content-Encoding", coding), ("Content-Type", "text/plain"), body=body)(asked)  # type: ignore[arg-type]

    stand.origin.script = [lying]  # type: ignore[list-item]
    road = Codings(stand.cache)

    async def got(*fields: tuple[str, str]) -> bytes:
        answer = await road.send(request("GET", "/x", fields, policy=stand.policy))
        return (await read(answer, request().trail)).body

    for _ in range(2):
        with pytest.raises((BodyBroken, OriginInvalid)):
            await got()
    assert await got(("Accept-Encoding", coding)) == b"this is plain text" * 200  # for whoever takes it, as it came
