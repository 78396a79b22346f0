"""`alerts.events`: what becomes of the pair is told once, in order, by both hooks, whichever process was asked for it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.journeys.conftest import Stand, ask, until
from tests.journeys.test_degraded import Webhook, told
from tests.redis_server import RedisServer

EVERY = ["login", "refresh", "import", "logout", "dead"]
SCHEMA = Draft202012Validator(json.loads(Path("docs/alert.schema.json").read_text()))


def events(alerts: list[dict[str, Any]]) -> list[str]:
    return [each["event"] for each in alerts if each["level"] == "event"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    yield made
    made.stop()


@pytest.mark.slow
def test_of_a_fleet_the_instance_tells_that_did_it(stand: Stand, server: RedisServer) -> None:
    sections = {"store": {"url": server.url}, "alerts": {"command": "cat >> told", "events": EVERY}}
    stand.configure(**sections)
    stand.begin("--lifetime", "1h")
    other = stand.beside(**sections)
    other.start_daemon()
    assert until(lambda: other.role == "following")
    assert other.run("token", "refresh").returncode == 0  # asked there, done here
    assert until(lambda: events(told(stand.folder)) == ["login", "refresh"])
    stand.stop_daemon(signal.SIGKILL)
    assert until(lambda: other.role == "owner")
    stand.start_daemon()
    assert until(lambda: stand.role == "following")
    assert stand.run("logout").returncode == 0
    assert until(lambda: events(told(other.folder)) == ["logout"])
    assert [stand.stop_daemon(), other.stop_daemon()] == [0, 0]
    assert events(told(stand.folder)) == ["login", "refresh"]


@pytest.mark.slow
def test_each_is_told_once_and_in_order(stand: Stand) -> None:
    webhook = Webhook()
    stand.configure(alerts={"command": f"cat >> {stand.folder}/told", "webhook": webhook.url, "events": EVERY})
    expected = ["login"]

    def comes(*more: str) -> None:
        expected.extend(more)
        assert until(lambda: events(webhook.got) == events(told(stand.folder)) == expected), (webhook.got, expected)

    stand.begin("--lifetime", "1h")
    comes()
    follower = stand.follower()
    follower.start_daemon()
    assert until(lambda: follower.role == "following")
    assert follower.run("token", "refresh").returncode == 0  # asked here, done by the owner
    comes("refresh")
    stand.fault("revoked")
    assert stand.run("token", "refresh").returncode == 77
    comes("dead")
    assert until((Path(stand.settings["state"]["directory"]) / "alarm.json").exists)  # the level is remembered as told
    stand.stop_daemon(signal.SIGKILL)  # the follower takes a pair over that was dead before
    assert until(lambda: follower.role == "owner")
    follower.stop_daemon()
    stand.start_daemon()
    assert stand.token["chain"] == "dead"
    stand.fault()
    stand.login()
    comes("login")
    assert stand.run("logout").returncode == 0
    comes("logout")
    assert stand.stop_daemon() == 0
    words = {"grant_type": "client_credentials", "client_id": "demo", "client_secret": "demo", "scope": "*"}
    issued = ask(stand.sandbox_port, "/oauth/token", "POST", {"Content-Type": "application/json"}, json.dumps(words))
    assert stand.run("token", "import", "-", text=issued.body.decode()).returncode == 0  # no daemon: the command tells
    comes("import")
    assert [each["level"] for each in webhook.got if each["level"] != "event"] == ["page", "recovered"]
    for alert in (*webhook.got, *told(stand.folder)):
        SCHEMA.validate(alert)
    webhook.shutdown()
    webhook.server_close()
