"""The whole: starting, stopping, what is printed, clear refusals."""

import asyncio
import io
import socket

import pytest
import yaml

from passoproxy.sandbox.app import Sandbox, configuration_lines
from passoproxy.sandbox.options import SandboxOptions
from tests.sandbox.conftest import Stand, Started


async def test_a_port_in_use_is_an_os_error_and_leaves_nothing_behind(stand: Stand) -> None:
    port = int(stand.sandbox.base_url.rpartition(":")[2])
    second = Sandbox(SandboxOptions(port=port))
    with pytest.raises(OSError, match=str(port)):
        await second.start()
    await second.close()


async def test_after_closing_nobody_listens(started: Started) -> None:
    stand = await started()
    port = int(stand.sandbox.base_url.rpartition(":")[2])
    await stand.sandbox.close()
    await stand.sandbox.close()
    with pytest.raises(OSError, match=str(port)):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_wildcard_address_is_told_as_loopback() -> None:
    sandbox = Sandbox(SandboxOptions(host="0.0.0.0", port=0))
    base = await sandbox.start()
    await sandbox.close()
    assert base.startswith("http://127.0.0.1:")


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_ipv6_addresses_are_bracketed() -> None:
    sandbox = Sandbox(SandboxOptions(host="::1", port=0))
    base = await sandbox.start()
    await sandbox.close()
    assert base.startswith("http://[::1]:")


@pytest.mark.parametrize("secret", ["demo", 'it\'s "odd": #1', "${x}"])
def test_the_configuration_lines_are_yaml_that_points_here(secret: str) -> None:
    options = SandboxOptions(client_id="me", client_secret=secret)
    found = yaml.safe_load(configuration_lines("http://127.0.0.1:8620", options))
    assert found == {
        "upstream": {"url": "http://127.0.0.1:8620"},
        "oauth": {
            "authorization_url": "http://127.0.0.1:8620/oauth/authorize",
            "token_url": "http://127.0.0.1:8620/oauth/token",
            "revocation_url": "http://127.0.0.1:8620/oauth/revoke",
            "client_id": "me",
            "client_secret": secret,
        },
    }


def test_beyond_the_loopback_the_lines_acknowledge_plain_http() -> None:
    found = yaml.safe_load(configuration_lines("http://10.0.0.5:8620", SandboxOptions()))
    assert found["upstream"] == {"url": "http://10.0.0.5:8620", "allow_http": True}


async def test_an_issued_pair_works_and_is_dated_by_the_clock(stand: Stand) -> None:
    pair = stand.sandbox.issue_pair("someone@sandbox.example")
    answer = await stand.ask(
        "/api/v2/account/subscription", headers={"Authorization": f"Bearer {pair['access_token']}"}
    )
    assert answer.status == 200
    assert answer.headers["Date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert (await stand.refresh(str(pair["refresh_token"]))).status == 200
    assert {each["subject"] for each in stand.tokens()} == {"someone@sandbox.example"}


async def test_latency_is_added_to_provider_and_origin_but_not_to_controls(started: Started) -> None:
    stand = await started(latency=0.25)
    await stand.ask("/api/v2/health")
    await stand.grant(grant_type="client_credentials")
    await stand.ask("/__sandbox/journal")
    assert stand.waits.seconds == [0.25, 0.25]


@pytest.mark.parametrize("path", ["/api/v2/destinations", "/oauth/token", "/__sandbox/faults"])
async def test_a_body_over_one_mebibyte_is_refused(stand: Stand, path: str) -> None:
    stand.token = str(stand.sandbox.issue_pair()["access_token"])
    body = io.BytesIO(b'{"x":"' + b"a" * 1_100_000 + b'"}')
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {stand.token}"}
    answer = await stand.ask(path, "POST", data=body, headers=headers)
    assert answer.status == 413
    assert "1 MiB" in answer.json["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/api/v2/countries", 404, "GET, HEAD"),
        ("POST", "/api/v2/countries", 404, "GET, HEAD"),
        ("GET", "/api/v2/travel-details", 404, "POST"),
        ("GET", "/oauth/token", 405, "POST"),
        ("DELETE", "/oauth/authorize", 405, "GET, POST"),
        ("PUT", "/__sandbox/journal", 405, "DELETE, GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_with_the_right_ones(
    stand: Stand, method: str, path: str, status: int, allow: str
) -> None:
    answer = await stand.ask(path, method)
    assert (answer.status, answer.headers["Allow"]) == (status, allow)
    assert method in answer.json["message"]


async def test_unknown_paths_are_json_and_are_in_the_journal(stand: Stand) -> None:
    answer = await stand.ask("/api/v2/nothing")
    assert (answer.status, answer.json) == (404, {"message": "The route api/v2/nothing could not be found."})
    assert answer.headers["Cache-Control"] == "no-cache, private"
    assert (stand.last().path, stand.last().status) == ("/api/v2/nothing", 404)
    assert (await stand.ask("/nothing")).status == 404


async def test_a_crash_of_the_sandbox_is_noted_and_answered(started: Started) -> None:
    stand = await started(faults=("origin_slow",))
    stand.waits.fails_with = RuntimeError("planted")
    assert (await stand.ask("/api/v2/health")).status == 500
    assert (stand.last().status, stand.last().outcome) == (500, "failed")


async def test_a_waiting_request_does_not_hold_up_the_end(started: Started) -> None:
    stand = await started(faults=("origin_slow",))
    stand.waits.gate = asyncio.Event()
    asking = asyncio.ensure_future(stand.ask("/api/v2/health"))
    await stand.waits.waiting.wait()
    await asyncio.wait_for(stand.sandbox.close(), 5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
