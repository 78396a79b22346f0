"""The grants: code flow with PKCE, rotation, reuse, replays, revocation (RFC 6749, 7636, 7009)."""

import base64
import json

import pytest

from passoproxy.sandbox.journal import fingerprint
from tests.sandbox.conftest import VERIFIER, Stand, Started


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
        **{"redirect_uri": "http://127.0.0.1:8611/oauth/callback", "code_verifier": VERIFIER, **changed},
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


async def test_a_code_used_twice_ends_its_chain_where_reuse_is_punished(started: Started) -> None:
    stand = await started(punish_reuse=True)
    code = await stand.code()
    pair = (await stand.exchange(code)).json
    await stand.exchange(code)
    assert not await works(stand, pair["access_token"])


async def test_memory_of_codes_is_bounded(stand: Stand) -> None:
    first = await stand.code()
    for _ in range(1000):
        await stand.code()
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


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/token/refresh", "/en/oauth/token", "/de/oauth/token/refresh"])
async def test_every_path_of_the_endpoint_refreshes(stand: Stand, path: str) -> None:
    pair = await stand.pair()
    assert (await stand.refresh(pair["refresh_token"], path=path)).status == 200


async def test_the_older_refresh_path_needs_no_grant_type(stand: Stand) -> None:
    pair = await stand.pair()
    answer = await stand.grant(path="/oauth/token/refresh", refresh_token=pair["refresh_token"])
    assert (answer.status, stand.last().grant_type) == (200, "refresh_token")


async def test_revoke_old_ends_the_old_access_token(started: Started) -> None:
    stand = await started(revoke_old=True)
    first = await stand.pair()
    second = (await stand.refresh(first["refresh_token"])).json
    assert not await works(stand, first["access_token"])
    assert await works(stand, second["access_token"])


async def test_punished_reuse_ends_the_whole_chain_and_no_other(started: Started) -> None:
    stand = await started(punish_reuse=True)
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
