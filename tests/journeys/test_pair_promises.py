"""Promises about the pair that only whole processes can break: workers, followers, restarts, and people who remove what they should not."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

from passoproxy.host.system import volatile
from tests.journeys.conftest import Stand, ask, until
from tests.journeys.test_following import TARGET, presented_again

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [1, 2])
def test_auto_leaves_with_a_full_tank_however_many_workers_there_are(stand: Stand, workers: int) -> None:
    """Workers follow the process that owns the pair, and end with it: they are nobody who would go on with it."""
    stand.configure(server={"listen": f"127.0.0.1:{stand.port}", "workers": workers})
    stand.begin("--lifetime", "60s")
    shown = stand.token
    time.sleep(max(0.0, shown["obtained_at"] + 6.5 - time.time()))  # a tenth of its life
    assert stand.token["generation"] == shown["generation"] == 1
    assert stand.stop_daemon() == 0
    state = Path(stand.settings["state"]["directory"])
    newest = max(int(path.name.split(".")[1]) for path in state.glob("pair.*.json"))
    assert newest == (1 if volatile(state) else 2)
    assert again(stand) == []


def again(stand: Stand) -> list[int]:
    """How often refresh tokens were presented that were so more than once."""
    return presented_again(stand.refreshes())


def begin(stand: Stand) -> tuple[str, dict[str, str]]:
    """A login in a browser at this daemon's page: where it leads, and the browser's cookie."""
    begun = ask(stand.admin_port, "/oauth/start", headers={"Sec-Fetch-Site": "none", **stand.page_session()})
    assert begun.status in (302, 303), begun
    return begun.headers["location"], {"Cookie": begun.headers["set-cookie"].split(";")[0]}


def test_a_login_denied_at_the_follower_ends_the_waiting_at_the_owner(stand: Stand) -> None:
    stand.start_sandbox("--lifetime", "60s")
    stand.start_daemon()
    other = stand.follower()
    other.configure(
        **{**other.settings, "oauth": {**other.settings["oauth"], "redirect_url": f"{other.admin}/oauth/callback"}}
    )
    other.start_daemon()
    assert (stand.role, other.role) == ("owner", "following")
    where, cookie = begin(other)
    assert until(lambda: stand.token["login_until"])
    assert stand.post("/api/v2/unlisted", {}).json["code"] == "token_unavailable"
    back = urllib.parse.urlsplit(other.approve(where, "deny"))
    ask(other.admin_port, f"{back.path}?{back.query}", headers=cookie)
    assert until(lambda: stand.token["login_until"] is None)
    for each in (stand, other):
        assert until(lambda: each.get(TARGET).json["code"] == "authorization_required", 20)  # noqa: B023


@pytest.mark.parametrize("value", ["command", "None", "", "another login's"])
def test_a_browsers_login_is_completed_by_its_own_cookie_alone(stand: Stand, value: str) -> None:
    stand.start_sandbox("--lifetime", "1h")
    stand.start_daemon()
    where, issued = begin(stand)
    back = urllib.parse.urlsplit(stand.approve(where))
    if value == "another login's":
        value = begin(stand)[1]["Cookie"].partition("=")[2]
    redirect, name = f"{back.path}?{back.query}", issued["Cookie"].partition("=")[0]
    for forged in ({"Cookie": f"{name}={value}"}, {}):
        assert ask(stand.admin_port, redirect, headers=forged).status == 422
    assert [each["path"] for each in stand.journal()["requests"]].count("/oauth/token") == 0
    assert stand.token["access"] == "none"
    assert ask(stand.admin_port, redirect, headers=issued).status == 200
    assert stand.token["chain"] == "healthy"


def test_a_restart_tells_no_level_twice_and_a_recovery_once(stand: Stand) -> None:
    told = stand.folder / "told"
    hook = stand.folder / "hook.py"
    hook.write_text(f"import sys; open({str(told)!r}, 'a').write(sys.stdin.readline())\n")

    def levels() -> list[str]:
        return [json.loads(line)["level"] for line in told.read_text().splitlines()] if told.exists() else []

    stand.configure(alerts={"command": f"{sys.executable} {hook}"})
    stand.begin("--lifetime", "1h")
    stand.fault("revoked")
    stand.run("token", "refresh")
    assert until(lambda: levels() == ["page"]), levels()
    memory = Path(stand.settings["state"]["directory"]) / "alarm.json"
    assert until(memory.exists)
    assert memory.stat().st_mode & 0o777 == 0o600
    for how in (signal.SIGTERM, signal.SIGKILL):
        stand.stop_daemon(how)
        stand.start_daemon()
        assert stand.token["chain"] == "dead"
    stand.fault()
    assert levels() == ["page"]
    stand.login()
    assert until(lambda: levels() == ["page", "recovered"]), levels()
    assert until(lambda: not memory.exists())
    stand.stop_daemon()
    stand.start_daemon(ready=True)
    assert levels() == ["page", "recovered"]


def test_two_daemons_of_which_somebody_removed_the_lock_are_one_again_before_a_token_is_presented(stand: Stand) -> None:
    """Whoever takes a lock for stale and removes it makes a second owner; the first one notices before it presents anything."""
    stand.begin("--lifetime", "60s")
    (Path(stand.settings["state"]["directory"]) / "lock").unlink()
    other = stand.follower()
    other.start_daemon()
    assert until(lambda: other.role == "owner")
    before = stand.token["generation"]
    stand.run("token", "refresh")  # reaches the first one, or the second one by then
    assert until(lambda: (stand.role, other.role) == ("following", "owner")), (stand.role, other.role)
    assert until(lambda: stand.run("token", "refresh").returncode == 0)
    assert until(lambda: stand.token["generation"] == other.token["generation"] > before)
    assert stand.get(TARGET).status == other.get(TARGET).status == 200
    assert again(stand) == []
    assert other.stop_daemon() == 0
    assert until(lambda: stand.role == "owner")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_whole_end_stays_within_the_grace(stand: Stand, workers: int) -> None:
    """With a refresh on its way that is not answered, a client whose answer does not come, and a command that waits."""
    grace = 6.0
    server = {"listen": f"127.0.0.1:{stand.port}", "workers": workers, "shutdown_grace": f"{grace}s"}
    stand.configure(server=server, oauth={**stand.settings["oauth"], "lost_answer_replay": "never"})
    stand.begin("--lifetime", "1h")
    stand.fault("refresh_slow", "origin_slow")
    command = stand.start("token", "refresh", "--config", str(stand.config))
    client = threading.Thread(target=stand.get, args=(TARGET,))
    client.start()
    assert until(lambda: len([each for each in stand.journal()["requests"] if each["fault"]]) == 2)
    began = time.monotonic()
    assert stand.stop_daemon() == 0
    took = time.monotonic() - began
    print(f"ended {took:.1f} s after SIGTERM, with {grace:g} s of grace")
    assert took < grace + 5, stand.daemon.said  # a busy machine
    assert command.wait(20) == 69, command.said
    assert "shutting down" in command.said
    client.join(20)
    stand.fault()
    stand.start_daemon()
    assert (stand.token["access"], stand.token["chain"]) == ("valid", "unknown")
