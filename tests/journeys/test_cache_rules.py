"""The cache's rules as a client of the whole daemon meets them, before an origin that says what each rule is about (contract §5, §7)."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripted_origin import Asked, Says, scene

FRESH = ("Cache-Control", "max-age=60")
JSON = ("Content-Type", "application/json")
TEXT = ("Content-Type", "text/plain")
LONG = b"one line as good as another\n" * 200
ENCODED = ("Accept-Encoding", "gzip")
PLAIN = ("Accept-Encoding", "identity")

# ---- fields that describe bytes (RFC 9110 §8, RFC 9530) ------------------------------------------------------------------

OF_THE_BYTES = (
    ("Repr-Digest", "sha-256=:AAAA:"),
    ("Content-Digest", "sha-256=:AAAA:"),
    ("Digest", "sha-256=AAAA"),
    ("Content-MD5", "AAAA"),
    ("Accept-Ranges", "bytes"),
)
NAMES = {name for name, _ in OF_THE_BYTES}
OF_A_PART = {"Repr-Digest", "Digest", "Accept-Ranges"}

DESCRIBED: dict[str, tuple[list[tuple[str, str]], set[str]]] = {
    "as it is": ([], NAMES),
    "encoded": ([ENCODED], set()),
    "a part": ([("Range", "bytes=0-9")], OF_A_PART),
    "several parts": ([("Range", "bytes=0-9,20-29")], OF_A_PART),
    "no such part": ([("Range", "bytes=9999-")], {"Accept-Ranges"}),
    "not modified": ([("If-None-Match", '"v1"')], set()),
    "not modified, encoded": ([("If-None-Match", '"v1-gzip"'), ENCODED], set()),
}


@pytest.mark.parametrize("stored", [True, False])
async def test_no_answer_carries_what_describes_other_bytes(tmp_path: Path, stored: bool) -> None:
    def answer(asked: Asked) -> Says:
        return Says(200, [FRESH, TEXT, ("ETag", '"v1"'), *OF_THE_BYTES], LONG)

    async with scene(tmp_path, answer) as it:
        for number, (what, (fields, left)) in enumerate(DESCRIBED.items()):
            if stored:
                await it.ask(f"/{number}")
            only_get = "part" in what or (not stored and "modified" in what)  # it is the origin that answers a HEAD
            for method in ("GET",) if only_get else ("HEAD", "GET"):
                found = await it.ask(f"/{number}", method, fields)
                assert {name for name in NAMES if found[name]} == left, (what, method)
                assert ("hit" in found.cache) is stored or method == "GET"
                if method == "GET" and found["Content-Length"]:
                    assert int(found["Content-Length"]) == len(found.body)


async def test_rewritten_links_leave_nothing_that_describes_the_origins_bytes(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Says:
        body = json.dumps({"next": f"{it.origin.url}/y"}).encode()
        return Says(200, [FRESH, JSON, ("ETag", '"v1"'), ("Unencoded-Digest", "sha-256=:AAAA:"), *OF_THE_BYTES], body)

    async with scene(tmp_path, answer) as it:
        for _ in range(2):
            found = await it.ask()
            assert found.body == json.dumps({"next": f"{it.daemon.proxy}/y"}).encode()
            assert not {name for name in {*NAMES, "Unencoded-Digest"} if found[name]}
            assert found["ETag"] == 'W/"v1"'


async def test_what_describes_a_part_does_not_describe_the_whole(tmp_path: Path) -> None:
    whole = bytes(range(100))

    def answer(asked: Asked) -> Says:
        first, last = (asked["Range"] or "bytes=0-99").removeprefix("bytes=").split("-")
        part = whole[int(first) : int(last or 99) + 1]
        fields = [FRESH, ("ETag", '"v1"'), ("Content-Range", f"bytes {first}-{last or 99}/100"), *OF_THE_BYTES]
        return Says(206, fields, part)

    async with scene(tmp_path, answer) as it:
        assert (await it.ask(fields=[("Range", "bytes=0-49")])).status == 206
        found = await it.ask()
        assert (found.status, found.body) == (200, whole)
        assert {name for name in NAMES if found[name]} == OF_A_PART


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_without_the_content_does_not_describe_the_stored_one(tmp_path: Path, method: str) -> None:
    said = iter([200, 304 if method == "GET" else 200])

    def answer(asked: Asked) -> Says:
        status = next(said)
        digest = "sha-256=:AAAA:" if len(it.origin.asked) == 1 else "sha-256=:bm90aGluZw==:"  # of nothing (RFC 9530 §2)
        fields = [FRESH, TEXT, ("ETag", '"v1"'), ("Content-Digest", digest), ("Content-Length", str(len(LONG)))]
        return Says(status, fields, LONG)

    async with scene(tmp_path, answer) as it:
        await it.ask()
        await it.ask(method=method, fields=[("Cache-Control", "no-cache")])
        assert (await it.ask())["Content-Digest"] == "sha-256=:AAAA:"
        assert len(it.origin.asked) == 2


# ---- keys ----------------------------------------------------------------------------------------------------------------


async def test_a_query_that_php_reads_otherwise_is_another_key(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Says:
        return Says(200, [FRESH, TEXT], asked.target.encode())

    async with scene(tmp_path, answer) as it:
        for one, other in (("a.b=1", "a_b=2"), ("a+b=1", "a_b=2"), ("a%5Bb=1", "a_b=2"), ("a%5B%5D=1", "a%5B0%5D=2")):
            for target in (f"/x?{one}&{other}", f"/x?{other}&{one}"):
                assert (await it.ask(target)).body == target.encode()
        assert "hit" in (await it.ask("/x?a_b=2&a.b=1")).cache
        assert (await it.ask("/x?c=1&a.b=2")).body == (await it.ask("/x?a.b=2&c=1")).body


async def test_names_of_a_route_count_as_php_reads_them(tmp_path: Path) -> None:
    route = {
        "name": "all",
        "match": "/**",
        "methods": ["GET", "POST"],
        "key": {"ignore_query": ["utm_source"]},
        "bypass_when": {"query_has": ["mark.visited"], "body_has": ["größe"]},
    }
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    async with scene(tmp_path, lambda _: Says(200, [FRESH, TEXT]), routes=[route]) as it:
        await it.ask("/x?a=1")
        for target in ("/x?a=1&utm.source=2", "/x?utm%5Bsource=3&a=1"):
            assert "hit" in (await it.ask(target)).cache
        for target in ("/x?mark_visited=1", "/x?mark%20visited=1", "/x?mark.visited%5B%5D=1"):
            assert "fwd=bypass" in (await it.ask(target)).cache
        for body in ("größe=1", "gr%C3%B6%C3%9Fe=1"):
            assert "fwd=bypass" in (await it.ask("/x", "POST", form, body.encode())).cache


# ---- ranges, HEAD --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["pages=0-1", "items=0-24", "0-24"])
async def test_a_range_in_an_unknown_unit_gets_the_whole_of_what_is_stored_and_else_what_the_origin_says(
    tmp_path: Path, unit: str
) -> None:
    """RFC 9110 §14.2."""

    def answer(asked: Asked) -> Says:
        if asked["Range"] == unit:
            return Says(206, [FRESH, JSON, ("Content-Range", f"{unit}/99")], b'["some"]')
        return Says(200, [FRESH, JSON], b'["all"]')

    ranged = [("Range", unit)]
    async with scene(tmp_path, answer) as it:
        for _ in range(2):
            found = await it.ask(fields=ranged)
            assert (found.status, found.body) == (206, b'["some"]')
            assert "fwd=bypass" in found.cache
        await it.ask()
        found = await it.ask(fields=ranged)
        assert (found.status, found.body) == (200, b'["all"]')
        assert "hit" in found.cache
        assert (await it.ask(fields=[*ranged, ("Cache-Control", "only-if-cached")])).body == b'["all"]'
        assert (await it.ask("/y", fields=[*ranged, ("Cache-Control", "only-if-cached")])).status == 504
        assert len(it.origin.asked) == 3


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("ranged", [False, True])
async def test_what_a_head_finds_gone_is_stale(tmp_path: Path, status: int, ranged: bool) -> None:
    """RFC 9111 §4.3.5."""

    def answer(asked: Asked) -> Says:
        if asked.method == "HEAD":
            return Says(status)
        if asked["If-None-Match"] == '"v1"':
            return Says(304, [FRESH, ("ETag", '"v1"')])
        part = [("Content-Range", "bytes 0-3/5600")] if asked["Range"] else []
        return Says(206 if part else 200, [FRESH, TEXT, ("ETag", '"v1"'), *part], LONG[:4] if part else LONG)

    fields = [("Range", "bytes=0-3")] if ranged else []
    async with scene(tmp_path, answer) as it:
        for _ in range(2):
            first = await it.ask(fields=fields)
            assert "hit" in (await it.ask(fields=fields)).cache
            assert (await it.ask(method="HEAD", fields=[("Cache-Control", "no-cache")])).status == status
            asked = len(it.origin.asked)
            again = await it.ask(fields=fields)
            assert (again.status, again.body) == (first.status, first.body)
            assert len(it.origin.asked) == asked + 1
            assert "hit" in (await it.ask(fields=fields)).cache


@pytest.mark.parametrize("status", [412, 416])
async def test_what_answers_a_range_or_a_condition_answers_no_other_request(tmp_path: Path, status: int) -> None:
    def answer(asked: Asked) -> Says:
        return Says(status if asked["Range"] or asked["If-None-Match"] else 200, [FRESH, TEXT], LONG)

    async with scene(tmp_path, answer) as it:
        for target, fields in (("/x", ("Range", "bytes=99999-")), ("/y", ("If-None-Match", '"x"'))):
            assert (await it.ask(target, fields=[fields])).status == status
            assert (await it.ask(target)).status == 200


# ---- conditions ----------------------------------------------------------------------------------------------------------


def guarded(tag: str, *, links: bool = False) -> Callable[[Asked], Says]:
    """An origin that answers a write only to the right `If-Match`, compared strongly (RFC 9110 §13.1.1)."""

    def answer(asked: Asked) -> Says:
        given = [each.strip() for each in (asked["If-Match"] or "").split(",")]
        if asked["If-Match"] is not None and (tag not in given or tag.startswith("W/")):
            return Says(412)
        body = LONG.replace(b"one", f'"http://{asked["Host"]}/"'.encode()) if links else LONG
        kind = JSON if links else TEXT
        return Says(200, [FRESH, kind, ("ETag", tag)], body if asked.method == "GET" else b"done")

    return answer


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_forms_of_a_tag_are_turned_back_in_if_match(tmp_path: Path, stored: bool, method: str) -> None:
    """RFC 9110 §13.1.1; what was turned into another form goes back as the one that the origin gave."""
    control = [] if stored else [("Cache-Control", "no-store")]
    for number, (links, accepted) in enumerate(((False, ENCODED), (True, ENCODED), (False, PLAIN), (True, PLAIN))):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with scene(folder, guarded('"v1"', links=links)) as it:
            tag = (await it.ask(fields=[accepted, *control]))["ETag"]
            assert tag in {'"v1-gzip"', '"v1"', 'W/"v1"'}
            other = f'"v0", {tag}'
            for given in (tag, other):
                assert (await it.ask(method=method, fields=[accepted, ("If-Match", given)])).status == 200, given
            assert (await it.ask(method=method, fields=[("If-Match", '"v0-gzip"')])).status == 412
            if stored and method == "GET":  # what is known goes as the one tag that it is
                assert it.origin.asked[1]["If-Match"] == '"v1"'


async def test_an_origins_own_tag_that_looks_like_a_form_is_left_to_it(tmp_path: Path) -> None:
    for number, tag in enumerate(('"v1-gzip"', '"v1-br"')):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with scene(folder, guarded(tag)) as it:
            assert (await it.ask(method="PUT", fields=[("If-Match", tag)])).status == 200
            assert (await it.ask(fields=[PLAIN]))["ETag"] == tag
            assert (await it.ask(method="PUT", fields=[("If-Match", tag)])).status == 200
            assert it.origin.asked[-1]["If-Match"] == tag
            await it.ask("/y", method="PUT", fields=[("If-Match", 'W/"x"')])  # some compare weakly
            assert 'W/"x"' in (it.origin.asked[-1]["If-Match"] or "")


async def test_a_made_tag_never_goes_to_the_origin(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Says:
        return Says(200, [FRESH, TEXT], LONG)

    async with scene(tmp_path, answer) as it:
        made = (await it.ask())["ETag"]
        assert made is not None
        assert made.startswith('W/"')
        for method, name, control, status in (
            ("PUT", "If-Match", "", 412),
            ("GET", "If-Match", "", 412),
            ("PUT", "If-None-Match", "", 200),
            ("GET", "If-None-Match", "no-store", 200),
            ("GET", "If-Range", "no-store", 200),
        ):
            for given, expected in ((made, status), (f'{made}, "own"', 200)):
                if name == "If-Range" and given != made:
                    continue
                fields = [(name, given), ("Range", "bytes=0-3")] if name == "If-Range" else [(name, given)]
                found = await it.ask("/z", method, [*fields, ("Cache-Control", control)] if control else fields)
                assert found.status == expected, (method, name, given)
                if expected == 412:
                    assert json.loads(found.body)["code"] == "precondition_failed"
        sent = [value for each in it.origin.asked for value in each.fields.values()]
        assert not [value for value in sent if "pp-" in value]
        assert not [each for each in it.origin.asked if each["Range"]]
        assert [each["If-Match"] for each in it.origin.asked if each["If-Match"]] == ['"own"'] * 2


@pytest.mark.parametrize("given", ["*", "v1", '"v1', "", 'W/"x" "y"'])
async def test_an_if_match_that_is_no_list_of_our_tags_goes_as_it_is(tmp_path: Path, given: str) -> None:
    async with scene(tmp_path, lambda _: Says(200, [TEXT], LONG)) as it:
        await it.ask(method="PUT", fields=[("If-Match", given)])
        assert it.origin.asked[0]["If-Match"] == given


# ---- cookies: pass -------------------------------------------------------------------------------------------------------

WITH_COOKIES = {
    "name": "all",
    "match": "/**",
    "cookies": "pass",
    "ttl": "1h",
    "override": True,
    "stale_while_revalidate": "1h",
    "stale_if_error": "1h",
}
OWN_WORDS = {
    "private": [("Cache-Control", "private, max-age=60")],
    "nothing": [],
    "tag": [("ETag", '"of {}"')],
    "no-cache": [("Cache-Control", "no-cache"), ("ETag", '"of {}"')],
    "stale": [("Cache-Control", "max-age=0"), ("ETag", '"of {}"')],
    "no-store": [("Cache-Control", "no-store")],
}


def personal(fields: list[tuple[str, str]]) -> Callable[[Asked], Says]:
    """An origin that answers each cookie with something of its own."""

    def answer(asked: Asked) -> Says:
        who = asked["Cookie"] or "nobody"
        own = [(name, value.format(who)) for name, value in fields]
        if asked["If-None-Match"] and dict(own).get("ETag") in asked["If-None-Match"].split(", "):
            return Says(304, own)
        return Says(200, [TEXT, *own], f"for {who}".encode())

    return answer


@pytest.mark.parametrize("mode", ["routes", "http"])
@pytest.mark.parametrize("override", [True, False])
async def test_a_cookie_is_served_nothing_by_the_routes_word(tmp_path: Path, mode: str, override: bool) -> None:
    def answer(asked: Asked) -> Says:
        return personal(OWN_WORDS[asked.target[1:]])(asked)

    route = {**WITH_COOKIES, "override": override}
    async with scene(tmp_path, answer, cache={"mode": mode}, routes=[route]) as it:
        for word in OWN_WORDS:
            for who in ("a", None, "b", "a", None, "b"):
                found = await it.ask(f"/{word}", fields=[("Cookie", who)] if who else [])
                assert found.body == f"for {who or 'nobody'}".encode(), word
                assert "detail=OVERRIDE" not in found.cache or who is None
        it.origin.answer = lambda _: Says(503)
        for word in OWN_WORDS:
            assert (await it.ask(f"/{word}", fields=[("Cookie", "a")])).status == 503


async def test_without_a_cookie_the_routes_word_counts(tmp_path: Path) -> None:
    async with scene(tmp_path, personal(OWN_WORDS["private"]), routes=[WITH_COOKIES]) as it:
        for _ in range(3):
            await it.ask()
            await it.ask(fields=[("Cookie", "a")])
        assert [each["Cookie"] for each in it.origin.asked] == [None, "a", "a", "a"]


async def test_a_cookie_is_served_by_the_origins_own_freshness(tmp_path: Path) -> None:
    async with scene(tmp_path, personal([FRESH]), cache={"mode": "routes"}, routes=[WITH_COOKIES]) as it:
        assert "stored" in (await it.ask(fields=[("Cookie", "a")])).cache
        for who in ("b", "a"):
            found = await it.ask(fields=[("Cookie", who)])
            assert (found.body, "hit" in found.cache) == (b"for a", True)  # the origin says that it is for all
        it.origin.answer = personal([FRESH, ("Vary", "Cookie")])
        for _ in range(2):
            for who in ("a", "b"):
                assert (await it.ask("/y", fields=[("Cookie", who)])).body == f"for {who}".encode()
        assert len(it.origin.of("/y")) == 2


async def test_requests_of_other_cookies_do_not_wait_for_one_another(tmp_path: Path) -> None:
    both, later = asyncio.Event(), personal([("Cache-Control", "no-cache"), ("ETag", '"of {}"')])

    async def answer(asked: Asked) -> Says:
        if len({each["Cookie"] for each in it.origin.asked}) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 20)
        return later(asked)

    async with scene(tmp_path, answer, routes=[WITH_COOKIES]) as it:
        found = await asyncio.gather(*(it.ask(fields=[("Cookie", who)]) for who in "abab"))
        assert [each.body for each in found] == [b"for a", b"for b", b"for a", b"for b"]


# ---- content hashes ------------------------------------------------------------------------------------------------------


async def test_a_small_answer_that_becomes_a_huge_json_costs_no_memory(tmp_path: Path) -> None:
    bomb = gzip.compress(b'{"requestid": 1, "a": [' + b"[]," * 2_700_000 + b"1]}", 9)
    assert len(bomb) < 16 * 1024
    route = {"name": "all", "match": "/**", "volatile_fields": ["requestid"]}
    async with scene(
        tmp_path, lambda _: Says(200, [FRESH, JSON, ("Content-Encoding", "gzip")], bomb), routes=[route]
    ) as it:
        tracemalloc.start()
        try:
            found = await it.ask(fields=[ENCODED])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert found["ETag"]
        assert peak < 32 * 1024 * 1024


async def test_what_changes_on_every_call_does_not_change_a_made_tag(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Says:
        number = len(it.origin.asked)
        return Says(200, [FRESH, JSON], json.dumps({"requestid": number, "data": [{"took": number}]}).encode())

    route = {"name": "all", "match": "/**", "volatile_fields": ["requestid", "data.took"]}
    async with scene(tmp_path, answer, routes=[route]) as it:
        first = await it.ask()
        again = await it.ask(fields=[("Cache-Control", "no-cache")])
        assert first.body != again.body
        assert first["ETag"]
        assert first["ETag"] == again["ETag"]


# ---- eviction ------------------------------------------------------------------------------------------------------------


async def test_what_is_asked_for_again_and_again_outlives_a_flood(tmp_path: Path) -> None:
    """Though the flood fills the store several times before use is written down."""
    cache = {"mode": "http", "memory_size": 0, "max_size": "8MiB", "max_entry_size": "1MiB"}
    async with scene(tmp_path, lambda _: Says(200, [FRESH, TEXT], os.urandom(128 * 1024)), cache=cache) as it:
        await it.ask("/favourite")
        for number in range(180):
            if number % 3 == 0:
                assert "hit" in (await it.ask("/favourite")).cache, number
            await it.ask(f"/{number}")
        stats = await it.daemon.wired.store.stats()
        assert stats.evictions > 60


# ---- what an answer says of another one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 302, 404, 410])
async def test_an_answer_that_may_not_be_stored_ends_the_freshness_of_the_one_before(
    tmp_path: Path, status: int
) -> None:
    """Else who forces a reload would be the only one to see what holds now."""

    def answer(asked: Asked) -> Says:
        if len(it.origin.asked) == 1:
            return Says(200, [FRESH, TEXT, ("ETag", '"v1"')], LONG)
        return Says(status, [("Cache-Control", "no-store"), TEXT], b"changed")

    async with scene(tmp_path, answer) as it:
        await it.ask()
        assert (await it.ask(fields=[("Cache-Control", "no-cache")])).status == status
        found = await it.ask()
        assert (found.status, found.body) == (status, b"changed")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_a_failure_says_nothing_of_what_is_stored(tmp_path: Path, status: int) -> None:
    def answer(asked: Asked) -> Says:
        return Says(200, [FRESH, TEXT], LONG) if len(it.origin.asked) == 1 else Says(status, [TEXT])

    async with scene(tmp_path, answer) as it:
        await it.ask()
        await it.ask(fields=[("Cache-Control", "no-cache")])
        assert "hit" in (await it.ask()).cache


async def test_an_answer_that_must_be_validated_each_time_is_given_to_nobody_who_waited_for_it(tmp_path: Path) -> None:
    """RFC 9111 §4 (collapsed requests), §5.2.2.4."""
    waiting = asyncio.Event()

    async def answer(asked: Asked) -> Says:
        if asked["If-None-Match"]:
            return Says(304, [("Cache-Control", "no-cache"), ("ETag", '"v1"')])
        await asyncio.wait_for(waiting.wait(), 20)
        return Says(200, [("Cache-Control", "no-cache"), ("ETag", '"v1"'), TEXT], LONG)

    async with scene(tmp_path, answer) as it:
        asking = [asyncio.ensure_future(it.ask()) for _ in range(3)]
        async with asyncio.timeout(20):
            while not it.origin.asked:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # so that the others are waiting; where they come later the same holds
        waiting.set()
        found = await asyncio.gather(*asking)
        assert [each.body for each in found] == [LONG] * 3
        assert len(it.origin.asked) >= 3


async def test_an_answer_to_one_cookie_does_not_keep_others_from_being_stored(tmp_path: Path) -> None:
    async with scene(tmp_path, personal([("Cache-Control", "private")]), routes=[WITH_COOKIES]) as it:
        await it.ask(fields=[("Cookie", "a")])
        await it.ask()
        assert "hit" in (await it.ask()).cache


# ---- ranges and conditions together --------------------------------------------------------------------------------------


async def test_a_stored_part_answers_a_condition_before_its_range(tmp_path: Path) -> None:
    """RFC 9110 §13.2.2."""

    def answer(asked: Asked) -> Says:
        return Says(206, [FRESH, TEXT, ("ETag", '"v1"'), ("Content-Range", "bytes 0-3/5600")], LONG[:4])

    part = ("Range", "bytes=0-3")
    async with scene(tmp_path, answer) as it:
        await it.ask(fields=[part])
        found = await it.ask(fields=[part, ("If-None-Match", '"v1"')])
        assert (found.status, found.body, len(it.origin.asked)) == (304, b"", 1)
        assert not found["Content-Range"]
        assert (await it.ask(fields=[part, ("If-None-Match", '"v0"')])).status == 206


@pytest.mark.parametrize("kind", [JSON, TEXT])
async def test_several_ranges_of_stored_parts_that_cannot_be_put_side_by_side_are_asked_for(
    tmp_path: Path, kind: tuple[str, str]
) -> None:
    whole = bytes(range(100))

    def answer(asked: Asked) -> Says:
        own = [FRESH, kind, ("ETag", '"v1"'), ("Content-Encoding", "gzip")]
        if asked["Range"] is None or "," in asked["Range"]:
            return Says(200, own, whole)
        first, last = (int(each) for each in asked["Range"].removeprefix("bytes=").split("-"))
        return Says(206, [*own, ("Content-Range", f"bytes {first}-{last}/100")], whole[first : last + 1])

    async with scene(tmp_path, answer, upstream={"rewrite_absolute_urls": False}) as it:
        for ranges in ("bytes=0-9", "bytes=20-29"):
            assert (await it.ask(fields=[ENCODED, ("Range", ranges)])).status == 206
        found = await it.ask(fields=[ENCODED, ("Range", "bytes=0-4,20-24")])
        assert (found.status, found.body) == (200, whole)


async def test_the_tags_of_if_none_match_count_over_all_lines(tmp_path: Path) -> None:
    async with scene(tmp_path, lambda _: Says(200, [FRESH, TEXT, ("ETag", '"v1"')], LONG)) as it:
        await it.ask()
        for lines in (('"v0-gzip"', '"v1"'), ('"v1-gzip"', '"v0"')):
            assert (await it.ask(fields=[("If-None-Match", each) for each in lines])).status == 304


async def test_no_transform_forbids_to_encode_but_not_to_undo_what_the_client_cannot_read(tmp_path: Path) -> None:
    """The origin was told that gzip is taken, which the client never said."""
    body = gzip.compress(LONG)

    def answer(asked: Asked) -> Says:
        coded = [] if asked.target == "/plain" else [("Content-Encoding", "gzip")]
        return Says(200, [("Cache-Control", "max-age=60, no-transform"), TEXT, *coded], body if coded else LONG)

    async with scene(tmp_path, answer) as it:
        assert (await it.ask(fields=[ENCODED])).body == body
        assert (await it.ask(fields=[PLAIN])).body == LONG
        found = await it.ask("/plain", fields=[ENCODED])
        assert (found.body, found["Content-Encoding"]) == (LONG, None)


async def test_what_two_readers_could_take_for_two_types_is_no_key(tmp_path: Path) -> None:
    route = {"name": "all", "match": "/**", "methods": ["GET", "POST"]}
    kinds = ("application/json;profile=a", "application/json;profile=A", "application/json; Profile=a")

    def answer(asked: Asked) -> Says:
        return Says(200, [FRESH, TEXT], (asked["Content-Type"] or "").encode())

    async with scene(tmp_path, answer, routes=[route]) as it:
        found = [(await it.ask("/x", "POST", [("Content-Type", kind)], b"{}")).body.decode() for kind in kinds]
        assert found == [kinds[0], kinds[1], kinds[0]]
        twice = [("Content-Type", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")]
        assert "fwd=bypass" in (await it.ask("/x", "POST", twice, b"{}")).cache
