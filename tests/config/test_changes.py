"""What a reload changed."""

from __future__ import annotations

from passoproxy.config.changes import Changes, changes
from passoproxy.config.settings import Settings


def test_nothing_changed() -> None:
    assert changes(Settings(), Settings()) == Changes()


def test_live_keys_and_those_that_need_a_restart_are_told_apart() -> None:
    new = Settings.model_validate(
        {
            "routes": [{"name": "a", "match": "/a"}],
            "server": {"listen": "127.0.0.1:1", "limits": {"connections": 5}},
            "log": {"level": "debug"},
            "alerts": {"runway": {"log": 0.6}},
            "oauth": {"client_secret": "planted"},
            "cache": {"directory": "/x"},
        }
    )
    found = changes(Settings(), new)
    assert set(found.live) == {"routes", "server.limits.connections", "log.level", "alerts.runway.log"}
    assert set(found.at_restart) == {"server.listen", "oauth.client_secret", "cache.directory"}
    assert "planted" not in repr(found)
