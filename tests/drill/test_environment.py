"""What a rehearsal takes over from the user's configuration, and what must never come along."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from passoproxy.config.load import load
from passoproxy.drill.environment import configuration, environment, stage_folder, stored_target, write
from passoproxy.errors import CannotCreate


def users(tmp_path: Path, **sections: Any) -> Any:
    secret = tmp_path / "secret"
    secret.write_text("the-real-secret\n")
    secret.chmod(0o600)
    settings: dict[str, Any] = {
        "provider": "passolution",
        "upstream": {"connect_timeout": "7s", "read_timeout": "11s", "max_concurrency": 3, "proxy": "http://proxy.example:3128", "deny_paths": ["/api/**"]},
        "oauth": {"client_id": "real", "client_secret_file": str(secret), "refresh_at": 0.3, "lost_answer_replay": "never", "refresh_token_lifetime": "30d"},
        "server": {"listen": "127.0.0.1:18610", "client_keys_file": str(secret), "shutdown_grace": "9s"},
        "admin": {"listen": "127.0.0.1:18611", "token_file": str(secret)},
        "state": {"directory": str(tmp_path / "real" / "state")},
        "cache": {"directory": str(tmp_path / "real" / "cache")},
        "store": {"url": "redis://redis.example:6379/0"},
        "alerts": {"command": ["page-somebody"], "webhook": "https://alerts.example/hook"},
        "tracing": {"otlp_endpoint": "https://traces.example/"},
        "routes": [{"name": "own", "match": "/own/**", "ttl": "5m", "override": True}],
    }  # fmt: skip
    for name, section in sections.items():
        settings[name] = {**settings[name], **section}
    path = tmp_path / "user.yaml"
    path.write_text(yaml.safe_dump(settings))
    path.chmod(0o600)
    return load(path, {}, tmp_path, secrets=False)


def rehearsed(loaded: Any, folder: Path) -> tuple[Any, str]:
    tree = configuration(
        loaded.settings, folder, origin="http://127.0.0.1:1", provider="http://127.0.0.1:2", proxy_port=3, admin_port=4
    )
    path = folder / "rehearsed.yaml"
    write(tree, path)
    assert path.stat().st_mode & 0o777 == 0o600
    return load(path, {}, folder), path.read_text()


def test_the_client_asks_again_for_what_the_routes_store(tmp_path: Path) -> None:
    assert stored_target(users(tmp_path).settings) == "/api/v2/infosystem/general?lang=en"
    assert stored_target(users(tmp_path).settings.model_copy(update={"routes": ()})) is None


def test_margins_stay_and_everything_that_reaches_out_goes(tmp_path: Path) -> None:
    loaded, text = rehearsed(users(tmp_path), tmp_path)
    settings = loaded.settings
    assert (settings.oauth.refresh_at, settings.oauth.lost_answer_replay) == (0.3, "never")
    assert (settings.upstream.connect_timeout, settings.upstream.read_timeout) == (7.0, 11.0)
    assert settings.upstream.max_concurrency == 3
    assert settings.server.shutdown_grace == 9.0
    assert "own" in [route.name for route in settings.routes]
    # the sandbox's refresh tokens live as long as its access tokens
    assert settings.oauth.refresh_token_lifetime == "same"
    assert settings.upstream.deny_paths == ("/__internal/**",)
    for word in ("real", "redis", "page-somebody", "example", "18610", "18611", str(tmp_path / "secret")):
        assert word not in text.replace(str(tmp_path), ""), word
    assert settings.state.folder == tmp_path / "state"
    assert settings.state.key is None


def test_an_encrypted_state_folder_is_rehearsed_with_a_key_of_its_own(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("A" * 43 + "=\n")
    key.chmod(0o600)
    loaded, text = rehearsed(users(tmp_path, state={"key_file": str(key)}), tmp_path)
    assert loaded.settings.state.key is not None
    assert "AAAA" not in text


def test_an_unknown_life_of_the_refresh_token_stays_unknown(tmp_path: Path) -> None:
    loaded, _ = rehearsed(users(tmp_path, oauth={"refresh_token_lifetime": "unknown"}), tmp_path)
    assert loaded.settings.oauth.refresh_token_lifetime == "unknown"


def test_the_stage_is_beside_the_real_folder_and_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stage_folder(state) as missing:
        assert Path(missing).parent == tmp_path, "where the folder is not there yet"
    state.mkdir()
    with stage_folder(state) as beside:
        assert Path(beside).parent == tmp_path
        assert Path(beside).stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == [state]


def test_where_nothing_can_be_made_the_user_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        with pytest.raises(CannotCreate, match="as the user of the daemon"):
            stage_folder(Path("/proc/1"))  # where even root makes nothing
        return
    state = tmp_path / "state"
    state.mkdir(mode=0o500)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CannotCreate, match="as the user of the daemon"):
            stage_folder(state)
    finally:
        tmp_path.chmod(0o700)


def test_the_environment_of_a_rehearsal_configures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSOPROXY__LOG__LEVEL", "PASSOPROXY_CONFIG", "NOTIFY_SOCKET", "LISTEN_FDS", "STATE_DIRECTORY"):
        monkeypatch.setenv(name, "x")
    assert "PATH" in environment()
    assert not {"PASSOPROXY__LOG__LEVEL", "PASSOPROXY_CONFIG", "NOTIFY_SOCKET", "LISTEN_FDS", "STATE_DIRECTORY"} & set(
        environment()
    )
