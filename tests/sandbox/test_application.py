"""The whole: starting and stopping, what is printed, options, the controls, the first page, clear refusals."""

import asyncio
import io
import re
import socket
from typing import Any

import pytest
import yaml

from passoproxy.sandbox.app import Sandbox, configuration_lines
from passoproxy.sandbox.options import FEATURES, SandboxOptions
from tests.sandbox.conftest import Stand, Started

# ---- starting and stopping -------------------------------------------------------------------------------------------


async def test_from_start_to_end() -> None:
    sandbox = Sandbox(SandboxOptions(port=0))
    port = int((await sandbox.start()).rpartition(":")[2])
    second = Sandbox(SandboxOptions(port=port))
    with pytest.raises(OSError, match=str(port)):
        await second.start()
    await second.close()
    for _ in range(2):
        await sandbox.close()
    with pytest.raises(OSError, match=str(port)):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("0.0.0.0", "http://127.0.0.1:"),
        pytest.param(
            "::1", "http://[::1]:", marks=pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
        ),
    ],
)
async def test_the_address_that_is_told(host: str, base: str) -> None:
    sandbox = Sandbox(SandboxOptions(host=host, port=0))
    told = await sandbox.start()
    await sandbox.close()
    assert told.startswith(base)


async def test_a_waiting_request_does_not_hold_up_the_end(stand: Stand) -> None:
    sandbox = Sandbox(SandboxOptions(port=0, faults=("origin_slow",)), sleep=stand.waits)
    stand.waits.gate = asyncio.Event()
    asking = asyncio.ensure_future(stand.ask(f"{await sandbox.start()}/api/v2/health"))
    await stand.waits.waiting.wait()
    await asyncio.wait_for(sandbox.close(), 5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


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
    beyond = yaml.safe_load(configuration_lines("http://10.0.0.5:8620", options))
    assert beyond["upstream"] == {"url": "http://10.0.0.5:8620", "allow_http": True}


# ---- options ---------------------------------------------------------------------------------------------------------


def test_options_have_the_defaults_of_the_contract_and_hide_secrets() -> None:
    options = SandboxOptions()
    assert (options.host, options.port, options.lifetime) == ("127.0.0.1", 8620, 3600.0)
    assert (options.client_id, options.client_secret, options.features) == ("demo", "demo", FEATURES)
    assert "hush" not in repr(SandboxOptions(client_secret="hush-1", static_token="hush-2"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lifetime": 0.5}, ("lifetime", "0.5", "at least 1")),
        ({"latency": -1.0}, ("latency", "-1.0")),
        ({"quota": -1}, ("quota",)),
        ({"journal_size": 0}, ("journal_size",)),
        ({"features": ("content.county",)}, ("features", "content.county", "content.country")),
        ({"faults": ("refresh_lots",)}, ("refresh_lots", "refresh_lost")),
    ],
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the text is looked at below)
        SandboxOptions(**wrong)  # type: ignore[arg-type]
    assert all(word in str(refused.value) for word in words), refused.value


# ---- every request ---------------------------------------------------------------------------------------------------


async def test_an_issued_pair_works_and_is_dated_by_the_clock(stand: Stand) -> None:
    pair = stand.sandbox.issue_pair("someone@sandbox.example")
    stand.token = str(pair["access_token"])
    answer = await stand.api("/account/subscription")
    assert (answer.status, answer.headers["Date"]) == (200, "Tue, 14 Nov 2023 22:13:20 GMT")
    assert (await stand.refresh(str(pair["refresh_token"]))).status == 200
    assert {each["subject"] for each in stand.tokens()} == {"someone@sandbox.example"}


async def test_latency_is_added_to_provider_and_origin_but_not_to_controls(started: Started) -> None:
    stand = await started(latency=0.25)
    await stand.ask("/api/v2/health")
    await stand.grant(grant_type="client_credentials")
    await stand.ask("/__sandbox/journal")
    assert stand.waits.seconds == [0.25, 0.25]


async def test_a_body_over_one_mebibyte_is_refused(stand: Stand) -> None:
    for path in ("/destinations", "/oauth/token", "/__sandbox/faults"):
        body = io.BytesIO(b'{"x":"' + b"a" * 1_100_000 + b'"}')
        ask = stand.api if path == "/destinations" else stand.ask
        answer = await ask(path, "POST", data=body, headers={"Content-Type": "application/json"})
        assert (answer.status, "1 MiB" in answer.json["message"]) == (413, True)


async def test_a_wrong_method_is_told_with_the_right_ones(stand: Stand) -> None:
    for method, path, status, allow in (
        ("PUT", "/api/v2/countries", 404, "GET, HEAD"),
        ("POST", "/api/v2/countries", 404, "GET, HEAD"),
        ("GET", "/api/v2/travel-details", 404, "POST"),
        ("GET", "/oauth/token", 405, "POST"),
        ("DELETE", "/oauth/authorize", 405, "GET, POST"),
        ("PUT", "/__sandbox/journal", 405, "DELETE, GET, HEAD"),
    ):
        answer = await stand.ask(path, method)
        assert (answer.status, answer.headers["Allow"]) == (status, allow), path
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


# ---- the controls ----------------------------------------------------------------------------------------------------


async def arm(stand: Stand, *faults: str) -> Any:
    return (await stand.ask("/__sandbox/faults", "POST", json={"faults": list(faults)})).json["faults"]


async def test_a_call_replaces_the_whole_set_and_shows_what_is_left(started: Started) -> None:
    stand = await started(faults=("revoked",))
    assert await arm(stand, "origin_5xx:2", "refresh_lost") == [
        {"name": "origin_5xx", "left": 2, "struck": 0},
        {"name": "refresh_lost", "left": None, "struck": 0},
    ]
    assert (await stand.ask("/api/v2/health")).status == 500
    shown = (await stand.ask("/__sandbox/faults")).json
    assert shown["faults"][0] == {"name": "origin_5xx", "left": 1, "struck": 1}
    assert len(shown["known"]) == 16
    assert await arm(stand) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"faults": ["refresh_lots:1"]}', ("refresh_lots", "refresh_lost")),
        (b'{"faults": ["revoked:0"]}', ("revoked:0", "whole number")),
        (b'{"faults": "revoked"}', ("faults", "list of strings")),
        (b'{"faults": [1]}', ("faults", "list of strings")),
        (b"{}", ("faults",)),
        (b'{"fault": []}', ("fault", "known are faults")),
        (b"[]", ("JSON object",)),
        (b"{", ("must be JSON",)),
        (b"[" * 100_000, ("must be JSON",)),
    ],
)
async def test_what_cannot_be_armed_is_refused_and_changes_nothing(
    stand: Stand, body: bytes, words: tuple[str, ...]
) -> None:
    await arm(stand, "origin_429")
    answer = await stand.ask("/__sandbox/faults", "POST", data=body)
    assert answer.status == 400
    assert all(word in answer.json["error"] for word in words)
    assert [fault.name for fault in stand.sandbox.faults.armed()] == ["origin_429"]


async def test_a_change_really_changes_the_answer(stand: Stand) -> None:
    path = "/content/entry/json?lang=en&countries=TR&nat=DE"
    (before,) = (await stand.api(path)).json["records"]
    answer = await stand.ask("/__sandbox/changes", "POST", json={"countries": ["tr"], "important": False})
    assert answer.json == {"countries": ["TR"], "important": False}
    (after,) = (await stand.api(path)).json["records"]
    days = [each["documents"]["passport"]["validity"]["days"] for each in (before, after)]
    assert (days[1] - days[0], after["updated_at"]) == (30, "2023-11-14 22:13:20")
    assert "2023" not in (await stand.api(path.replace("TR", "ZA"))).text
    for body, word in (
        ({"countries": ["XX"]}, "XX"),
        ({"countries": "TR"}, "list"),
        ({"countries": ["TR"], "important": 1}, "important"),
        ({"x": 1}, "x"),
    ):
        refused = await stand.ask("/__sandbox/changes", "POST", json=body)
        assert (refused.status, word in refused.json["error"]) == (400, True)
    assert stand.sandbox.changes.sequence == 1


# ---- the first page --------------------------------------------------------------------------------------------------


async def test_the_first_page(started: Started) -> None:
    stand = await started(faults=("refresh_lost:3", "origin_slow"))
    answer = await stand.ask("/")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<script" not in answer.text
    for words in (f"{stand.sandbox.base_url}/oauth/token", "armed, 3 left", "armed, until switched off"):
        assert words in answer.text
    stand.sandbox.faults.arm([])
    links = re.findall(r'href="(/[^"]*)"', answer.text)
    assert len(links) >= 4
    for link in links:
        assert (await stand.ask(link.replace("&amp;", "&"))).status == 200, link
    assert "<i>x" not in (await stand.ask("/", headers={"Host": '"><i>x'})).text


async def test_a_secret_of_ones_own_is_not_shown(started: Started) -> None:
    stand = await started(client_secret="my-own", redirect_uris=("https://app.example/back",))
    page = (await stand.ask("/")).text
    assert "my-own" not in page
    assert "https%3A%2F%2Fapp.example%2Fback" in page
