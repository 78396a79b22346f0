"""As a user without name, home and umask: an arbitrary user id of a container platform."""

from __future__ import annotations

import os

import pytest

from tests.journeys.conftest import Stand
from tests.places.conftest import programs_for_all
from tests.whole import CONTENT

STRANGER = 1_000_640_000
"""No user of this machine has it."""


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_user_without_a_name(public_stand: Stand, umask: int) -> None:
    stand = public_stand
    own = stand.folder / "own"
    own.mkdir()
    stand.configure(state={"directory": str(own / "state")}, cache={"directory": str(own / "cache")})
    for each in (own, stand.folder / "client_secret"):
        os.chown(each, STRANGER, STRANGER)
    for name in ("HOME", "USER", "LOGNAME"):
        stand.environment.pop(name, None)
    stand.start_sandbox()
    stand.place = {"user": STRANGER, "umask": umask, "mounts": programs_for_all(stand.folder)}
    stand.start_daemon()
    stand.login()
    assert stand.get(CONTENT).status == 200
    assert stand.run("page", "--print").returncode == stand.run("token", "refresh").returncode == 0
    assert stand.stop_daemon() == 0
    modes = {path.stat().st_mode & 0o777 for path in own.rglob("*") if path.is_file()}
    assert modes == {0o600}
    stand.start_daemon(ready=True)
    assert (stand.token["chain"], stand.token["generation"]) == ("healthy", 2)
    assert "hit" in stand.get(CONTENT).cache_status
