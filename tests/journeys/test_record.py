"""What the state folder remembers of the pair, held against whole daemons: logins by command, configurations that change, damage, kills."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from passoproxy.cli.client import Local, Remote
from passoproxy.config.load import load
from passoproxy.errors import CommandFailure
from tests.journeys.conftest import ask, until
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox


def test_a_login_by_command_that_knows_no_cache_folder_is_no_roll_back(
    tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    key = tmp_path / "key"
    key.write_text(base64.b64encode(bytes(32)).decode())
    key.chmod(0o600)
    house = House(tmp_path / "house", sandbox, forking, sections={"state": {"key_file": str(key)}})
    child = house.live()
    for _ in range(3):
        house.refresh()
    assert child.stop() == 0

    served, house.sections["cache"] = house.config, {"directory": str(tmp_path / "another cache")}
    house.config = tmp_path / "command.yaml"
    house.configure()
    command = Local(load(house.config))
    command.call("POST", "/api/logout", b"", lambda control: control.logout(False), keep=True)
    issued = sandbox.issue()
    document = json.dumps(issued).encode()
    command.call("POST", "/api/token/import", b"", lambda control: control.import_pair(document, False), keep=True)

    house.config = served
    house.start()
    assert house.wait_for()["chain"] == "healthy"
    house.refresh()
    assert [each["presented"] for each in sandbox.chain(issued["refresh_token"])] == [1, 0]


def test_a_refresh_that_is_killed_while_it_dials_was_not_sent(
    tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    """The provider's TLS handshake never ends."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/oauth/token"
        house = House(tmp_path / "house", sandbox, forking, oauth={"token_url": url})
        house.move_in()
        for _ in range(2):
            child = house.start()
            house.wait_for()
            threading.Thread(target=house.refresh, daemon=True).start()
            dialed, _ = silent.accept()
            assert dialed.recv(1) == b"\x16"  # the handshake has begun
            assert child.stop(signal.SIGKILL) == -signal.SIGKILL
            dialed.close()
        house.start()
        assert house.wait_for()["chain"] == "healthy"


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("policy", "files", "more"),
    [("once", ["pair.3.json", "record.json"], 1), ("never", ["pair.3.json", "record.json"], 0), ("once", ["record.json"], 1)],
)  # fmt: skip
def test_a_damaged_record_counts_as_one_lost_answer(
    policy: str, files: list[str], more: int, tmp_path: Path, forking: Nursery
) -> None:
    """Nobody can tell which tokens were spent: what is sent is what `lost_answer_replay` allows, over restarts, and it is said."""
    sandbox = LiveSandbox(punish_reuse=True)
    house = House(tmp_path / "house", sandbox, forking, oauth={"lost_answer_replay": policy})
    child = house.live()
    for _ in range(2):
        house.refresh()
    if len(files) == 1:
        sandbox.fault("revoked")
        house.refresh()
        assert house.token()["chain"] == "dead"
    assert child.stop() == 0
    for name in files:
        torn(house.state / name)
    before = sum(each["presented"] for each in sandbox.chain(house.first))

    sandbox.fault("refresh_5xx")
    for _ in range(2):
        child = house.start()
        shown = house.wait_for("unknown")
        assert "record.json" in shown["reason"]
        strict = ask(house.admin_port, "/readyz?strict=1")
        assert (strict.status, b"record.json" in strict.body) == (503, True)
        assert ask(house.admin_port, "/readyz").status == 200
        child.stop(signal.SIGKILL)
    sandbox.fault()
    house.start()
    if more:
        house.wait_for("dead")
    assert sum(each["presented"] for each in sandbox.chain(house.first)) == before + more
    sandbox.close()


# ---- another token endpoint or client --------------------------------------------------------------------------------


@contextlib.contextmanager
def other_than(sandbox: LiveSandbox, oauth: dict[str, str]) -> Iterator[LiveSandbox]:
    """Another provider, or the same one where it is the client that differs."""
    if oauth:
        yield sandbox
        return
    other = LiveSandbox()
    yield other
    other.close()


def presented(sandbox: LiveSandbox) -> list[str]:
    """What of tokens arrived at a provider and its origin, refreshes and bearers."""
    shown = [each.get("refresh_token") or each["headers"].get("authorization", "") for each in sandbox.requests()]
    return [each for each in shown if each]


def moved(house: House, sandbox: LiveSandbox, **oauth: str) -> None:
    """The configuration names another provider from the next start on, and perhaps another client."""
    house.sandbox, house.oauth = sandbox, oauth
    house.configure()


@pytest.mark.parametrize("oauth", [{}, {"client_id": "another"}])
def test_a_pair_is_sent_to_no_other_token_endpoint_or_client_and_is_in_use_again_when_they_are(
    oauth: dict[str, str], tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    house = House(tmp_path / "house", sandbox, forking)
    child = house.live()
    house.refresh()
    assert child.stop() == 0
    content = (house.state / "pair.2.json").read_bytes()

    with other_than(sandbox, oauth) as other:
        moved(house, other, **oauth)
        before = presented(other)
        child = house.start()
        shown = house.wait_for("none")
        assert (shown["access"], shown["generation"]) == ("none", 0)
        named = f"client demo at {sandbox.origin}/oauth/token"
        assert named in shown["reason"]
        assert f"{sandbox.origin}/oauth/token: kept until" in child.said
        house.refresh()
        assert house.get("/api/v2/languages").json["code"] == "authorization_required"
        assert presented(other) == before
    (kept,) = house.state.glob("pair.2.json*")
    assert kept.read_bytes() == content
    assert child.stop() == 0

    moved(house, sandbox)
    house.start()
    house.wait_for()
    house.refresh()
    assert (house.token()["chain"], house.token()["generation"]) == ("healthy", 3)


def test_a_vendor_that_moves_is_followed_by_force_and_a_login_there_destroys_nothing(
    tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    """The same provider under two addresses: localhost and 127.0.0.1."""
    house = House(tmp_path / "house", sandbox, forking)
    child = house.live()
    moved_to = sandbox.origin.replace("127.0.0.1", "localhost") + "/oauth/token"
    house.oauth = {"token_url": moved_to}
    house.configure()
    child.send(signal.SIGHUP)  # takes a restart, and until then everything is as it was
    assert until(lambda: "needs a restart to take effect: oauth.token_url" in child.said), child.said
    house.refresh()
    assert (house.token()["chain"], house.token()["generation"]) == ("healthy", 2)
    assert child.stop() == 0

    command = Local(load(house.config))
    with pytest.raises(CommandFailure, match="there is nothing to log out from: there is no pair of client demo at"):
        command.call("POST", "/api/logout", b"", lambda control: control.logout(False), keep=True)
    another = sandbox.issue()
    document = json.dumps(another).encode()
    command.call("POST", "/api/token/import", b"", lambda control: control.import_pair(document, False), keep=True)
    child = house.start()
    assert moved_to in house.wait_for()["client"]
    house.refresh()
    assert f"{sandbox.origin}/oauth/token" in house.token()["kept"]
    warnings = ask(house.admin_port, "/api/status").json["warnings"]
    assert [each["code"] for each in warnings].count("pair_kept") == 1
    assert Remote(house.state, 30.0).ask("POST", "/api/logout", b"")["revocation"]
    assert house.token()["access"] == "none"
    assert Remote(house.state, 30.0).ask("POST", "/api/token/refresh", {"force": True})["chain"] == "healthy"
    house.refresh()
    assert child.stop() == 0
    for first in (house.first, another["refresh_token"]):
        assert max(each["presented"] for each in sandbox.chain(first)) == 1

    house.oauth = {}
    house.configure()
    house.start()
    assert "has brought a pair of client demo at" in house.wait_for("dead")["reason"]


def test_a_daemon_for_another_client_does_not_follow_and_waits_for_the_folder(
    tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    house = House(tmp_path / "house", sandbox, forking)
    child = house.live()
    other = House(tmp_path / "other", sandbox, forking, oauth={"client_id": "another"})
    other.state = house.state
    other.sections = {"state": {"directory": str(house.state)}}
    other.configure()
    other.start()
    shown = other.wait_for("none")
    assert shown["role"] == "following"
    assert "state.directory is served by a daemon for client demo at" in shown["reason"]
    before = len(sandbox.requests("/api/"))
    assert other.get("/api/v2/languages").status == 503
    assert len(sandbox.requests("/api/")) == before
    assert child.stop() == 0
    assert until(lambda: other.token().get("role") == "owner")
    assert "client demo at" in other.token()["kept"]
