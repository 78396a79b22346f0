"""The hop that gives each client the coding it takes (contract §5)."""

from __future__ import annotations

import gzip

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.errors import BodyBroken, Offline
from passoproxy.ports import BytesBody, Request, Response, Trail
from passoproxy.proxy.representation import OWN, Codings
from tests.fakes import ChunkedBody, ScriptedHop, Step, request, response

TEXT = b'{"records": [' + b'"entry", ' * 300 + b"0]}"
JSON = ("Content-Type", "application/json")
MAKE = {"identity": bytes, "gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.ZstdCompressor().compress}


def undone(data: bytes, coding: str) -> bytes:
    match coding:
        case "gzip":
            return gzip.decompress(data)
        case "br":
            return bytes(brotli.decompress(data))
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        case _:
            return data


def hop(*script: Step, **more: int) -> tuple[Codings, ScriptedHop]:
    inner = ScriptedHop(list(script))
    return Codings(inner, **more), inner


def asking(accepted: str | None, method: str = "GET", *fields: tuple[str, str], cache: str = "pass") -> Request:
    named = [("Accept-Encoding", accepted)] if accepted is not None else []
    return request(method, fields=[*named, *fields], trail=Trail(cache=cache))


async def content(answer: Response) -> bytes:
    return b"".join([part async for part in answer.body])


async def test_the_inner_rooms_see_our_own_accept_encoding() -> None:
    encoding, inner = hop(response(204), response(204))
    await encoding.send(asking(None))
    await encoding.send(asking("deflate"))
    assert [each.head.fields["Accept-Encoding"] for each in inner.seen] == [OWN, OWN]


@pytest.mark.parametrize(("accepted", "coding"), [("gzip", "gzip"), ("br, gzip", "br"), ("gzip, zstd", "zstd")])
async def test_plain_text_is_encoded(accepted: str, coding: str) -> None:
    encoding, _ = hop(response(200, [JSON, ("Content-Length", str(len(TEXT))), ("ETag", '"a"')], TEXT))
    answer = await encoding.send(asking(accepted))
    data = await content(answer)
    assert undone(data, coding) == TEXT
    fields = answer.head.fields
    assert (fields["Content-Encoding"], fields["Vary"], fields["Content-Length"]) == (
        coding,
        "Accept-Encoding",
        str(len(data)),
    )
    assert fields["ETag"] == f'"a-{coding}"'


async def test_a_client_that_says_nothing_gets_it_plain() -> None:
    encoding, _ = hop(response(200, [JSON, ("ETag", '"a"')], TEXT))
    answer = await encoding.send(asking(None))
    assert await content(answer) == TEXT
    assert "Content-Encoding" not in answer.head.fields
    assert answer.head.fields["Vary"] == "Accept-Encoding"
    assert answer.head.fields["ETag"] == '"a"'


async def test_what_is_accepted_is_said_over_all_lines() -> None:
    encoding, _ = hop(response(200, [JSON], TEXT))
    answer = await encoding.send(asking("deflate", "GET", ("Accept-Encoding", "gzip")))
    assert answer.head.fields["Content-Encoding"] == "gzip"


async def test_a_stored_coding_that_is_taken_passes_untouched() -> None:
    stored = gzip.compress(TEXT)
    encoding, _ = hop(
        response(200, [JSON, ("Content-Encoding", "gzip"), ("ETag", '"a"'), ("Vary", "Accept-Encoding")], stored)
    )
    answer = await encoding.send(asking("gzip, br"))
    assert await content(answer) == stored
    assert answer.head.fields["ETag"] == '"a"'


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("accepted", [None, "deflate", "gzip;q=0, br;q=0, zstd;q=0"])
async def test_a_stored_coding_that_is_not_taken_is_undone(coding: str, accepted: str | None) -> None:
    stored = MAKE[coding](TEXT)
    encoding, _ = hop(
        response(
            200, [JSON, ("Content-Encoding", coding), ("Content-Length", "7"), ("ETag", '"a"')], ChunkedBody(stored)
        )
    )
    answer = await encoding.send(asking(accepted))
    assert await content(answer) == TEXT
    fields = answer.head.fields
    assert "Content-Encoding" not in fields
    assert "Content-Length" not in fields
    assert (fields["ETag"], fields["Vary"]) == ('"a-identity"', "Accept-Encoding")


@pytest.mark.parametrize(
    ("status", "fields", "data"),
    [
        (200, [JSON], TEXT[:1000]),
        (200, [("Content-Type", "application/pdf")], TEXT),
        (200, [], TEXT),
        (200, [JSON, ("Content-Encoding", "compress")], TEXT),
        (200, [JSON, ("Content-Encoding", "gzip, br")], TEXT),
        (200, [JSON, ("Content-Encoding", "gzip"), ("Content-Encoding", "br")], TEXT),
        (200, [JSON, ("Cache-Control", "No-Transform")], TEXT),
        (200, [JSON, ("Cache-Control", "max-age=9"), ("Cache-Control", "no-transform")], TEXT),
        (204, [], b""),
    ],
)
async def test_left_alone(status: int, fields: list[tuple[str, str]], data: bytes) -> None:
    inner = response(status, fields, data)
    encoding, _ = hop(inner)
    assert await encoding.send(asking("gzip")) is inner


async def test_a_stream_of_unknown_length_is_encoded_as_it_comes() -> None:
    encoding, _ = hop(response(200, [JSON], ChunkedBody(TEXT[:9], TEXT[9:])))
    answer = await encoding.send(asking("gzip"))
    assert undone(await content(answer), "gzip") == TEXT
    assert "Content-Length" not in answer.head.fields


async def test_a_large_body_in_memory_is_encoded_in_steps() -> None:
    large = TEXT * 200
    encoding, _ = hop(response(200, [JSON], large))
    answer = await encoding.send(asking("br"))
    assert answer.body.length is None
    assert undone(await content(answer), "br") == large


async def test_head_tells_what_get_would() -> None:
    encoding, _ = hop(
        response(200, [JSON, ("Content-Length", "5000"), ("ETag", '"a"')]),
        response(200, [JSON, ("Content-Length", "5")]),
    )
    answer = await encoding.send(asking("gzip", "HEAD"))
    assert answer.head.fields["Content-Encoding"] == "gzip"
    assert answer.head.fields["ETag"] == '"a-gzip"'
    assert "Content-Length" not in answer.head.fields
    small = await encoding.send(asking("gzip", "HEAD"))
    assert small.head.fields["Content-Length"] == "5"


async def test_forms_of_a_tag_are_taken_back() -> None:
    encoding, inner = hop(response(304, [("ETag", '"a"')]))
    answer = await encoding.send(asking("gzip", "GET", ("If-None-Match", '"a-gzip"')))
    assert inner.seen[0].head.fields["If-None-Match"] == '"a-gzip", "a"'
    assert answer.head.fields["ETag"] == '"a-gzip"'


@pytest.mark.parametrize(
    ("fields", "varies"),
    [
        ([JSON, ("Content-Length", "5000")], True),
        ([JSON], True),
        ([JSON, ("Content-Length", "5")], False),
        ([("Content-Type", "image/png"), ("Content-Length", "5000")], False),
        ([("Content-Type", "image/png"), ("Content-Encoding", "gzip")], True),
        ([("Content-Type", "image/png"), ("Content-Encoding", "exi")], False),
        ([JSON, ("Cache-Control", "no-transform")], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("accepted", [None, "gzip"])
async def test_a_304_varies_as_its_200_would_15_4_5(
    fields: list[tuple[str, str]], varies: bool, accepted: str | None
) -> None:
    encoding, _ = hop(response(304, [*fields, ("ETag", '"a"'), ("Vary", "Accept-Language")]))
    answer = (await encoding.send(asking(accepted, "GET", ("If-None-Match", '"a"')))).head.fields
    assert answer["Vary"] == ("Accept-Language, Accept-Encoding" if varies else "Accept-Language")
    assert {"Content-Type", "Content-Length", "Content-Encoding"}.isdisjoint(answer)


@pytest.mark.parametrize("accepted", [None, "identity", "gzip"])
@pytest.mark.parametrize("last", [4, 2047])
async def test_whether_a_part_serves_does_not_depend_on_its_length(accepted: str | None, last: int) -> None:
    part = [JSON, ("Content-Range", f"bytes 0-{last}/5000"), ("Content-Length", str(last + 1))]
    partial = ChunkedBody(TEXT[: last + 1])
    encoding, inner = hop(response(206, part, partial), response(200, [JSON], TEXT))
    answer = await encoding.send(asking(accepted, "GET", ("Range", f"bytes=0-{last}"), cache="hit"))
    assert answer.head.status == (200 if accepted == "gzip" else 206)
    assert answer.head.fields["Vary"] == "Accept-Encoding"
    if accepted == "gzip":
        assert partial.closed
        assert inner.seen[1].head.fields["Cache-Control"] == "only-if-cached"
        assert "Range" not in inner.seen[1].head.fields


async def test_a_stored_part_serves_where_no_more_is_stored() -> None:
    encoding, _ = hop(response(206, [JSON, ("Content-Range", "bytes 0-4/5000")], b"part!"), Offline("not stored"))
    asked = asking("gzip", "GET", ("Range", "bytes=0-4"), cache="hit")
    answer = await encoding.send(asked)
    assert (answer.head.status, await content(answer), asked.trail.cache) == (206, b"part!", "hit")


async def test_a_part_is_never_recoded() -> None:
    fields = [("Content-Type", "application/pdf"), ("Content-Range", "bytes 0-4/9000")]
    inner = response(206, fields, b"part!")
    encoding, _ = hop(inner)
    assert await encoding.send(asking("gzip", "GET", ("Range", "bytes=0-4"))) is inner


@pytest.mark.parametrize("cache", ["miss", "pass"])
async def test_the_origin_is_not_asked_twice_for_a_part_that_could_be_encoded(cache: str) -> None:
    encoding, inner = hop(response(206, [JSON, ("Content-Range", "bytes 0-4/5000")], b"part!"))
    answer = await encoding.send(asking("gzip", "GET", ("Range", "bytes=0-4"), cache=cache))
    assert (answer.head.status, await content(answer), len(inner.seen)) == (206, b"part!", 1)
    assert answer.head.fields["Vary"] == "Accept-Encoding"


async def test_a_coded_part_of_a_pass_stays_as_it_came() -> None:
    inner = response(206, [JSON, ("Content-Encoding", "gzip")], b"part")
    encoding, _ = hop(inner)
    assert await encoding.send(asking(None, "GET", ("Range", "bytes=0-4"), cache="pass")) is inner


@pytest.mark.parametrize("cache", ["hit", "miss"])
async def test_a_part_in_a_coding_that_is_not_taken_becomes_the_whole(cache: str) -> None:
    partial = ChunkedBody(b"part")
    encoding, inner = hop(
        response(206, [JSON, ("Content-Encoding", "gzip")], partial),
        response(200, [JSON, ("Content-Encoding", "gzip")], gzip.compress(TEXT)),
    )
    answer = await encoding.send(asking(None, "GET", ("Range", "bytes=0-4"), cache=cache))
    assert await content(answer) == TEXT
    assert partial.closed
    assert "Range" not in inner.seen[1].head.fields


async def test_a_part_that_nobody_asked_for_is_passed_on() -> None:
    inner = response(206, [JSON, ("Content-Encoding", "gzip")], b"part")
    encoding, _ = hop(inner)
    assert await encoding.send(asking(None)) is inner


async def test_a_stored_body_is_encoded_once() -> None:
    def stored(data: bytes) -> Response:
        return Response(response(200, [JSON]).head, BytesBody(data), "digest")

    encoding, _ = hop(stored(TEXT), stored(TEXT[::-1]), memory_bytes=1_000_000)
    first, second = await encoding.send(asking("gzip")), await encoding.send(asking("gzip"))
    assert await content(first) == await content(second)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_stored_body_is_decoded_once_unless_it_is_long_or_broken(coding: str) -> None:
    def stored(content_id: str, data: bytes) -> Response:
        answer = response(200, [JSON, ("Content-Encoding", coding)], data)
        return Response(answer.head, answer.body, content_id)

    whole, long, broken = MAKE[coding](TEXT), MAKE[coding](TEXT * 200), MAKE[coding](TEXT)[:-9]
    answers = [stored("a", whole), stored("b", long), stored("c", broken)]
    encoding, _ = hop(*answers, memory_bytes=1 << 20)
    assert [encoding.coded(asking(None), answer) for answer in answers] == [None, None, None]  # it takes a thread
    asked = [await encoding.send(asking(None)) for _ in answers]
    assert (asked[0].head.fields["Content-Length"], await content(asked[0])) == (str(len(TEXT)), TEXT)
    assert await content(asked[1]) == TEXT * 200
    with pytest.raises(BodyBroken):
        await content(asked[2])
    again = [encoding.coded(asking(None), answer) for answer in answers]
    assert [answer is not None and isinstance(answer.body, BytesBody) for answer in again] == [True, False, False]
    assert again[0] is not None
    assert await content(again[0]) == TEXT


async def test_for_many_at_once_the_small_encoder_has_to_do() -> None:
    encoding, inner = hop()
    inner.script = [lambda _: response(200, [JSON], ChunkedBody(TEXT * 100, TEXT))]
    inner.repeat = True
    open_streams = [await encoding.send(asking("br, gzip;q=0.5")) for _ in range(64)]
    assert {answer.head.fields["Content-Encoding"] for answer in open_streams} == {"br"}
    more, plain = await encoding.send(asking("br, gzip;q=0.5")), await encoding.send(asking("zstd"))
    assert more.head.fields["Content-Encoding"] == "gzip"
    assert undone(await content(more), "gzip") == TEXT * 101
    assert ("Content-Encoding" in plain.head.fields, plain.head.fields["Vary"]) == (False, "Accept-Encoding")
    assert await content(plain) == TEXT * 101
    del open_streams, more
    assert (await encoding.send(asking("br"))).head.fields["Content-Encoding"] == "br"


@given(
    stored=st.sampled_from(["identity", "gzip", "br", "zstd"]),
    accepted=st.lists(
        st.tuples(
            st.sampled_from(["gzip", "br", "zstd", "identity", "*", "deflate"]), st.sampled_from(["", ";q=0", ";q=0.5"])
        )
    ),
    data=st.binary(max_size=3000),
)
async def test_what_the_client_decodes_is_what_the_origin_said(
    stored: str, accepted: list[tuple[str, str]], data: bytes
) -> None:
    fields = [JSON, *([("Content-Encoding", stored)] if stored != "identity" else [])]
    encoding, _ = hop(response(200, fields, MAKE[stored](data)))
    value = ", ".join(name + weight for name, weight in accepted)
    answer = await encoding.send(asking(value))
    assert undone(await content(answer), answer.head.fields.get("Content-Encoding", "identity")) == data
