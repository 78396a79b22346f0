"""The faults of the token endpoint: what the client sees, and what really happened to the token."""

import asyncio

import aiohttp
import pytest

from passoproxy.sandbox.journal import fingerprint
from tests.sandbox.conftest import Stand, Started


async def spent(stand: Stand, token: str) -> bool:
    return stand.record(fingerprint(token))["spent_at"] is not None


async def test_refresh_lost_rotates_and_drops(started: Started) -> None:
    stand = await started(faults=("refresh_lost:1",))
    pair = await stand.pair()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await stand.refresh(pair["refresh_token"])
    assert await spent(stand, pair["refresh_token"])
    entry = stand.last()
    assert (entry.outcome, entry.status, entry.fault) == ("dropped", None, "refresh_lost")
    assert entry.refresh_token == fingerprint(pair["refresh_token"])
    assert (await stand.refresh(pair["refresh_token"])).status == 400


async def test_a_lost_answer_can_be_replayed_where_that_is_allowed(started: Started) -> None:
    stand = await started(faults=("refresh_lost:2",), allow_replays=2)
    pair = await stand.pair()
    for _ in range(2):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await stand.refresh(pair["refresh_token"])
    assert (await stand.refresh(pair["refresh_token"])).status == 200


@pytest.mark.parametrize(("fault", "status"), [("refresh_5xx", 503), ("refresh_429", 429), ("refresh_redirect", 302)])
async def test_what_strikes_before_anything_is_rotated(started: Started, fault: str, status: int) -> None:
    stand = await started(faults=(f"{fault}:1",), retry_after=7)
    pair = await stand.pair()
    answer = await stand.refresh(pair["refresh_token"])
    assert answer.status == status
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert ("Location" in answer.headers) is (status == 302)
    assert stand.last().fault == fault
    assert not await spent(stand, pair["refresh_token"])
    assert (await stand.refresh(pair["refresh_token"])).status == 200


async def test_refresh_garbage_rotates(started: Started) -> None:
    stand = await started(faults=("refresh_garbage:1",))
    pair = await stand.pair()
    answer = await stand.refresh(pair["refresh_token"])
    assert answer.status == 200
    with pytest.raises(ValueError):  # noqa: PT011 (whatever json says)
        _ = answer.json
    assert await spent(stand, pair["refresh_token"])


async def test_refresh_slow_rotates_and_then_waits(started: Started) -> None:
    stand = await started(faults=("refresh_slow:1",), slow_seconds=12.0)
    pair = await stand.pair()
    stand.waits.gate = asyncio.Event()
    asking = asyncio.ensure_future(stand.refresh(pair["refresh_token"]))
    await stand.waits.waiting.wait()
    assert await spent(stand, pair["refresh_token"])
    assert not asking.done()
    assert stand.last().status is None
    stand.waits.gate.set()
    assert (await asking).status == 200
    assert stand.waits.seconds == [12.0]


async def test_no_expires_in_and_a_string(started: Started) -> None:
    stand = await started(faults=("no_expires_in:1",))
    assert "expires_in" not in await stand.pair()
    stand.sandbox.faults.arm(["expires_in_string:1"])
    assert (await stand.pair())["expires_in"] == "3600"
    assert (await stand.pair())["expires_in"] == 3600


async def test_no_new_refresh_token_keeps_the_old_and_counts_its_life_anew(started: Started) -> None:
    stand = await started(faults=("no_new_refresh_token:1",), lifetime=100.0)
    pair = await stand.pair()
    await stand.clock.advance(60)
    answer = (await stand.refresh(pair["refresh_token"])).json
    assert "refresh_token" not in answer
    assert stand.last().outcome == "kept"
    await stand.clock.advance(60)
    following = await stand.refresh(pair["refresh_token"])
    assert following.status == 200
    assert following.json["refresh_token"]


async def test_revoked_strikes_at_a_refresh(started: Started) -> None:
    stand = await started(faults=("revoked:1",))
    pair = await stand.pair()
    answer = await stand.refresh(pair["refresh_token"])
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    assert stand.last().fault == "revoked"
    assert all(each["revoked_at"] for each in stand.tokens())


async def test_faults_are_not_used_up_by_requests_that_they_do_not_fit(started: Started) -> None:
    stand = await started(
        faults=("refresh_lost:1", "refresh_garbage:1", "no_new_refresh_token:1", "revoked:1", "no_expires_in:1")
    )
    assert (await stand.refresh("def0")).status == 400
    assert (await stand.refresh("def0", client_secret="wrong")).status == 401
    assert [fault.left for fault in stand.sandbox.faults.armed()] == [1] * 5
    assert "expires_in" not in (await stand.grant(grant_type="client_credentials")).json
    assert [fault.left for fault in stand.sandbox.faults.armed()] == [1, 1, 1, 1, 0]


async def test_several_faults_of_one_answer_are_all_noted(started: Started) -> None:
    stand = await started(faults=("refresh_slow:1", "expires_in_string:1"))
    pair = {"refresh_token": stand.sandbox.issue_pair()["refresh_token"]}
    assert (await stand.refresh(str(pair["refresh_token"]))).json["expires_in"] == "3600"
    assert stand.last().fault == "refresh_slow,expires_in_string"
