"""Warnings before death, and death as a degraded mode: the real daemon, its hooks, and what clients see (contract §3 `alerts`, §4)."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Answer, Stand, ask, until

slow = pytest.mark.slow  # real processes that live and die: minutes, not seconds

LIFETIME = 12.0
CONTENT = "/api/v2/content/health/json?lang=en&countries=ZA"
OTHER = CONTENT.replace("ZA", "TR")
PDF = CONTENT.replace("json", "pdf")
ROUTE = {
    "name": "requirements",
    "match": "/api/v2/content/**",
    "methods": ["GET", "POST"],
    "ttl": "1s",
    "override": True,
    "stale_if_unauthorized": "1h",
}


class Webhook(ThreadingHTTPServer):
    """Keeps what it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/T0KEN-planted"


def told(folder: Path) -> list[dict[str, Any]]:
    """What the command of `configure` was told so far."""
    file = folder / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def levels(alerts: list[dict[str, Any]]) -> list[str]:
    return [each["level"] for each in alerts]


@slow
@pytest.mark.alone
def test_levels_in_order_once_each_and_once_on_recovery(stand: Stand) -> None:
    webhook = Webhook()
    # the first one is further below the moment of renewal than by default: a busy machine is late by more than half a second
    runway = {"log": "50%", "notify": "42%", "page": "35%"}
    stand.configure(alerts={"command": f"cat >> {stand.folder}/told", "webhook": webhook.url, "runway": runway})
    stand.begin("--lifetime", f"{LIFETIME:.0f}s")
    time.sleep(LIFETIME)  # health is silent, over two renewals and more
    assert told(stand.folder) == webhook.got == []
    assert ask(stand.admin_port, "/readyz").body.decode().splitlines()[0] == "ready"
    stand.fault("refresh_5xx")
    assert until(lambda: levels(webhook.got) == ["log", "notify", "page"], LIFETIME)
    status, line = stand.status(), ask(stand.admin_port, "/readyz?strict=1").body.decode().splitlines()[1]
    metrics = ask(stand.admin_port, "/metrics").body.decode()
    page = ask(stand.admin_port, "/").body.decode()
    assert status["alert"]["level"] == "page"
    assert ", alert page, a person is needed by 20" in line
    assert "passoproxy_alert_level 3.0" in metrics
    assert "a person is needed by" in page
    assert "\nalert          page, a person is needed by" in stand.run("status").stdout
    stand.fault()
    assert until(lambda: levels(webhook.got)[3:] == ["recovered"], LIFETIME)
    time.sleep(LIFETIME / 2)
    assert levels(webhook.got) == levels(told(stand.folder)) == ["log", "notify", "page", "recovered"]
    for alert, share in zip(webhook.got, (0.5, 0.42, 0.35), strict=False):
        assert alert["runway_seconds"] == pytest.approx(share * LIFETIME, abs=0.8)
        assert alert["state"] == "retrying"
        assert alert["link"] == f"{stand.admin}/"
        assert alert["deadline"].endswith("Z")
    assert "T0KEN-planted" not in stand.daemon.said
    assert stand.status()["alert"]["level"] == "none"
    webhook.shutdown()
    webhook.server_close()


@slow
def test_a_hook_that_hangs_delays_nothing(stand: Stand) -> None:
    webhook = Webhook()
    stand.configure(alerts={"command": ["/bin/sh", "-c", "trap '' TERM; sleep 600"], "webhook": webhook.url})
    stand.begin("--lifetime", f"{LIFETIME:.0f}s")
    stand.fault("refresh_5xx")
    assert until(lambda: levels(webhook.got) == ["log", "notify", "page"], 2 * LIFETIME)
    assert stand.get(OTHER).status in (200, 503)
    stand.fault()
    began = time.monotonic()
    assert stand.stop_daemon() == 0  # with the hook still hanging
    assert time.monotonic() - began < 30
    webhook.shutdown()
    webhook.server_close()


def begin(pool: ThreadPoolExecutor, stand: Stand, *arguments: Any, **words: Any) -> Any:
    """One request in the background: the answer and the moment at which it came."""

    def one() -> tuple[Answer, float]:
        answer = ask(stand.port, *arguments, **words)
        return answer, time.monotonic()

    return pool.submit(one)


def dead(stand: Stand) -> bool:
    token = stand.token
    return bool(token["chain"] == "dead" and token["access"] == "expired")


def kill_chain(stand: Stand) -> None:
    """The owner withdraws the grant: the provider refuses the refresh token, and the origin the access token."""
    stand.fault("revoked")
    assert until(lambda: stand.token["chain"] == "dead", 2 * LIFETIME)


@slow
@pytest.mark.alone
def test_death_is_a_degraded_mode_that_a_login_ends(stand: Stand) -> None:
    stand.configure(
        routes=[ROUTE],
        # far below the moment of renewal: a renewal that a busy machine is late with is no shrinking runway
        alerts={
            "command": f"cat >> {stand.folder}/told",
            "runway": {"log": "40%", "notify": "35%", "page": "30%"},
        },
        cache={"directory": str(stand.folder / "c")},
    )
    stand.begin("--lifetime", "6s")
    assert stand.get(CONTENT).status == 200
    kill_chain(stand)
    stand.fault()
    time.sleep(1.1)  # what is stored is fresh no more

    # a 401 before the access token's time is up: the stored answer, else authorization_required with deadline and link
    while not dead(stand):
        stale, missing = stand.get(CONTENT), stand.get(OTHER)
        assert (stale.status, missing.status) == (200, 503)
        assert "detail=STALE_UNAUTHORIZED" in stale.cache_status
        assert missing.json["code"] == "authorization_required"
        time.sleep(0.3)
    stale, missing = stand.get(CONTENT), stand.get(OTHER)
    assert (stale.status, missing.status) == (200, 503)
    assert "fwd=stale" in stale.cache_status
    assert "detail=STALE_UNAUTHORIZED" in stale.cache_status
    assert missing.json["code"] == "authorization_required"
    assert stand.admin in missing.json["detail"]
    assert "the access token's time: 20" in missing.json["detail"]
    assert int(missing.headers["retry-after"]) >= 1
    assert levels(told(stand.folder)) == ["page"]

    # while a login is under way, safe requests wait for it: what is stored does not, nor does what may change something
    login, url = stand.begin_login()
    with ThreadPoolExecutor(8) as pool:
        waiting = [
            begin(pool, stand, OTHER),
            begin(pool, stand, OTHER, "HEAD"),
            begin(
                pool,
                stand,
                "/api/v2/content/health/json",
                "POST",
                {"Content-Type": "application/json"},
                json.dumps({"lang": "en", "countries": "US"}),
            ),
        ]
        began = time.monotonic()
        stale, write = stand.get(CONTENT), stand.post("/api/v2/travel-details", {})
        assert time.monotonic() - began < 10
        assert (stale.status, write.status, write.json["code"]) == (200, 503, "token_unavailable")
        time.sleep(1)
        assert not any(each.done() for each in waiting)
        back = stand.approve(url)
        approved = time.monotonic()
        assert ask(stand.admin_port, back.removeprefix(stand.admin)).status in (200, 302, 303)
        answers = [each.result(30) for each in waiting]
    assert [answer.status for answer, _ in answers] == [200, 200, 200]
    released = max(at for _, at in answers) - approved
    print(f"released {released * 1000:.0f} ms after the approval")
    assert released < 1.0
    assert login.wait(20) == 0
    assert stand.get(OTHER).status == 200
    assert stand.token["chain"] == "healthy"
    assert until(lambda: levels(told(stand.folder)) == ["page", "recovered"])


@slow
def test_the_runway_stands_on_what_is_served_without_a_token(stand: Stand) -> None:
    stand.configure(routes=[{**ROUTE, "ttl": "1h"}])
    stand.start_sandbox("--lifetime", "6s")
    stand.start_daemon()
    assert stand.get(OTHER).headers["passoproxy-runway"] == "0"  # never authorised
    stand.login()

    def runways() -> set[str | None]:
        hit = stand.get(CONTENT)
        tag = {"If_None_Match": hit.headers["etag"]}
        answers = [hit, stand.get(CONTENT), stand.get(CONTENT, **tag), stand.get(PDF, Range="bytes=0-9")]
        answers += [ask(stand.port, CONTENT, "HEAD"), stand.get(CONTENT, Accept_Encoding="gzip")]
        assert [each.status for each in answers] == [200, 200, 304, 206, 200, 200]
        assert all("hit" in each.cache_status for each in answers)
        return {each.headers.get("passoproxy-runway") for each in answers}

    assert [stand.get(each).status for each in (CONTENT, PDF)] == [200, 200]
    assert runways() == {None}
    kill_chain(stand)
    assert stand.get(OTHER).headers["passoproxy-runway"] == "0"
    assert until(lambda: dead(stand))
    assert runways() == {"0"}
    stand.fault()
    stand.login()
    assert runways() == {None}


@slow
def test_a_login_that_is_denied_ends_the_wait(stand: Stand) -> None:
    stand.configure(routes=[ROUTE])
    stand.begin("--lifetime", "4s")
    kill_chain(stand)
    stand.fault()
    assert until(lambda: dead(stand))
    _, url = stand.begin_login()
    with ThreadPoolExecutor(2) as pool:
        waiting = begin(pool, stand, OTHER)
        time.sleep(0.5)
        assert not waiting.done()
        back = stand.approve(url, "deny")
        denied = time.monotonic()
        ask(stand.admin_port, back.removeprefix(stand.admin))
        answer, at = waiting.result(30)
        assert at - denied < 5
        assert answer.json["code"] == "authorization_required"


@slow
def test_a_login_that_does_not_come_is_not_waited_for_longer_than_a_client_waits(stand: Stand) -> None:
    stand.configure(routes=[ROUTE])
    stand.start_sandbox()
    stand.start_daemon()
    stand.begin_login()
    began = time.monotonic()
    answer = ask(stand.port, OTHER, timeout=40)
    assert 15 < time.monotonic() - began < 35
    assert (answer.status, answer.json["code"]) == (503, "token_unavailable")


@slow
def test_an_import_resumes_everything_within_a_second(stand: Stand) -> None:
    stand.configure(routes=[ROUTE])
    stand.begin("--lifetime", "6s")
    kill_chain(stand)
    stand.fault()
    assert stand.get(OTHER).status == 503
    issued = ask(
        stand.sandbox_port,
        "/oauth/token",
        "POST",
        {"Content-Type": "application/json"},
        json.dumps({"grant_type": "client_credentials", "client_id": "demo", "client_secret": "demo", "scope": "*"}),
    )
    assert issued.status == 200, issued
    imported = stand.run("token", "import", "-", text=issued.body.decode())
    assert imported.returncode == 0, imported.stderr
    assert until(lambda: stand.get(OTHER).status == 200, 5)


@slow
def test_the_most_used_entries_are_young_when_the_runway_ends(stand: Stand) -> None:
    stand.configure(routes=[{**ROUTE, "ttl": "1h"}])
    stand.begin("--lifetime", f"{LIFETIME:.0f}s")
    for count, target in ((5, CONTENT), (3, OTHER), (1, CONTENT.replace("ZA", "JP"))):
        for _ in range(count):
            assert stand.get(target).status == 200
    stand.fault("refresh_5xx")
    assert until(lambda: stand.daemon is not None and "revalidated the most used" in stand.daemon.said, 2 * LIFETIME)
    asked = [each["query"] for each in stand.journal()["requests"] if each["path"].startswith("/api/v2/content")]
    assert [country for query in asked[3:6] for country in ("ZA", "TR", "JP") if country in query] == ["ZA", "TR", "JP"]
    answer = stand.get(CONTENT)
    assert "hit" in answer.cache_status
    assert int(answer.headers["age"]) < LIFETIME
