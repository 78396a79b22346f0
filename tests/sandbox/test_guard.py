"""Who may ask the origin, and how it breaks: bearer, plan, quota, concurrency, faults."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientConnectionResetError, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.test_utils import make_mocked_request

from passoproxy.sandbox.faults import cut_off
from passoproxy.sandbox.options import FEATURES
from tests.sandbox.conftest import Stand, Started

PATH = "/content/entry/text?lang=en&countries=TR&nat=DE"
ALL = PATH.replace("entry", "all")
PAIR = {"destinations": ["TR"], "nationalities": ["DE"]}


async def test_the_journal_tells_whether_the_bearer_was_valid_even_if_none_is_needed(stand: Stand) -> None:
    token = stand.sandbox.issue_pair()["access_token"]
    for sent, valid in (
        (None, None),
        ("Basic eA==", None),
        ("Bearer x", False),
        *((f"{scheme} {token}", True) for scheme in ("Bearer", "bearer", "BEARER")),
    ):
        headers = {} if sent is None else {"Authorization": sent}
        assert (await stand.ask("/api/v2/health", headers=headers)).status == 200
        assert stand.last().token_valid is valid


@pytest.mark.parametrize(
    ("feature", "method", "path", "body"),
    [
        ("content.country", "GET", "/content/country/html?countries=TR", None),
        ("content.individual", "GET", "/individual-content", None),
        ("content.tour_operator", "GET", "/tour-operator/SUNX", None),
        ("content.cruise", "GET", f"{ALL}&cruise_compass_cruise_id=7", None),
        ("customer.travel_detail_link.manage", "POST", "/travel-details", {}),
        ("customer.travel_detail_link.create", "POST", "/information/share", PAIR),
        ("customer.travel_detail_link.create", "POST", ALL, {"trip": {"name": "x"}}),
        ("customer.travel_detail_link.email_subscriptions", "POST", ALL, {"trip": {}, "subscribe": ["a@b.example"]}),
    ],
)
async def test_a_feature_that_the_plan_does_not_hold(
    started: Started, feature: str, method: str, path: str, body: object
) -> None:
    whole = await started()
    assert (await whole.api(path, method, json=body)).status == 200
    assert (await whole.api("/account/subscription")).json == {"type": "premium", "features": list(FEATURES)}
    stand = await started(features=tuple(set(FEATURES) - {feature}))
    answer = await stand.api(path, method, json=body)
    assert (answer.status, answer.json) == (403, {"message": "Forbidden."})
    plan = (await stand.api("/account/subscription")).json
    assert (plan["type"], feature in plan["features"]) == ("standard", False)


@pytest.mark.parametrize("tells", [False, True])
async def test_the_quota_of_24_hours(started: Started, tells: bool) -> None:
    stand = await started(quota=2, quota_retry_after=tells, lifetime=1e6)
    assert [(await stand.api(PATH)).status for _ in range(2)] == [200, 200]
    answer = await stand.api(PATH)
    assert (answer.status, answer.json) == (429, {"message": "Too many requests."})
    assert answer.headers.get("Retry-After") == ("86401" if tells else None)
    assert stand.last().outcome == "refused: quota"
    assert (await stand.ask("/api/v2/health")).status == 200
    assert (await stand.ask(f"/api/v2{PATH}")).status == 401
    await stand.clock.advance(86_400)
    assert (await stand.api(PATH)).status == 200


@pytest.mark.parametrize("tells", [True, False])
async def test_the_concurrency_limit(started: Started, tells: bool) -> None:
    stand = await started(concurrency=1, concurrency_retry_after=tells, retry_after=3, faults=("origin_slow:1",))
    stand.waits.gate = asyncio.Event()
    slow = asyncio.ensure_future(stand.api(PATH))
    await stand.waits.waiting.wait()
    answer = await stand.api(PATH)
    assert (answer.status, answer.headers.get("Retry-After")) == (429, "3" if tells else None)
    assert stand.last().outcome == "refused: concurrency"
    stand.waits.gate.set()
    assert (await slow).status == 200
    assert (await stand.api(PATH)).status == 200


async def test_faults_that_answer_for_the_origin(started: Started) -> None:
    stand = await started(faults=("origin_5xx:1", "origin_429:1", "origin_slow:1"), retry_after=9, slow_seconds=33.0)
    page = await stand.api(PATH)
    assert (page.status, stand.last().fault, "Server Error" in page.text) == (500, "origin_5xx", True)
    assert page.headers["Content-Type"].startswith("text/html")
    busy = await stand.api(PATH)
    assert (busy.status, busy.headers["Retry-After"], stand.last().fault) == (429, "9", "origin_429")
    assert stand.waits.seconds == []
    assert [(await stand.api(PATH)).status for _ in range(2)] == [200, 200]
    assert stand.waits.seconds == [33.0]


async def test_origin_401_refuses_a_valid_token_and_only_that(started: Started) -> None:
    stand = await started(faults=("origin_401:1",))
    assert (await stand.ask(f"/api/v2{PATH}")).status == 401
    assert stand.last().fault is None
    answer = await stand.api(PATH)
    assert (answer.status, answer.json) == (401, {"message": "Unauthenticated."})
    assert (stand.last().fault, stand.last().token_valid) == ("origin_401", True)
    assert (await stand.api(PATH)).status == 200


async def test_revoked_ends_the_chain(started: Started) -> None:
    stand = await started(faults=("revoked:1",))
    pair = stand.sandbox.issue_pair()
    stand.token = str(pair["access_token"])
    assert (await stand.api(PATH)).status == 401
    assert (stand.last().fault, stand.last().token_valid) == ("revoked", False)
    assert (await stand.refresh(str(pair["refresh_token"]))).status == 400


async def raw(stand: Stand, path: str) -> tuple[bytes, bool]:
    """What really comes over the wire, and whether the end was a reset."""
    token = stand.sandbox.issue_pair()["access_token"]
    port = int(stand.sandbox.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /api/v2{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    got, reset = b"", False
    try:
        while part := await reader.read(65536):
            got += part
    except ConnectionResetError:
        reset = True
    writer.close()
    return got, reset


@pytest.mark.parametrize(
    ("fault", "reset", "outcome"), [("origin_truncated", False, "truncated"), ("origin_reset_midbody", True, "reset")]
)
async def test_broken_bodies(started: Started, fault: str, reset: bool, outcome: str) -> None:
    stand = await started(faults=(f"{fault}:1",))
    got, was_reset = await raw(stand, PATH)
    assert was_reset is reset
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    (declared,) = [
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    ]
    assert declared > 500
    assert len(body) < declared
    assert (stand.last().outcome, stand.last().fault, stand.last().status) == (outcome, fault, 200)
    if not reset:
        assert len(body) == declared // 2


async def test_a_client_sees_a_broken_transfer(started: Started) -> None:
    stand = await started(faults=("origin_truncated:1",))
    with pytest.raises(aiohttp.ClientPayloadError):
        await stand.api(PATH)


async def test_answers_without_a_body_are_not_cut(started: Started) -> None:
    stand = await started(faults=("origin_truncated:1",))
    assert (await stand.api(PATH.replace("=TR", "=XX"))).status == 204
    assert (await stand.api(PATH, "HEAD")).status == 200
    assert stand.sandbox.faults.armed()[0].left == 1


async def test_a_clock_set_back_begins_a_new_period(started: Started) -> None:
    stand = await started(quota=1, static_token="s")
    stand.token = "s"
    assert [(await stand.api(PATH)).status for _ in range(2)] == [200, 429]
    stand.clock.step(-1e6)
    assert (await stand.api(PATH)).status == 200


async def test_latency_counts_as_being_under_way_and_a_token_is_judged_as_it_arrived(started: Started) -> None:
    stand = await started(latency=2.0, concurrency=1, lifetime=10.0)
    stand.token = str(stand.sandbox.issue_pair()["access_token"])
    stand.waits.gate = asyncio.Event()
    waiting = asyncio.ensure_future(stand.api(PATH))
    await stand.waits.waiting.wait()
    assert (await stand.api(PATH)).status == 429
    await stand.clock.advance(11)
    stand.waits.gate.set()
    assert (await waiting).status == 200
    assert (await stand.api(PATH)).status == 401


class Gone(AbstractStreamWriter):
    """What an answer is written into after its client has left."""

    async def write(self, chunk: Any) -> None:
        raise ClientConnectionResetError("Cannot write to closing transport")

    async def write_headers(self, status_line: str, headers: Any) -> None:
        await self.write(b"")

    async def write_eof(self, chunk: bytes = b"") -> None:
        await self.write(chunk)

    async def drain(self) -> None:
        await self.write(b"")

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None: ...

    def enable_chunking(self) -> None: ...


async def test_a_client_that_left_before_its_answer_is_cut_off_is_no_fault() -> None:
    request = make_mocked_request("GET", "/", writer=Gone())
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    answer = await cut_off(request, web.Response(body=b"whole"), reset=True, sleep=sleep)

    assert answer.content_length == len(b"whole")
    assert waited == []
