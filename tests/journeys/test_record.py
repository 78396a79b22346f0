"""What the state folder remembers of the pair, held against whole daemons: logins by command, configurations that change, damage, kills."""

from __future__ import annotations

import base64
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from passoproxy.cli.handle import Local
from passoproxy.config.reading import load
from tests.journeys.conftest import ask
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox


@pytest.fixture
def sandbox() -> Iterator[LiveSandbox]:
    made = LiveSandbox()
    yield made
    made.close()


def test_a_login_by_command_that_knows_no_cache_folder_is_no_roll_back(
    tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    key = tmp_path / "key"
    key.write_text(base64.b64encode(bytes(32)).decode())
    key.chmod(0o600)
    house = House(tmp_path / "house", sandbox, forking, sections={"state": {"key_file": str(key)}})
    house.move_in()
    child = house.start()
    house.wait_for()
    for _ in range(3):
        house.refresh()
    assert child.stop() == 0

    served, house.sections["cache"] = house.config, {"directory": str(tmp_path / "another cache")}
    house.config = tmp_path / "command.yaml"
    house.configure()
    command = Local(load(house.config))
    command.logout(False)
    document = sandbox.issue()
    command.import_pair(json.dumps(document).encode())

    house.config = served
    house.start()
    assert house.wait_for()["chain"] == "healthy"
    house.refresh()
    assert [each["presented"] for each in sandbox.chain(document["refresh_token"])] == [1, 0]


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
    house.move_in()
    child = house.start()
    house.wait_for()
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
