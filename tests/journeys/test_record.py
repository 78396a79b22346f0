"""What the state folder remembers of the pair, held against whole daemons: logins by command, configurations that change, damage, kills."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from passoproxy.cli.handle import Local
from passoproxy.config.reading import load
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox


def test_a_login_by_command_that_knows_no_cache_folder_is_no_roll_back(tmp_path: Path, forking: Nursery) -> None:
    key = tmp_path / "key"
    key.write_text(base64.b64encode(bytes(32)).decode())
    key.chmod(0o600)
    sandbox = LiveSandbox()
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
    sandbox.close()
