"""Recording an application's traffic, and developing against the recordings: no account, no network (docs/gateway.md)."""

from __future__ import annotations

import json
import re
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Answer, Stand, ask, until

KEY, UPSTREAM = "a-client-key-of-thirty-characters", "an-upstream-key-of-30-characters"
OVERVIEW = {"nationalities": ["DE"], "destinations": ["ZA"], "lang": "en"}
VOLATILE = {"date", "age", "cache-status", "server", "etag", "vary"}


def calls(stand: Stand) -> dict[str, Answer]:
    """What the application asks for."""
    keyed = {"X-Passoproxy-Key": KEY}

    def get(target: str, method: str = "GET", body: str | None = None, **fields: str) -> Answer:
        named = {name.replace("_", "-"): text for name, text in fields.items()}
        return ask(stand.port, target, method, {**keyed, **named}, body)

    document = json.dumps(OVERVIEW)
    return {
        "list": get("/api/v2/countries?limit=10&lang=en"),
        "coded": get("/api/v2/countries?limit=10&lang=en", Accept_Encoding="gzip"),
        "head": get("/api/v2/countries?limit=10&lang=en", "HEAD"),
        "account": get(
            "/api/v2/account/subscription", Cookie="session=of-a-client", Authorization="Bearer of-a-client"
        ),
        "post": get("/api/v2/content/overview/json", "POST", document, Content_Type="application/json"),
        "missing": get("/api/v2/nothing/here?access_token=a-token-in-a-query"),
        "pdf": get("/api/v2/content/overview/pdf?lang=en&countries=ZA&nat=DE"),
    }


def recording(stand: Stand, **sections: Any) -> Path:
    """A stand that is authorised and records."""
    folder, keys = stand.folder / "recordings", stand.folder / "keys"
    keys.write_text(f"app:{KEY}\n")
    keys.chmod(0o600)
    stand.configure(
        gateway={"record": str(folder)},
        server={**stand.settings["server"], "client_keys_file": str(keys)},
        upstream={**stand.settings["upstream"], "headers": {"X-Api-Gate": UPSTREAM}},
        **sections,
    )
    stand.begin()
    return folder


def replay(stand: Stand, folder: Path) -> None:
    """The same daemon from its recordings, with the provider and origin gone and no pair."""
    stand.stop_daemon()
    stand.sandbox.stop()
    stand.configure(
        gateway={"replay": str(folder)},
        state={"directory": str(stand.folder / "no pair")},
        cache={"directory": str(stand.folder / "no cache")},
        server=stand.settings["server"],
    )
    stand.start_daemon(ready=True)


def texts(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in folder.glob("*.yaml")}


def test_what_was_recorded_is_answered_again_without_account_and_network(stand: Stand) -> None:
    folder = recording(stand)
    before = calls(stand)
    assert {each.status for each in before.values()} == {200, 404}
    exported = json.loads(stand.run("token", "export", "--reveal").stdout)
    tokens = {exported["access_token"], exported["refresh_token"]}
    assert until(lambda: len(texts(folder)) == 5)
    first = texts(folder)
    stand.stop_daemon()
    stand.start_daemon(ready=True)
    shown = stand.status()["gateway"]
    assert shown == {"mode": "record", "directory": str(folder), "recordings": 5}
    assert "recording into" in stand.run("status").stdout
    stand.run("cache", "purge", "--all")
    calls(stand)
    replay(stand, folder)

    assert texts(folder) == first  # the second recording said the same, but for what is volatile
    for secret in {*tokens, KEY, UPSTREAM, "of-a-client", "a-token-in-a-query"}:
        assert not any(secret in text for text in first.values()), secret
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    after = calls(stand)
    for name, each in before.items():
        assert (after[name].status, after[name].body) == (each.status, each.body), name
        assert _lasting(after[name]) == _lasting(each), name
        assert after[name].cache_status == "passoproxy; hit"
    assert after["list"].headers["age"] == "0"
    tagged = {"If-None-Match": after["list"].headers["etag"], "X-Passoproxy-Key": KEY}
    assert ask(stand.port, "/api/v2/countries?limit=10&lang=en", headers=tagged).status == 304
    ranged = {"Range": "bytes=0-7", "X-Passoproxy-Key": KEY}
    pdf = ask(stand.port, "/api/v2/content/overview/pdf?lang=en&countries=ZA&nat=DE", headers=ranged)
    assert (pdf.status, pdf.body) == (206, b"%PDF-1.4")
    assert ask(stand.port, "/api/v2/countries?limit=10&lang=en").json["code"] == "client_not_allowed"
    _a_missing_one_names_the_nearest(stand)
    _it_says_everywhere_that_it_replays(stand, folder)
    _edits_count_at_once(stand, folder)


def _lasting(answer: Answer) -> dict[str, str]:
    return {
        name: text for name, text in answer.headers.items() if name not in ("age", "cache-status", "content-length")
    }


def _a_missing_one_names_the_nearest(stand: Stand) -> None:
    keyed = {"X-Passoproxy-Key": KEY, "Content-Type": "application/json"}
    missing = ask(stand.port, "/api/v2/countries?limit=11&lang=en", headers=keyed)
    assert (missing.status, missing.json["code"]) == (504, "offline")
    assert missing.cache_status == "passoproxy; fwd=bypass; detail=offline"
    said = missing.json["detail"]
    assert said.startswith("GET /api/v2/countries?limit=11&lang=en is not recorded in ")
    assert "nearest: GET /api/v2/countries?limit=10&lang=en (GET-api-v2-countries-" in said
    other = ask(stand.port, "/api/v2/content/overview/json", "POST", keyed, json.dumps({"lang": "de"}))
    assert "POST /api/v2/content/overview/json (POST-api-v2-content-overview-json-" in other.json["detail"]
    assert "with another body" in other.json["detail"]
    # the same question with its members in another order
    turned = json.dumps(dict(reversed(OVERVIEW.items())), indent=3)
    assert ask(stand.port, "/api/v2/content/overview/json", "POST", keyed, turned).status == 200


def _it_says_everywhere_that_it_replays(stand: Stand, folder: Path) -> None:
    said = f"replaying 5 recordings of {folder}"
    assert said in ask(stand.admin_port, "/readyz").body.decode()
    assert said in ask(stand.admin_port, "/readyz?strict=1").body.decode()
    status = stand.status()
    assert (status["state"], status["reason"]) == ("ready", said)
    assert status["gateway"] == {"mode": "replay", "directory": str(folder), "recordings": 5, "invalid": []}
    assert status["origin"]["answers"] == 0
    shown = stand.run("status")
    assert (shown.returncode, said in shown.stdout) == (0, True)
    page = ask(stand.admin_port, "/").body.decode()
    assert "Answers from recordings" in page
    assert str(folder) in page
    for command in (["token", "refresh"], ["login", "--no-browser"], ["logout"]):
        refused = stand.run(*command)
        assert refused.returncode != 0
        assert "gateway.replay" in refused.stderr, command
    checked = stand.run("config", "check")
    assert (checked.returncode, "5 recordings" in checked.stdout) == (0, True)
    assert "oauth.grant\tstatic\tgateway.replay" in stand.run("config", "show").stdout
    found = stand.run("doctor", "--path", "/api/v2/account/subscription")
    assert found.returncode == 0, found.stdout
    assert "5 recordings" in found.stdout
    assert "gateway.replay" in stand.run("drill").stdout


def _edits_count_at_once(stand: Stand, folder: Path) -> None:
    file = next(folder.glob("GET-api-v2-account-subscription-*"))
    text, keyed = file.read_text(), {"X-Passoproxy-Key": KEY}
    file.write_text(text.replace('"premium"', '"NO"').replace("status: 200", "status: 203"))
    edited = ask(stand.port, "/api/v2/account/subscription", headers=keyed)
    assert (edited.status, edited.json["type"]) == (203, "NO")
    file.write_text(text.replace('"premium",', '"premium"'))
    broken = ask(stand.port, "/api/v2/account/subscription", headers=keyed)
    assert (broken.status, broken.json["code"]) == (504, "offline")
    where = rf"{re.escape(file.name)}:\d+: response.json: is not JSON: .*; mend that line"
    assert re.search(where, broken.json["detail"])
    assert ask(stand.port, "/api/v2/countries?limit=10&lang=en", headers=keyed).status == 200
    assert stand.status()["state"] == "degraded"
    checked = stand.run("config", "check")
    assert re.search(where, checked.stderr)
    assert until(lambda: '"recording_invalid"' in stand.daemon.said)
    file.write_text(text)
    assert ask(stand.port, "/api/v2/account/subscription", headers=keyed).json["type"] == "premium"
    (folder / "by hand.yaml").write_text(
        "request: {method: DELETE, target: /api/v2/things/1}\nresponse: {status: 204}\n"
    )
    assert ask(stand.port, "/api/v2/things/1", "DELETE", keyed).status == 204


@pytest.mark.slow
def test_a_recorder_that_is_killed_leaves_whole_files_and_workers_share_them(stand: Stand) -> None:
    folder = recording(stand, log={"access": False})
    stand.stop_daemon()
    stand.configure(**{**stand.settings, "server": {**stand.settings["server"], "workers": 2}})
    stand.start_daemon(ready=True)
    targets = [f"/api/v2/countries?limit={number}" for number in range(1, 21)]
    asked = threading.Event()

    def client(part: int) -> None:
        for target in targets[part::4]:
            if ask(stand.port, target, headers={"X-Passoproxy-Key": KEY}).status == 0:
                return
            if len(texts(folder)) > 5:
                asked.set()

    clients = [threading.Thread(target=client, args=(part,)) for part in range(4)]
    for each in clients:
        each.start()
    assert asked.wait(60)
    stand.daemon.send(signal.SIGKILL)
    stand.daemon.wait()
    for each in clients:
        each.join()
    del stand.settings["server"]["workers"]
    replay(stand, folder)
    assert stand.status()["gateway"]["invalid"] == []
    assert until(lambda: stand.status()["gateway"]["recordings"] == len(texts(folder)) > 5)
    for part in range(4):
        client(part)

    # a changed folder waits for a restart, and says so
    stand.configure(**{**stand.settings, "gateway": {"record": str(stand.folder / "other")}})
    stand.daemon.send(signal.SIGHUP)
    assert until(lambda: "needs a restart to take effect" in stand.daemon.said)
    assert re.search(r"needs a restart[^\n]*gateway\.record, gateway\.replay", stand.daemon.said)
    assert ask(stand.port, "/api/v2/nothing", headers={"X-Passoproxy-Key": KEY}).json["code"] == "offline"
