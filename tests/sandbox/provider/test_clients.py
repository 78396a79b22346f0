"""Client authentication and bodies of the token endpoint (RFC 6749 §2.3, §5.2)."""

import base64
from typing import Any

import pytest

from tests.sandbox.conftest import Stand, Started


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


async def test_secrets_with_odd_characters(started: Started) -> None:
    stand = await started(client_id="id:ü", client_secret="p@ss w+rd:%")
    assert (
        await stand.ask("/oauth/token", "POST", json={**GRANT, "client_id": "id:ü", "client_secret": "p@ss w+rd:%"})
    ).status == 200
    encoded = basic("id%3A%C3%BC", "p%40ss+w%2Brd%3A%25")
    assert (await stand.ask("/oauth/token", "POST", json=GRANT, headers=encoded)).status == 200
