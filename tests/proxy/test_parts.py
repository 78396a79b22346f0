"""Ranges on the road: cut out of what is stored or on its way, stored as parts, joined and completed (RFC 9110 §14, RFC 9111 §3.4)."""

import asyncio

import pytest

from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.events import EntryStored
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.errors import Offline, OriginInvalid, OriginUnreachable
from passoproxy.ports import BytesBody
from passoproxy.proxy.ranges import CutBody, is_ranged
from tests.caching_stand import JSON, Stand
from tests.fakes import BROKEN, ChunkedBody, response

TEXT = ("Content-Type", "text/plain")
FRESH = ("Cache-Control", "max-age=100")
ETAG = ("ETag", '"v1"')
WHOLE = b"0123456789"
ROUTE = RoutePolicy(name="r")
BARE = RoutePolicy()


def ranged(value, *more):
    return [("Range", f"bytes={value}"), *more]


def whole(stand, *fields, body=WHOLE):
    return stand.says(FRESH, TEXT, ("Content-Length", str(len(body))), *fields, body=body)


def part(stand, first, last, *fields, size=10, body=None):
    body = WHOLE[first : last + 1] if body is None else body
    described = ("Content-Range", f"bytes {first}-{last}/{size}")
    return stand.says(FRESH, TEXT, described, ("Content-Length", str(last - first + 1)), *fields, status=206, body=body)


async def stored(*fields, body=WHOLE, **more):
    stand = Stand(policy=ROUTE, **more)
    stand.origin.script = [whole(stand, *fields, body=body)]
    await stand.ask()
    return stand


@pytest.mark.parametrize(
    ("value", "body", "described"),
    [
        ("0-1", b"01", "bytes 0-1/10"),
        ("7-", b"789", "bytes 7-9/10"),
        ("-2", b"89", "bytes 8-9/10"),
        ("5-100", b"56789", "bytes 5-9/10"),
        ("0-2,2-4", b"01234", "bytes 0-4/10"),
    ],
)
async def test_a_range_of_a_stored_answer(value, body, described):
    stand = await stored()
    answer = await stand.ask(fields=ranged(value))
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, body, described)
    assert answer.headers["content-length"] == str(len(body))
    assert answer.cache == "passoproxy; hit; ttl=100"
    assert answer.headers["age"] == "0"


async def test_several_ranges_come_as_multipart():
    stand = await stored()
    answer = await stand.ask(fields=ranged("0-1, 5-6"))
    boundary = answer.headers["content-type"].removeprefix("multipart/byteranges; boundary=")
    assert answer.status == 206
    assert answer.body.count(f"--{boundary}\r\n".encode()) == 2
    assert b"Content-Range: bytes 5-6/10\r\n\r\n56\r\n" in answer.body
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "content-range" not in answer.headers


async def test_what_cannot_be_satisfied():
    stand = await stored()
    answer = await stand.ask(fields=ranged("10-"))
    assert (answer.status, answer.body, answer.headers["content-range"]) == (416, b"", "bytes */10")
    assert (answer.headers["content-length"], answer.headers["accept-ranges"]) == ("0", "bytes")


@pytest.mark.parametrize("value", ["x", "3-1", ",".join(["0-0"] * 17)])
async def test_a_range_that_is_none_is_ignored(value):
    stand = await stored()
    answer = await stand.ask(fields=ranged(value))
    assert (answer.status, answer.body) == (200, WHOLE)


async def test_nothing_has_no_ranges():
    stand = await stored(body=b"")
    assert (await stand.ask(fields=ranged("0-"))).status == 200


async def test_head_and_other_failures_ignore_ranges():
    stand = await stored()
    answer = await stand.ask(method="HEAD", fields=ranged("0-1"))
    assert (answer.status, answer.headers["content-length"]) == (200, "10")
    stand.origin.script = [stand.says(FRESH, status=404)]
    await stand.ask("/none")
    assert (await stand.ask("/none", fields=ranged("0-1"))).status == 404


@pytest.mark.parametrize(
    ("value", "status"), [('"v1"', 206), ('"v2"', 200), ('W/"v1"', 200), ("Mon, 01 Jan 2024 00:00:00 GMT", 200)]
)
async def test_if_range(value, status):
    stand = await stored(ETAG)
    answer = await stand.ask(fields=ranged("0-1", ("If-Range", value)))
    assert answer.status == status
    assert answer.body == (b"01" if status == 206 else WHOLE)


async def test_if_range_without_a_range_is_nothing():
    stand = await stored(ETAG)
    assert (await stand.ask(fields=[("If-Range", '"v2"')])).body == WHOLE
    stand.origin.script = [whole(stand)]
    assert "stored" in (await stand.ask("/y", fields=[("If-Range", '"v2"')])).cache
    assert "if-range" not in stand.sent()


async def test_a_made_tag_is_weak_and_never_lets_a_range_through():
    stand = await stored()
    tag = (await stand.ask()).headers["etag"]
    assert (await stand.ask(fields=ranged("0-1", ("If-Range", tag)))).status == 200


async def test_the_clients_own_condition_comes_first():
    stand = await stored(ETAG)
    answer = await stand.ask(fields=ranged("0-1", ("If-None-Match", '"v1"')))
    assert (answer.status, answer.body) == (304, b"")


async def test_json_is_given_whole_where_its_length_is_not_known_to_be_the_clients():
    stand = Stand(policy=ROUTE)
    stand.origin.script = [stand.says(FRESH, JSON, ("Accept-Ranges", "bytes"), ETAG, body=b'{"a": 1}')]
    await stand.ask()
    assert (await stand.ask(fields=ranged("100-"))).status == 200
    assert (await stand.ask(fields=ranged("0-0,5-6"))).status == 200
    hit = await stand.ask(fields=ranged("0-1"))
    assert (hit.status, hit.body) == (206, b'{"')
    assert "accept-ranges" not in hit.headers


async def test_an_encoded_answer_has_no_multipart():
    stand = await stored(("Content-Encoding", "gzip"))
    assert (await stand.ask(fields=ranged("0-0,5-6"))).status == 200
    assert (await stand.ask(fields=ranged("0-1"))).headers["content-encoding"] == "gzip"


async def test_a_part_has_no_content_id():
    stand = await stored()
    assert (await stand.response(fields=ranged("0-1"))).content_id == ""
    assert (await stand.response(fields=ranged("x"))).content_id != ""


# ---- misses ------------------------------------------------------------------------------------------------------------


async def test_a_ranged_miss_fetches_the_whole_and_serves_the_part():
    stand = Stand(policy=ROUTE)
    stand.origin.script = [whole(stand, ETAG)]
    answer = await stand.ask(fields=ranged("2-4", ("If-Range", '"v1"')))
    assert (answer.status, answer.body) == (206, b"234")
    assert answer.cache == "passoproxy; fwd=uri-miss; fwd-status=200; stored; ttl=100"
    assert not {"range", "if-range"} & set(stand.sent())
    assert (await stand.ask()).body == WHOLE
    assert len(stand.origin.seen) == 1


async def test_the_part_of_an_answer_on_its_way_does_not_wait_for_the_rest():
    stand = Stand(policy=ROUTE)
    halted = asyncio.Event()

    class Halting(ChunkedBody):
        async def __anext__(self):
            if len(self._chunks) == 1:
                await halted.wait()
            return await super().__anext__()

    stand.origin.script = [
        stand.says(FRESH, TEXT, ETAG, ("Content-Length", "10"), body=Halting(b"012", b"345", b"6789", length=10))
    ]
    answer = await stand.ask(fields=ranged("2-4"))
    assert (answer.status, answer.body) == (206, b"234")
    halted.set()
    await stand.quiet()
    assert (await stand.ask()).body == WHOLE


@pytest.mark.parametrize(
    ("value", "length", "status"), [("0-0,5-5", 10, 206), ("3-4", None, 206), ("20-", 10, 416), ("20-", None, 416)]
)
async def test_what_must_be_whole_to_be_cut_is_awaited_and_served_from_the_store(value, length, status):
    stand = Stand(policy=ROUTE)
    stand.origin.script = [stand.says(FRESH, TEXT, ETAG, body=ChunkedBody(b"01234", b"56789", length=length))]
    answer = await stand.ask(fields=ranged(value))
    assert answer.status == status
    assert len(stand.origin.seen) == 1


async def test_where_it_cannot_be_kept_the_part_is_asked_for():
    stand = Stand(policy=ROUTE, mode=CacheMode(http=True, max_entry_bytes=8))
    stand.origin.script = [
        stand.says(FRESH, TEXT, ETAG, body=ChunkedBody(b"01234", b"56789")),
        part(stand, 3, 4, ETAG),
    ]
    answer = await stand.ask(fields=ranged("3-4"))
    assert (answer.status, answer.body) == (206, b"34")
    assert stand.sent()["range"] == "bytes=3-4"


@pytest.mark.parametrize(("fields", "status", "body"), [([], 200, WHOLE), (ranged("6-7"), 206, b"67")])
async def test_who_waited_for_the_whole_does_not_get_the_part_that_another_asked_for_instead(fields, status, body):
    stand = Stand(policy=ROUTE, mode=CacheMode(http=True, max_entry_bytes=8))
    long = [stand.says(FRESH, TEXT, ETAG, ("Content-Length", "10"), body=ChunkedBody(WHOLE, length=10)) for _ in "12"]
    stand.origin.script = [long[0], part(stand, 3, 4, ETAG), part(stand, 6, 7, ETAG) if fields else long[1]]
    stand.door.opened.clear()
    first = stand.begin(fields=ranged("3-4"))
    await stand.quiet()
    second = stand.begin(fields=fields)
    await stand.quiet()
    stand.door.opened.set()
    assert ((await first).status, (await first).body) == (206, b"34")
    assert ((await second).status, (await second).body) == (status, body)


async def test_an_answer_too_long_to_be_stored_is_asked_for_in_parts_from_then_on():
    stand = Stand(policy=ROUTE, mode=CacheMode(http=True, max_entry_bytes=8))
    long = ChunkedBody(WHOLE, length=10)
    stand.origin.script = [
        stand.says(FRESH, TEXT, ETAG, ("Content-Length", "10"), body=long),
        part(stand, 3, 4, ETAG),
        part(stand, 0, 1, ETAG),
    ]
    answer = await stand.ask(fields=ranged("3-4", ("If-Range", '"v1"')))
    assert (answer.status, answer.body, long.closed) == (206, b"34", True)
    assert (stand.sent()["range"], stand.sent()["if-range"]) == ("bytes=3-4", '"v1"')
    assert (await stand.ask(fields=ranged("0-1"))).body == b"01"
    assert len(stand.origin.seen) == 3
    for value, body in (("3-4", b"34"), ("0-1", b"01")):
        again = await stand.ask(fields=ranged(value))
        assert (again.body, again.trail.cache) == (body, "hit")


async def test_what_must_not_be_stored_is_given_whole_once_and_then_in_parts():
    stand = Stand(policy=ROUTE)
    never = ("Cache-Control", "no-store")
    stand.origin.script = [stand.says(never, TEXT, body=WHOLE), stand.says(never, TEXT, status=206, body=b"01")]
    assert (await stand.ask(fields=ranged("0-1"))).status == 200
    assert (await stand.ask(fields=ranged("0-1"))).status == 206
    assert stand.sent()["range"] == "bytes=0-1"


async def test_several_who_want_parts_share_one_question():
    stand = Stand(policy=ROUTE)
    stand.door.opened.clear()
    stand.origin.script = [whole(stand, ETAG)]
    asked = [stand.begin(fields=ranged(f"{at}-{at}")) for at in range(5)]
    await stand.quiet()
    stand.door.opened.set()
    assert [answer.body for answer in await asyncio.gather(*asked)] == [b"0", b"1", b"2", b"3", b"4"]
    assert len(stand.origin.seen) == 1


async def test_a_stale_answer_is_validated_and_its_part_served():
    stand = await stored(ETAG)
    await stand.clock.advance(200)
    stand.origin.script = [stand.says(FRESH, ETAG, status=304)]
    answer = await stand.ask(fields=ranged("2-3"))
    assert (answer.status, answer.body) == (206, b"23")
    assert "range" not in stand.sent()


# ---- stored parts ------------------------------------------------------------------------------------------------------


async def parted(*spans, fields=(ETAG,)):
    stand = Stand(policy=BARE)
    for first, last in spans:
        stand.origin.script.append(part(stand, first, last, *fields))
        assert (await stand.ask(fields=ranged(f"{first}-{last}"))).body == WHOLE[first : last + 1]
    return stand


async def test_without_a_route_the_part_is_asked_for_and_stored():
    stand = await parted((2, 6))
    assert stand.sent()["range"] == "bytes=2-6"
    for value, body in (("2-6", b"23456"), ("3-4", b"34"), ("6-6", b"6")):
        answer = await stand.ask(fields=ranged(value))
        assert (answer.status, answer.body, answer.trail.cache) == (206, body, "hit")
    assert (await stand.ask(fields=ranged("3-3"))).headers["content-range"] == "bytes 3-3/10"
    assert len(stand.origin.seen) == 1
    assert len(stand.observer.of(EntryStored)) == 1


async def test_parts_of_one_representation_are_joined():
    stand = await parted((0, 1), (6, 7))
    both = await stand.ask(fields=ranged("0-1,6-7"))
    assert both.headers["content-type"].startswith("multipart/byteranges")
    assert b"\r\n\r\n67\r\n" in both.body
    stand.origin.script = [part(stand, 2, 5, ETAG)]
    assert (await stand.ask(fields=ranged("2-5"))).cache.startswith("passoproxy; fwd=partial; fwd-status=206")
    assert (await stand.ask(fields=ranged("1-6"))).body == b"123456"
    assert len(stand.origin.seen) == 3


async def test_parts_that_make_the_whole_answer_for_it():
    stand = await parted((0, 4), (5, 9))
    answer = await stand.ask()
    assert (answer.status, answer.body, answer.trail.cache) == (200, WHOLE, "hit")
    assert "content-range" not in answer.headers


async def test_a_206_that_holds_everything_is_stored_as_the_whole():
    stand = await parted((0, 9), fields=())
    answer = await stand.ask()
    assert (answer.status, answer.body, answer.trail.cache) == (200, WHOLE, "hit")


@pytest.mark.parametrize("second", [(), (("ETag", '"v2"'),)])
async def test_parts_of_different_representations_are_never_joined(second):
    stand = await parted((0, 1))
    stand.origin.script = [part(stand, 2, 3, *second), part(stand, 0, 1, *second)]
    assert (await stand.ask(fields=ranged("2-3"))).body == b"23"
    assert (await stand.ask(fields=ranged("2-3"))).trail.cache == "hit"
    assert (await stand.ask(fields=ranged("0-1"))).trail.cache == "miss"


async def test_a_part_is_completed_by_its_rest():
    stand = await parted((0, 4))
    stand.origin.script = [part(stand, 5, 9, ETAG, ("X", "new"))]
    answer = await stand.ask()
    assert (answer.status, answer.body) == (200, WHOLE)
    assert answer.cache.startswith("passoproxy; fwd=partial; fwd-status=206")
    assert (stand.sent()["range"], stand.sent()["if-range"]) == ("bytes=5-", '"v1"')
    again = await stand.ask()
    assert (again.trail.cache, again.headers["x"], again.headers["content-length"]) == ("hit", "new", "10")


async def test_the_rest_of_what_has_changed_is_the_whole():
    stand = await parted((0, 4))
    stand.origin.script = [whole(stand, ("ETag", '"v2"'), body=b"abcdefghij")]
    assert (await stand.ask()).body == b"abcdefghij"
    assert (await stand.ask()).body == b"abcdefghij"


@pytest.mark.parametrize("answer", ["another", "untagged", "416", "gap", "no-store"])
async def test_a_rest_that_does_not_fit_is_asked_for_as_a_whole(answer):
    stand = await parted((0, 4))
    stand.origin.script = [
        {
            "another": part(stand, 5, 9, ("ETag", '"v2"')),
            "untagged": part(stand, 5, 9),
            "416": stand.says(status=416),
            "gap": part(stand, 6, 9, ETAG),
            "no-store": stand.says(
                ("Cache-Control", "no-store"), ("Content-Range", "bytes 5-9/10"), ETAG, status=206, body=b"56789"
            ),
        }[answer],
        whole(stand, ("ETag", '"v2"'), body=b"abcdefghij"),
    ]
    got = await stand.ask()
    assert (got.status, got.body) == (200, b"abcdefghij")
    assert not {"range", "if-range"} & set(stand.sent())


async def test_without_a_validator_the_rest_is_asked_for_and_the_whole_if_only_that_comes():
    stand = await parted((0, 4), fields=())
    stand.origin.script = [part(stand, 5, 9), whole(stand)]
    assert (await stand.ask()).body == WHOLE
    assert [("Range" in each.head.fields, "If-Range" in each.head.fields) for each in stand.origin.seen[1:]] == [
        (True, False),
        (False, False),
    ]


async def test_a_part_answers_no_head_and_nothing_offline_but_itself():
    stand = await parted((0, 4))
    stand.origin.script = [response(200, [("Content-Length", "10")])]
    assert (await stand.ask(method="HEAD")).status == 200
    assert "range" not in stand.sent()
    with pytest.raises(Offline):
        await stand.ask(fields=[("Cache-Control", "only-if-cached")])
    assert (await stand.ask(fields=ranged("0-1", ("Cache-Control", "only-if-cached")))).body == b"01"


async def test_a_stale_part_is_validated():
    stand = await parted((0, 4))
    await stand.clock.advance(200)
    stand.origin.script = [stand.says(FRESH, ETAG, status=304)]
    assert (await stand.ask(fields=ranged("1-2"))).body == b"12"
    assert stand.sent()["if-none-match"] == '"v1"'
    assert (await stand.ask(fields=ranged("1-2"))).trail.cache == "hit"


async def test_a_part_never_takes_the_place_of_a_whole_answer():
    stand = Stand(policy=BARE)
    stand.origin.script = [whole(stand)]
    await stand.ask()
    await stand.clock.advance(200)
    stand.origin.script = [part(stand, 0, 1)]
    assert (await stand.ask(fields=ranged("0-1"))).status == 206
    stand.origin.script = [stand.says(status=500)]
    policy = RoutePolicy(stale_if_error=600.0)
    assert (await stand.ask(policy=policy)).body == WHOLE


@pytest.mark.parametrize(
    "fields",
    [
        [("Content-Range", "bytes 0-4/*")],
        [("Content-Range", "bytes 0-4/10"), ("Content-Length", "4")],
        [("Content-Range", "bytes 4-9/10"), ("Content-Length", "5")],
        [],
        [("Content-Range", "bytes 0-4/10"), ("Cache-Control", "no-store")],
    ],
)
async def test_a_206_that_does_not_say_what_it_is_is_passed_on_and_not_stored(fields):
    stand = Stand(policy=BARE)
    stand.origin.script = [stand.says(*fields, *([] if len(fields) > 1 else [FRESH]), status=206, body=b"01234")] * 2
    for _ in range(2):
        answer = await stand.ask(fields=ranged("0-4"))
        assert (answer.status, answer.body, answer.trail.cache) == (206, b"01234", "miss")


@pytest.mark.parametrize("body", [b"012", b"0123456"])
async def test_a_206_of_another_length_than_it_says_is_not_kept(body):
    stand = Stand(policy=BARE)
    stand.origin.script = [
        stand.says(FRESH, ETAG, ("Content-Range", "bytes 0-4/10"), status=206, body=ChunkedBody(body)),
        part(stand, 0, 4, ETAG),
    ]
    await stand.ask(fields=ranged("0-4"))
    assert (await stand.ask(fields=ranged("0-4"))).trail.cache == "miss"
    stand.origin.script = [
        stand.says(FRESH, ETAG, ("Content-Range", "bytes 5-9/10"), status=206, body=ChunkedBody(body))
    ]
    with pytest.raises(OriginInvalid):
        await stand.ask(fields=ranged("5-9"))


async def test_a_part_that_breaks_off_while_it_is_joined_is_a_failure():
    stand = await parted((0, 4))
    stand.origin.script = [part(stand, 5, 9, ETAG, body=ChunkedBody(b"56", BROKEN, length=5))]
    with pytest.raises(OriginUnreachable):
        await stand.ask(fields=ranged("5-9"))
    assert (await stand.ask(fields=ranged("0-4"))).trail.cache == "hit"


async def test_a_206_nobody_asked_for_is_not_stored():
    stand = Stand(policy=BARE)
    stand.origin.script = [part(stand, 0, 4, ETAG)] * 2
    assert [(await stand.ask()).trail.cache for _ in range(2)] == ["miss", "miss"]


async def test_joining_fails_where_the_stored_part_is_lost_or_the_store_has_no_room():
    for lose in ("lost", "room"):
        stand = await parted((0, 4))
        if lose == "lost":
            stand.store.read = _nothing
        else:
            stand.cache.mode = CacheMode(http=True, max_entry_bytes=7)
        stand.origin.script = [part(stand, 5, 9, ETAG), whole(stand, ETAG)]
        assert (await stand.ask()).body == WHOLE
        assert len(stand.origin.seen) == 3


async def _nothing(entry):
    return None


# ---- cutting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [[WHOLE], [WHOLE[:3], WHOLE[3:4], WHOLE[4:]], [bytes([each]) for each in WHOLE]])
@pytest.mark.parametrize(
    ("cuts", "end", "given"),
    [
        ([(b"", 0, 10)], b"", WHOLE),
        ([(b"", 3, 4)], b"", b"3456"),
        ([(b"", 9, 1)], b"", b"9"),
        ([(b"<", 0, 2), (b"|", 5, 3)], b">", b"<01|567>"),
        ([(b"<", 0, 3), (b"|", 3, 7)], b">", b"<012|3456789>"),
    ],
)
async def test_parts_are_cut_as_the_body_comes(chunks, cuts, end, given):
    body = ChunkedBody(*chunks)
    cut = CutBody(body, cuts, end)
    assert b"".join([piece async for piece in cut]) == given
    assert cut.length == len(given)
    assert body.closed
    await cut.aclose()


async def test_a_cut_body_can_be_closed_before_its_end():
    body = ChunkedBody(WHOLE)
    await CutBody(body, [(b"", 0, 1)], b"").aclose()
    assert body.closed


@pytest.mark.parametrize(
    ("method", "value", "is_one"), [("GET", "bytes=0-1", True), ("HEAD", "bytes=0-1", False), ("GET", "bytes=x", False)]
)
def test_what_is_a_request_for_ranges(method, value, is_one):
    assert is_ranged(RequestHead(method, "/", fields_of([("Range", value)]))) is is_one
    assert BytesBody(b"").length == 0
