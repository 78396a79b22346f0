"""The first hop carries out what the rules say; the rules themselves are tested with the core."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from pathlib import Path

import pytest

from passoproxy.core.access import Admission, AdmissionPolicy, client_key
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.routes import RouteTable
from passoproxy.errors import (
    BodyTooLarge,
    ClientNotAllowed,
    HostNotAllowed,
    MethodNotAllowed,
    Offline,
    OriginNotAllowed,
    PathNotAllowed,
    Refusal,
)
from passoproxy.ports import BytesBody, Client, Request, Response, read_whole
from passoproxy.proxy.access import Access
from passoproxy.proxy.spool import Spools
from passoproxy.stores.spill import DiskSpill
from tests.fakes import ChunkedBody, ScriptedHop, request, response

PAGE = "https://app.example"
TABLE = RouteTable([RoutePolicy(match="/**", pass_client_authorization=True)], CacheMode())


def hop(*script: object, **policy: object) -> tuple[Access, ScriptedHop]:
    inner = ScriptedHop(list(script) or [response()])  # type: ignore[arg-type]
    admission = Admission(AdmissionPolicy(**policy))  # type: ignore[arg-type]
    return Access(inner, lambda: admission, TABLE, Spools()), inner


@pytest.mark.parametrize(
    ("method", "target", "refusal"),
    [
        ("TRACE", "/__internal/x?_method=trace", MethodNotAllowed),
        ("POST", "/__internal/x?_method=trace", MethodNotAllowed),
        ("POST", "/__internal/x?a=1", PathNotAllowed),
        ("POST", "/x?a=1", None),
    ],
)
def test_method_query_and_path_are_judged_in_this_order_each_time(
    method: str, target: str, refusal: type[Exception] | None
) -> None:
    access = hop()[0]
    for _ in range(2):
        with pytest.raises(refusal) if refusal else contextlib.nullcontext():
            access.placed(access.admission(), method, target)


async def test_what_may_pass_passes_untouched() -> None:
    outer, inner = hop()
    asked = request("POST", "/a?b", [("X-A", "1")], client=Client("10.0.0.1"))
    await outer.send(asked)
    assert [(each.head, each.body, each.client) for each in inner.seen] == [(asked.head, asked.body, asked.client)]


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (request(target="/__internal"), PathNotAllowed),
        (request("TRACE"), MethodNotAllowed),
        (request("POST", "/?_method=trace"), MethodNotAllowed),
        (request("POST", "/", [("Content-Type", "text/json")], BytesBody(b'{"_method": "trace"}')), MethodNotAllowed),
        (request(fields=[("Origin", "https://evil.example")]), OriginNotAllowed),
    ],
)
async def test_what_may_not_pass_is_refused_before_anyone_is_asked(asked: object, refusal: type[Refusal]) -> None:
    outer, inner = hop()
    with pytest.raises(refusal):
        await outer.send(asked)  # type: ignore[arg-type]
    assert inner.seen == []


async def test_the_host_is_judged_first() -> None:
    outer, _ = hop(allowed_hosts=("other",), client_keys=())
    with pytest.raises(HostNotAllowed):
        await outer.send(request(fields=[("Origin", "https://evil.example")]))


async def test_http_1_0_without_host_gets_the_first_allowed_host() -> None:
    outer, inner = hop(allowed_hosts=("first", "second"))
    asked = request()
    head = type(asked.head)("GET", "/", version=(1, 0))
    await outer.send(asked.with_head(head))
    assert inner.seen[0].head.authority == "first"


async def test_the_holder_of_a_key_becomes_the_clients_name() -> None:
    outer, inner = hop(client_keys=(client_key("shop", "k"),))
    asked = request(fields=[("X-Passoproxy-Key", "k"), ("Authorization", "Bearer own")], client=Client("10.0.0.1"))
    await outer.send(asked)
    assert inner.seen[0].client == Client("10.0.0.1", "shop")
    assert asked.trail.client == "shop"
    assert inner.seen[0].head.fields["Authorization"] == "Bearer own"


async def test_a_key_given_as_basic_authorization_stays_here() -> None:
    outer, inner = hop(client_keys=(client_key("shop", "k"),))
    await outer.send(request(fields=[("Authorization", "Basic " + b64encode(b"shop:k").decode()), ("X-A", "1")]))
    assert dict(inner.seen[0].head.fields) == {"X-A": "1"}


async def test_without_the_key_nobody_gets_in() -> None:
    outer, inner = hop(client_keys=(client_key("shop", "k"),))
    with pytest.raises(ClientNotAllowed):
        await outer.send(request())
    assert inner.seen == []


async def test_a_reload_counts_from_the_next_request_on() -> None:
    policies = [Admission(AdmissionPolicy()), Admission(AdmissionPolicy(allow_methods=()))]
    outer = Access(ScriptedHop([response()]), lambda: policies.pop(0), TABLE, Spools())
    await outer.send(request())
    with pytest.raises(MethodNotAllowed):
        await outer.send(request())


async def test_a_preflight_of_a_listed_page_is_answered_here_without_a_key() -> None:
    outer, inner = hop(allowed_origins=(PAGE,), client_keys=())
    body = ChunkedBody(b"a")
    fields = [("Origin", PAGE), ("Access-Control-Request-Method", "PUT")]
    answer = await outer.send(request("OPTIONS", "/", fields, body))
    assert (answer.head.status, answer.head.fields["Access-Control-Allow-Origin"]) == (204, PAGE)
    assert inner.seen == []
    assert body.closed


async def test_a_listed_page_may_read_answers_and_refusals() -> None:
    shared = Offline("nothing stored", (("X-A", "1"),))
    outer, _ = hop(response(), shared, shared, allowed_origins=(PAGE,))
    asked = request(fields=[("Origin", PAGE)])
    assert (await outer.send(asked)).head.fields["Access-Control-Allow-Origin"] == PAGE
    for _ in range(2):
        with pytest.raises(Offline) as refused:
            await outer.send(asked)
        assert [name for name, _ in refused.value.fields].count("Access-Control-Allow-Origin") == 1
    assert shared.fields == (("X-A", "1"),)
    with pytest.raises(PathNotAllowed) as denied:
        await outer.send(request(target="/__internal", fields=[("Origin", PAGE)]))
    assert ("Access-Control-Allow-Origin", PAGE) in denied.value.fields


FORM = [("Content-Type", "application/x-www-form-urlencoded")]


async def test_a_form_is_read_first_because_it_could_ask_for_a_forbidden_method() -> None:
    outer, inner = hop(response(), allow_methods=("GET", "POST"))
    with pytest.raises(MethodNotAllowed):
        await outer.send(request("POST", "/", FORM, ChunkedBody(b"a=b&_meth", b"od=delete")))
    await outer.send(request("POST", "/", FORM, ChunkedBody(b"a=b&_method", b"=post")))
    assert await read_whole(inner.seen[0].body, 100) == b"a=b&_method=post"
    body = ChunkedBody(*[b"a" * 100_000] * 11)
    with pytest.raises(BodyTooLarge):
        await outer.send(request("POST", "/", FORM, body))


async def test_a_long_body_passes_where_it_can_do_no_harm() -> None:
    class Reading:
        async def send(self, asked: Request) -> Response:
            return response(body=await read_whole(asked.body, 2_000_000) or b"")

    outer = Access(Reading(), hop()[0].admission, TABLE, Spools())
    for method in ("POST", "PUT"):
        answer = await outer.send(request(method, "/", FORM, ChunkedBody(*[b"a" * 100_000] * 11)))
        assert await read_whole(answer.body, 2_000_000) == b"a" * 1_100_000


async def test_long_bodies_that_are_searched_wait_on_disk_and_keep_nobody_out(tmp_path: Path) -> None:
    inner = ScriptedHop([response()], repeat=True)
    admission, spools = hop(allow_methods=("GET", "POST"))[0].admission, Spools(DiskSpill([tmp_path]))
    outer, gate = Access(inner, admission, TABLE, spools), asyncio.Event()

    class Slow(ChunkedBody):
        async def __anext__(self) -> bytes:
            if not self._chunks:
                await gate.wait()
            return await super().__anext__()

    bodies = [Slow(*[b"a" * 65_536] * 16) for _ in range(100)]
    slow = [asyncio.create_task(outer.send(request("POST", "/", FORM, body))) for body in bodies]
    async with asyncio.timeout(20):
        while any(body._chunks for body in bodies):
            await asyncio.sleep(0.001)
        assert spools.spill.used_bytes > 0
        await outer.send(request("POST", "/", FORM, ChunkedBody(b"a" * 100_000)))
        gate.set()
        assert [answer.head.status for answer in await asyncio.gather(*slow)] == [200] * 100
    assert spools.spill.used_bytes == 0


# ---- which route a request lives under, and what does not leave

CREDENTIALS = [
    ("Cookie", "a=b"),
    ("Authorization", "Bearer own"),
    ("Accept", "x"),
    ("X-Forwarded-For", "1.2.3.4"),
    ("Connection", "x-hop"),
    ("X-Hop", "1"),
]


def table(**more: bool) -> RouteTable:
    return RouteTable([RoutePolicy(name="r", match="/api/**", ttl=1.0, **more)], CacheMode())


def through(inner: ScriptedHop, table: RouteTable) -> Access:
    admission = Admission(AdmissionPolicy())
    return Access(inner, lambda: admission, table, Spools())


async def routed(routing: Access, target: str = "/api/x?y") -> tuple[Request, Request]:
    asked = request("GET", target, CREDENTIALS)
    await routing.send(asked)
    return asked, routing._next.seen[-1]  # type: ignore[attr-defined]


async def test_the_policy_is_found_and_credentials_stay_behind() -> None:
    asked, sent = await routed(through(ScriptedHop([response()]), table()))
    assert (sent.policy.name, asked.trail.route) == ("r", "r")
    assert dict(sent.head.fields) == {"Accept": "x"}


async def test_what_a_route_passes_goes_on() -> None:
    _, sent = await routed(through(ScriptedHop([response()]), table(pass_cookies=True, pass_client_authorization=True)))
    assert set(sent.head.fields) == {"Accept", "Cookie", "Authorization"}


async def test_an_unlisted_request_and_a_new_table() -> None:
    routing = through(ScriptedHop([response(), response()]), table())
    asked, sent = await routed(routing, "/other")
    assert (sent.policy.stores, asked.trail.route) == (False, "")
    routing.table = RouteTable([RoutePolicy(name="new", match="/other", ttl=1.0)], CacheMode())
    _, sent = await routed(routing, "/other")
    assert sent.policy.name == "new"
