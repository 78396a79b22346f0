"""The hop that keeps clients with the proxy: JSON bodies, references, tags and lengths (contract §5, §7)."""

from __future__ import annotations

import gzip
import json

import pytest

from passoproxy.errors import BodyBroken
from passoproxy.ports import BytesBody, Response, Trail
from passoproxy.proxy.representation import Links
from tests.fakes import BROKEN, ChunkedBody, ScriptedHop, request, response
from tests.turns import Turns

ORIGIN = "https://api.passolution.eu"
PAGE = json.dumps({"links": {"next": f"{ORIGIN}/api/v2/countries?page=2"}}).replace("/", "\\/").encode()
JSON = ("Content-Type", "application/json")


def hop(*script: Response, **more: object) -> tuple[Links, ScriptedHop]:
    inner = ScriptedHop(list(script))
    return Links(inner, origin=ORIGIN, **more), inner  # type: ignore[arg-type]


async def content(answer: Response) -> bytes:
    return b"".join([part async for part in answer.body])


async def test_links_lead_to_the_host_that_was_asked() -> None:
    rewriting, _ = hop(response(200, [JSON, ("Content-Length", str(len(PAGE))), ("ETag", '"a"')], PAGE))
    answer = await rewriting.send(request())
    body = await content(answer)
    assert json.loads(body)["links"]["next"] == "http://localhost:8610/api/v2/countries?page=2"
    assert answer.head.fields["Content-Length"] == str(len(body))
    assert answer.head.fields["ETag"] == 'W/"a"'


async def test_public_url_wins() -> None:
    rewriting, _ = hop(response(200, [JSON], PAGE), public_url="https://proxy.example/")
    assert json.loads(await content(await rewriting.send(request())))["links"]["next"].startswith(
        "https://proxy.example/api"
    )


async def test_what_names_no_origin_stays_as_it_is_stored() -> None:
    stored = gzip.compress(b'{"a": 1}')
    inner = response(200, [JSON, ("Content-Encoding", "gzip"), ("ETag", '"a"')], stored)
    rewriting, _ = hop(inner)
    assert await rewriting.send(request()) is inner


async def test_a_coded_body_is_decoded_only_to_be_rewritten() -> None:
    rewriting, _ = hop(
        response(200, [JSON, ("Content-Encoding", "gzip"), ("Content-Length", "9")], gzip.compress(PAGE))
    )
    answer = await rewriting.send(request())
    body = await content(answer)
    assert b"localhost:8610" in body
    assert "Content-Encoding" not in answer.head.fields
    assert answer.head.fields["Content-Length"] == str(len(body))


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_a_stream_is_rewritten_as_it_comes(coding: str) -> None:
    data = gzip.compress(PAGE) if coding else PAGE
    fields = [JSON, ("Content-Length", str(len(data))), *([("Content-Encoding", coding)] if coding else [])]
    rewriting, _ = hop(response(200, fields, ChunkedBody(data[:31], data[31:])))
    answer = await rewriting.send(request())
    assert json.loads(await content(answer))["links"]["next"].startswith("http://localhost:8610/")
    assert "Content-Length" not in answer.head.fields
    assert answer.body.length is None


@pytest.mark.parametrize(("coding", "streamed"), [("", True), ("gzip", False)])
async def test_the_loop_has_turns_while_a_body_is_rewritten(coding: str, streamed: bool) -> None:
    count = 20_000 if streamed else 9_000
    text = json.dumps([{"url": f"{ORIGIN}/{number}", "text": '"' * 40} for number in range(count)]).encode()
    data = gzip.compress(text) if coding else text
    fields = [JSON, *([("Content-Encoding", coding)] if coding else [])]
    rewriting, _ = hop(response(200, fields, ChunkedBody(data) if streamed else data))
    async with Turns() as turns:
        parts = [part async for part in (await rewriting.send(request())).body]
    assert max(turns.computed) < 0.02, turns
    assert b"".join(parts) == text.replace(ORIGIN.encode(), b"http://localhost:8610")


async def test_a_broken_stream_stays_broken() -> None:
    rewriting, _ = hop(response(200, [JSON], ChunkedBody(PAGE[:20], BROKEN)))
    answer = await rewriting.send(request())
    with pytest.raises(BodyBroken):
        await content(answer)


async def test_a_broken_coded_body_breaks_while_it_is_sent() -> None:
    rewriting, _ = hop(response(200, [JSON, ("Content-Encoding", "gzip")], gzip.compress(PAGE)[:-6]))
    answer = await rewriting.send(request())
    with pytest.raises(BodyBroken):
        await content(answer)


async def test_closing_reaches_the_inner_body() -> None:
    inner = ChunkedBody(PAGE)
    rewriting, _ = hop(response(200, [JSON], inner))
    await (await rewriting.send(request())).body.aclose()
    assert inner.closed


@pytest.mark.parametrize(
    "fields",
    [
        [("Content-Type", "application/pdf")],
        [],
        [JSON, ("Content-Encoding", "compress")],
        [JSON, ("Content-Encoding", "gzip"), ("Content-Encoding", "br")],
    ],
)
async def test_other_bodies_pass_untouched(fields: list[tuple[str, str]]) -> None:
    inner = response(200, fields, PAGE)
    rewriting, _ = hop(inner)
    assert await rewriting.send(request()) is inner


async def test_switched_off_it_leaves_bodies_alone() -> None:
    inner = response(200, [JSON, ("Location", f"{ORIGIN}/x")], PAGE)
    rewriting, _ = hop(inner, in_bodies=False)
    answer = await rewriting.send(request())
    assert answer.body is inner.body
    assert answer.head.fields["Location"] == "http://localhost:8610/x"


async def test_references_in_fields() -> None:
    fields = [
        ("Location", f"{ORIGIN}/new"),
        ("Content-Location", "/same"),
        ("Link", f'<{ORIGIN}/a>; rel="next"'),
        ("Link", "<https://else.example/>; rel=prev"),
    ]
    rewriting, _ = hop(response(302, fields))
    answer = await rewriting.send(request())
    assert answer.head.fields["Location"] == "http://localhost:8610/new"
    assert answer.head.fields["Content-Location"] == "/same"
    assert answer.head.fields.getall("Link") == [
        '<http://localhost:8610/a>; rel="next"',
        "<https://else.example/>; rel=prev",
    ]


async def test_a_foreign_link_stays() -> None:
    inner = response(200, [("Link", "<https://else.example/>; rel=prev")])
    rewriting, _ = hop(inner)
    assert await rewriting.send(request()) is inner


async def test_head_promises_no_length_that_get_would_not_keep() -> None:
    rewriting, _ = hop(response(200, [JSON, ("Content-Length", "400"), ("ETag", '"a"')]))
    answer = await rewriting.send(request("HEAD"))
    assert "Content-Length" not in answer.head.fields
    assert answer.head.fields["ETag"] == 'W/"a"'


async def test_304_names_the_tag_that_the_client_has() -> None:
    rewriting, _ = hop(response(304, [("ETag", '"a"')]))
    answer = await rewriting.send(request(fields=[("If-None-Match", 'W/"a"')]))
    assert answer.head.fields["ETag"] == 'W/"a"'


@pytest.mark.parametrize("cache", ["hit", "stale", "miss"])
async def test_part_of_json_becomes_the_whole(cache: str) -> None:
    partial = ChunkedBody(b"part")
    rewriting, inner = hop(
        response(206, [JSON, ("Content-Range", "bytes 0-3/100")], partial), response(200, [JSON], PAGE)
    )
    asked = request(fields=[("Range", "bytes=0-3"), ("If-Range", '"a"')], trail=Trail(cache=cache))
    answer = await rewriting.send(asked)
    assert answer.head.status == 200
    assert b"localhost:8610" in await content(answer)
    assert partial.closed
    assert "Range" not in inner.seen[1].head.fields
    assert "If-Range" not in inner.seen[1].head.fields


async def test_no_pass_is_sent_twice_for_the_links_in_a_part() -> None:
    part = response(206, [JSON, ("Content-Range", "bytes 0-3/100")], b"part")
    rewriting, inner = hop(part)
    assert await rewriting.send(request(fields=[("Range", "bytes=0-3")], trail=Trail(cache="pass"))) is part
    assert len(inner.seen) == 1


async def test_part_of_something_else_stays_a_part() -> None:
    inner = response(206, [("Content-Type", "application/pdf")], b"part")
    rewriting, _ = hop(inner)
    assert await rewriting.send(request(fields=[("Range", "bytes=0-3")])) is inner


async def test_a_stored_body_is_worked_on_once_for_each_base() -> None:
    def stored(data: bytes) -> Response:
        return Response(response(200, [JSON, ("Age", "1")]).head, BytesBody(data), "digest")

    rewriting, _ = hop(stored(PAGE), stored(b"not looked at"), memory_bytes=1_000_000)
    first = await rewriting.send(request())
    second = await rewriting.send(request())
    assert await content(first) == await content(second)
    assert second.content_id == first.content_id != "digest"
    assert second.head.fields["Age"] == "1"


async def test_that_a_stored_body_names_no_origin_is_remembered() -> None:
    def stored(data: bytes) -> Response:
        return Response(response(200, [JSON]).head, BytesBody(data), "digest")

    rewriting, _ = hop(stored(b"{}"), stored(PAGE), memory_bytes=1_000_000)
    await rewriting.send(request())
    assert await content(await rewriting.send(request())) == PAGE
