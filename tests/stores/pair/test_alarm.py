"""What was told of the runway, remembered: in the folder, and in the store of a fleet."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from passoproxy.core.oauth.alert_levels import Alarmed, Level
from passoproxy.stores.pair.alert_state import AlarmFile
from passoproxy.stores.pair.encryption import FleetCover, key_of
from passoproxy.stores.pair.replication import FleetAlarm
from passoproxy.stores.redis_client import Keys, RedisLink
from tests.redis_server import RedisServer, free_port

KEYS = Keys.of("0123456789abcdef0123456789abcdef")
TOLD = Alarmed(Level.PAGE, 1_700_000_000.5, 1_699_999_000.5)


@pytest.fixture
def server(tmp_path: Path):
    made = RedisServer(tmp_path)
    yield made
    made.stop()


def test_in_a_folder(tmp_path: Path):
    memory = AlarmFile(tmp_path)
    assert memory.load() is None
    memory.save(TOLD)
    assert AlarmFile(tmp_path).load() == TOLD
    assert stat.S_IMODE((tmp_path / "alarm.json").stat().st_mode) == 0o600
    memory.save(None)
    assert (memory.load(), os.listdir(tmp_path)) == (None, [])
    memory.save(None)


def test_one_of_an_earlier_version_began_when_it_was_told_last(tmp_path: Path):
    path = tmp_path / "alarm.json"
    path.write_bytes(b'{"level": "page", "told_at": 7}')
    path.chmod(0o600)
    assert AlarmFile(tmp_path).load() == Alarmed(Level.PAGE, 7.0, 7.0)


@pytest.mark.parametrize(
    "content",
    [b"", b"rubbish", b"[]", b"\xff", b'{"level": "none", "told_at": 1}', b'{"level": "page", "told_at": "now"}',
     b'{"level": 3, "told_at": 1}', b'{"level": "page", "told_at": NaN}', b'{"level": "page"}',
     b'{"level": "page", "told_at": 1e300}', b'{"level": "page", "told_at": 1%s}' % (b"0" * 400)],
)  # fmt: skip
def test_what_cannot_be_understood_was_not_told(tmp_path: Path, content: bytes):
    path = tmp_path / "alarm.json"
    path.write_bytes(content)
    path.chmod(0o600)
    assert AlarmFile(tmp_path).load() is None


def test_a_folder_that_cannot_be_used_costs_a_repetition_and_nothing_else(tmp_path: Path):
    memory = AlarmFile(tmp_path / "gone")
    memory.save(TOLD)
    memory.save(None)
    assert memory.load() is None
    path = tmp_path / "alarm.json"
    path.write_bytes(b'{"level": "page", "told_at": 1}')
    path.chmod(0o644)  # anybody may have written it
    assert AlarmFile(tmp_path).load() is None


@pytest.mark.parametrize("key", [None, base64.b64encode(b"k" * 32).decode()])
def test_in_the_store_of_a_fleet(server: RedisServer, key: str | None):
    cover = FleetCover(None if key is None else key_of(key), None)
    here, there = (FleetAlarm(RedisLink(server.url), KEYS, cover) for _ in range(2))
    assert here.load() is None
    here.save(TOLD)
    assert there.load() == TOLD
    with server.client() as client:
        assert (b"page" in client.get(KEYS.alarm)) == (key is None)
        client.set(KEYS.alarm, b"rubbish")
        assert there.load() is None
    here.save(TOLD)
    there.save(None)
    assert here.load() is None
    for each in (here, there):
        each._link.close()


def test_a_store_that_is_away():
    memory = FleetAlarm(RedisLink(f"redis://127.0.0.1:{free_port()}/0"), KEYS, FleetCover())
    memory.save(TOLD)
    memory.save(None)
    assert memory.load() is None
