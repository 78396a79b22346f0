"""The token and revocation endpoints: clients and bodies, grants, rotation, replays, the limit, and the faults that strike there.

RFC 6749 §2.3, §4, §5.2, §6; RFC 7636; RFC 7009.
"""

import asyncio
import base64
import json
from typing import Any

import aiohttp
import pytest

from passoproxy.sandbox.journal import fingerprint
from passoproxy.sandbox.provider import grants
from passoproxy.sandbox.provider.token_endpoint import Throttle
from tests.sandbox.conftest import CALLBACK, VERIFIER, Stand, Started

# ---- clients and bodies ----------------------------------------------------------------------------------------------


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


GRANT = {"grant_type": "client_credentials"}
BODY = {**GRANT, "client_id": "demo", "client_secret": "demo"}


@pytest.mark.parametrize(
    ("more", "method"),
    [
        ({"json": BODY}, "body"),
        ({"data": BODY}, "body"),
        ({"json": GRANT, "headers": basic("demo", "demo")}, "basic"),
        ({"data": GRANT, "headers": basic("demo", "demo")}, "basic"),
        ({"data": GRANT, "headers": basic("%64emo", "dem%6F")}, "basic"),
        ({"data": {**GRANT, "client_id": "demo"}, "headers": basic("demo", "demo")}, "basic"),
        ({"json": {**BODY, "scope": None}}, "body"),
    ],
)
async def test_json_and_forms_basic_and_body(stand: Stand, more: dict[str, Any], method: str) -> None:
    answer = await stand.ask("/oauth/token", "POST", **more)
    assert answer.status == 200, answer
    assert stand.last().client_auth == method
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("more", "status", "error"),
    [
        ({"json": {**BODY, "client_secret": "wrong"}}, 401, "invalid_client"),
        ({"json": {**BODY, "client_id": "wrong"}}, 401, "invalid_client"),
        ({"json": {**GRANT, "client_id": "demo"}}, 401, "invalid_client"),
        ({"json": GRANT}, 400, "invalid_request"),
        ({"json": GRANT, "headers": basic("demo", "wrong")}, 401, "invalid_client"),
        ({"json": GRANT, "headers": {"Authorization": "Basic !"}}, 401, "invalid_client"),
        ({"json": GRANT, "headers": {"Authorization": "Basic ZGVtbw=="}}, 401, "invalid_client"),
        ({"json": {**GRANT, "client_id": "other"}, "headers": basic("demo", "demo")}, 401, "invalid_client"),
        ({"json": BODY, "headers": basic("demo", "demo")}, 400, "invalid_request"),
        ({"json": {**BODY, "grant_type": None}}, 400, "invalid_request"),
        ({"json": {**BODY, "grant_type": "password"}}, 400, "unsupported_grant_type"),
        ({"json": {**BODY, "grant_type": ["x"]}}, 400, "invalid_request"),
        ({"json": []}, 400, "invalid_request"),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_request"),
        (
            {"data": b"grant_type=a&grant_type=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            400,
            "invalid_request",
        ),
        ({"data": b"\xff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400, "invalid_request"),
        ({"data": b"x", "headers": {"Content-Type": "text/plain"}}, 400, "invalid_request"),
    ],
)
async def test_refusals(stand: Stand, more: dict[str, Any], status: int, error: str) -> None:
    answer = await stand.ask("/oauth/token", "POST", **more)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert answer.json["error_description"] == answer.json["message"]
    wants_basic = status == 401 and "Authorization" in more.get("headers", {})
    assert answer.headers.get("WWW-Authenticate") == ('Basic realm="OAuth"' if wants_basic else None)
    assert stand.last().outcome == f"refused: {error}"
    assert stand.tokens() == []


async def test_credentials_in_the_query_do_not_count(stand: Stand) -> None:
    answer = await stand.ask("/oauth/token?client_id=demo&client_secret=demo", "POST", json=GRANT)
    assert answer.json["error"] == "invalid_request"


async def test_secrets_with_odd_characters_as_they_are_and_form_encoded(started: Started) -> None:
    stand = await started(client_id="id:ü", client_secret="p@ss w+rd:%")
    plain = {**GRANT, "client_id": "id:ü", "client_secret": "p@ss w+rd:%"}
    encoded = basic("id%3A%C3%BC", "p%40ss+w%2Brd%3A%25")
    assert (await stand.ask("/oauth/token", "POST", json=plain)).status == 200
    assert (await stand.ask("/oauth/token", "POST", json=GRANT, headers=encoded)).status == 200


# ---- grants ----------------------------------------------------------------------------------------------------------


def claims(token: str) -> dict[str, object]:
    part = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def works(stand: Stand, token: object) -> bool:
    answer = await stand.ask("/api/v2/account/subscription", headers={"Authorization": f"Bearer {token}"})
    assert answer.status in (200, 401)
    return answer.status == 200


async def test_the_whole_code_flow(stand: Stand) -> None:
    pair = await stand.pair()
    assert set(pair) == {"token_type", "expires_in", "access_token", "refresh_token"}
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 3600)
    assert pair["access_token"].startswith("eyJ")
    assert pair["access_token"].count(".") == 2
    assert pair["refresh_token"].startswith("def")
    assert await works(stand, pair["access_token"])
    found = claims(pair["access_token"])
    assert (found["iss"], found["aud"], found["sub"]) == (stand.sandbox.base_url, "demo", "agent@sandbox.example")
    assert (found["exp"], found["scopes"]) == (stand.clock.wall() + 3600, ["*"])
    assert {"jti", "iat"} <= set(found)


async def test_both_tokens_live_exactly_equally_long(started: Started) -> None:
    stand = await started(lifetime=90.0)
    pair = await stand.pair()
    access, refresh = (stand.record(fingerprint(pair[name])) for name in ("access_token", "refresh_token"))
    assert access["expires_at"] == refresh["expires_at"] == stand.clock.wall() + 90
    await stand.clock.advance(89.9)
    assert await works(stand, pair["access_token"])
    await stand.clock.advance(0.2)
    assert not await works(stand, pair["access_token"])
    dead = await stand.refresh(pair["refresh_token"])
    assert (dead.status, dead.json["error"], dead.json["hint"]) == (400, "invalid_grant", "Token has expired")


@pytest.mark.parametrize(
    ("opened", "sent", "error"),
    [
        ({}, {"code_verifier": "w" * 50}, "invalid_grant"),
        ({"code_challenge": VERIFIER, "code_challenge_method": "plain"}, {"code_verifier": "ü" * 50}, "invalid_grant"),
        ({}, {"code_verifier": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, {}, "invalid_grant"),
        ({}, {"redirect_uri": "http://127.0.0.1:8611/other"}, "invalid_grant"),
        ({}, {"redirect_uri": None}, "invalid_request"),
        ({}, {"code": "def00"}, "invalid_grant"),
        ({}, {"code": None}, "invalid_request"),
        (
            {"code_challenge": None, "code_challenge_method": None},
            {"client_secret": None, "code_verifier": None},
            "invalid_client",
        ),
    ],
)
async def test_codes_that_are_not_exchanged(
    stand: Stand, opened: dict[str, str | None], sent: dict[str, str | None], error: str
) -> None:
    code = await stand.code(**opened)
    changed = {"code": code, **sent}
    answer = await stand.grant(
        grant_type="authorization_code",
        **{"redirect_uri": CALLBACK, "code_verifier": VERIFIER, **changed},
    )
    assert answer.json["error"] == error
    assert not [each for each in stand.tokens() if each["kind"] != "code"]


async def test_a_plain_challenge_and_none_at_all_work(stand: Stand) -> None:
    plain = await stand.code(code_challenge=VERIFIER, code_challenge_method=None)
    assert (await stand.exchange(plain)).status == 200
    without = await stand.code(code_challenge=None, code_challenge_method=None)
    assert (await stand.exchange(without, code_verifier=None)).status == 200


async def test_a_public_client_proves_itself_by_pkce_and_refreshes_without_a_secret(stand: Stand) -> None:
    pair = (await stand.exchange(await stand.code(), client_secret=None)).json
    assert stand.last().client_auth == "none"
    following = await stand.refresh(pair["refresh_token"], client_secret=None)
    assert following.status == 200
    confidential = await stand.pair()
    refused = await stand.refresh(confidential["refresh_token"], client_secret=None)
    assert (refused.status, refused.json["error"]) == (401, "invalid_client")


async def test_a_code_is_good_once_and_for_a_minute(stand: Stand) -> None:
    code = await stand.code()
    pair = (await stand.exchange(code)).json
    again = await stand.exchange(code)
    assert (again.status, again.json["hint"]) == (400, "Authorization code has been revoked")
    assert await works(stand, pair["access_token"])
    late = await stand.code()
    await stand.clock.advance(60)
    assert (await stand.exchange(late)).json["hint"] == "Authorization code has expired"


async def test_memory_of_codes_is_bounded(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "MAX_CODES", 1)
    first, _ = await stand.code(), await stand.code()
    assert (await stand.exchange(first)).json["error"] == "invalid_grant"


async def test_client_credentials_give_no_refresh_token(stand: Stand) -> None:
    answer = (await stand.grant(grant_type="client_credentials", scope="a b")).json
    assert set(answer) == {"token_type", "expires_in", "access_token"}
    assert (claims(answer["access_token"])["sub"], claims(answer["access_token"])["scopes"]) == ("demo", ["a", "b"])
    assert await works(stand, answer["access_token"])


async def test_a_refresh_rotates_and_spends(stand: Stand) -> None:
    first = await stand.pair()
    second = (await stand.refresh(first["refresh_token"])).json
    assert {first["refresh_token"], first["access_token"]}.isdisjoint(second.values())
    assert await works(stand, first["access_token"])
    assert await works(stand, second["access_token"])
    spent = stand.record(fingerprint(first["refresh_token"]))
    assert (spent["spent_at"], spent["presented"]) == (stand.clock.wall(), 1)
    dead = await stand.refresh(first["refresh_token"])
    assert (dead.status, dead.json["error"], dead.json["hint"]) == (400, "invalid_grant", "Token has been revoked")
    assert stand.record(fingerprint(first["refresh_token"]))["presented"] == 2
    assert (await stand.refresh(second["refresh_token"])).status == 200


async def test_every_path_of_the_endpoint_refreshes_and_the_older_ones_need_no_grant_type(stand: Stand) -> None:
    token = (await stand.pair())["refresh_token"]
    for path in ("/oauth/token", "/oauth/token/refresh", "/en/oauth/token", "/de/oauth/token/refresh"):
        answer = await stand.refresh(token, path=path)
        assert answer.status == 200, path
        token = answer.json["refresh_token"]
    answer = await stand.grant(path="/oauth/token/refresh", refresh_token=token)
    assert (answer.status, stand.last().grant_type) == (200, "refresh_token")


async def test_revoke_old_ends_the_old_access_token(started: Started) -> None:
    stand = await started(revoke_old=True)
    first = await stand.pair()
    second = (await stand.refresh(first["refresh_token"])).json
    assert not await works(stand, first["access_token"])
    assert await works(stand, second["access_token"])


async def test_punished_reuse_ends_the_whole_chain_and_no_other(started: Started) -> None:
    stand = await started(punish_reuse=True)
    code = await stand.code()
    used_twice = (await stand.exchange(code)).json
    await stand.exchange(code)
    assert not await works(stand, used_twice["access_token"])
    first, other = await stand.pair(), await stand.pair()
    second = (await stand.refresh(first["refresh_token"])).json
    assert (await stand.refresh(first["refresh_token"])).status == 400
    assert not await works(stand, first["access_token"])
    assert not await works(stand, second["access_token"])
    assert (await stand.refresh(second["refresh_token"])).status == 400
    assert await works(stand, other["access_token"])


async def test_a_replay_is_allowed_while_nobody_used_the_successor(started: Started) -> None:
    stand = await started(allow_replays=1, punish_reuse=True)
    first = await stand.pair()
    lost = (await stand.refresh(first["refresh_token"])).json
    again = await stand.refresh(first["refresh_token"])
    assert (again.status, stand.last().outcome) == (200, "replayed")
    assert not await works(stand, lost["access_token"])
    assert await works(stand, again.json["access_token"])
    assert stand.record(fingerprint(first["refresh_token"]))["replays"] == 1
    assert (await stand.refresh(first["refresh_token"])).status == 400
    assert not await works(stand, again.json["access_token"])


@pytest.mark.parametrize("used", ["access_token", "refresh_token"])
async def test_no_replay_once_the_successor_was_used(started: Started, used: str) -> None:
    stand = await started(allow_replays=5)
    first = await stand.pair()
    second = (await stand.refresh(first["refresh_token"])).json
    if used == "access_token":
        assert await works(stand, second["access_token"])
    else:
        assert (await stand.refresh(second["refresh_token"])).status == 200
    assert (await stand.refresh(first["refresh_token"])).status == 400


async def test_an_expired_token_is_not_replayed(started: Started) -> None:
    stand = await started(allow_replays=5, lifetime=60.0)
    first = await stand.pair()
    await stand.refresh(first["refresh_token"])
    await stand.clock.advance(60)
    assert (await stand.refresh(first["refresh_token"])).json["hint"] == "Token has expired"


async def test_older_servers_answer_401_invalid_request(started: Started) -> None:
    stand = await started(legacy_errors=True)
    answer = await stand.refresh("def0")
    assert (answer.status, answer.json["error"], answer.json["hint"]) == (
        401,
        "invalid_request",
        "Cannot decrypt the refresh token",
    )


async def test_an_access_token_is_no_refresh_token(stand: Stand) -> None:
    pair = await stand.pair()
    assert (await stand.refresh(pair["access_token"])).json["error"] == "invalid_grant"
    assert not await works(stand, pair["refresh_token"])
    assert (await stand.refresh("")).json["error"] == "invalid_grant"
    missing = await stand.grant(grant_type="refresh_token")
    assert (missing.json["error"], missing.json["hint"]) == ("invalid_request", "Check the `refresh_token` parameter")


async def revoke(stand: Stand, token: object, **more: object) -> int:
    sent = {"client_id": "demo", "client_secret": "demo", "token": token, **more}
    answer = await stand.ask(
        "/oauth/revoke", "POST", data={name: value for name, value in sent.items() if value is not None}
    )
    return answer.status


async def test_revoking_the_refresh_token_ends_the_chain(stand: Stand) -> None:
    pair = await stand.pair()
    assert await revoke(stand, pair["refresh_token"], token_type_hint="refresh_token") == 200
    assert not await works(stand, pair["access_token"])
    assert (await stand.refresh(pair["refresh_token"])).json["hint"] == "Token has been revoked"
    revoked_at = stand.record(fingerprint(pair["refresh_token"]))["revoked_at"]
    await stand.clock.advance(1)
    assert await revoke(stand, pair["refresh_token"]) == 200
    assert stand.record(fingerprint(pair["refresh_token"]))["revoked_at"] == revoked_at


async def test_revoking_the_access_token_ends_it_alone(stand: Stand) -> None:
    pair = await stand.pair()
    for _ in range(2):
        assert await revoke(stand, pair["access_token"]) == 200
    assert not await works(stand, pair["access_token"])
    assert (await stand.refresh(pair["refresh_token"])).status == 200


async def test_revocation_of_the_unknown_is_fine_but_the_client_must_be_right(stand: Stand) -> None:
    pair = await stand.pair()
    assert await revoke(stand, "nonsense") == 200
    assert await revoke(stand, None) == 400
    assert await revoke(stand, pair["refresh_token"], client_secret="wrong") == 401
    assert await revoke(stand, pair["refresh_token"], client_secret=None) == 401
    assert await works(stand, pair["access_token"])
    public = (await stand.exchange(await stand.code(), client_secret=None)).json
    assert await revoke(stand, public["refresh_token"], client_secret=None) == 200
    assert not await works(stand, public["access_token"])


async def test_a_static_token_never_ends(started: Started) -> None:
    stand = await started(static_token="handed-out", lifetime=1.0)
    await stand.clock.advance(1e9)
    assert await works(stand, "handed-out")
    assert not await works(stand, "handed-in")


# ---- faults ----------------------------------------------------------------------------------------------------------


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


# ---- the limit, and what is forgotten --------------------------------------------------------------------------------


def test_a_window_of_a_minute() -> None:
    now = [1000.0]
    throttle = Throttle(2, lambda: now[0])
    assert throttle.admit() == (True, {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "1"})
    assert throttle.admit()[0]
    now[0] += 10.5
    admitted, told = throttle.admit()
    assert not admitted
    assert told == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "0",
        "Retry-After": "50",
        "X-RateLimit-Reset": "1060",
    }
    now[0] = 1060.0
    assert throttle.admit()[0]


def test_a_clock_set_back_begins_a_new_window() -> None:
    now = [1000.0]
    throttle = Throttle(1, lambda: now[0])
    throttle.admit()
    now[0] = 10.0
    assert throttle.admit()[0]


def test_no_limit() -> None:
    throttle = Throttle(0, lambda: 0.0)
    assert [throttle.admit() for _ in range(5)] == [(True, {})] * 5


async def test_over_http(started: Started) -> None:
    stand = await started(token_requests_per_minute=1)
    first = await stand.grant(grant_type="client_credentials")
    assert first.headers["X-RateLimit-Remaining"] == "0"
    second = await stand.grant(grant_type="client_credentials")
    assert (second.status, second.headers["Retry-After"]) == (429, "60")
    assert stand.last().outcome == "throttled"
    await stand.clock.advance(60)
    assert (await stand.grant(grant_type="client_credentials")).status == 200


async def test_the_oldest_tokens_are_forgotten(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "MAX_TOKENS", 2)
    first, second = stand.sandbox.issue_pair(), stand.sandbox.issue_pair()
    assert not await works(stand, first["access_token"])
    assert await works(stand, second["access_token"])
