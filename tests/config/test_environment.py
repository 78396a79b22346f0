"""PASSOPROXY__ variables, credentials and folders."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from passoproxy.config import sources
from tests.config.writing import LEAST, Folder, text_of


def test_values_are_yaml_and_sections_are_joined(folder: Folder) -> None:
    loaded = folder.load(
        LEAST + "server: {limits: {connections: 5}}\n",
        {
            "PASSOPROXY__SERVER__LIMITS": "{header_bytes: 64KiB, idle_timeout: 5}",
            "PASSOPROXY__SERVER__LIMITS__IDLE_TIMEOUT": "6",
            "PASSOPROXY__SERVER__LISTEN": "['127.0.0.1:1', '[::1]:1']",
            "PASSOPROXY__ADMIN__LISTEN": "off",
            "PASSOPROXY__UPSTREAM__ALLOW_METHODS": "[GET]",
            "PASSOPROXY__UPSTREAM__USER_AGENT": "null",
            "PASSOPROXY_CONFIG": "",
            "PASSOPROXY_URL": "http://x",
        },
    ).settings
    assert (loaded.server.limits.connections, loaded.server.limits.header_bytes, loaded.server.limits.idle_timeout) == (
        5,
        65536,
        6.0,
    )
    assert [str(each) for each in loaded.server.listen] == ["127.0.0.1:1", "[::1]:1"]
    assert loaded.admin.listen == ()
    assert loaded.upstream.allow_methods == ("GET",)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("a #b", "a #b"),
        ("x: y", "x: y"),
        ("*a", "*a"),
        ("'quoted #1'", "quoted #1"),
        ('"q"', "q"),
        ("1e5", "1e5"),
        ("0123", "0123"),
    ],
)
def test_secrets_are_taken_as_they_stand_unless_quoted(folder: Folder, text: str, secret: str) -> None:
    loaded = folder.load(LEAST, {"PASSOPROXY__OAUTH__CLIENT_SECRET": text})
    assert text_of(loaded.secrets.client_secret) == secret


def test_an_empty_secret_leaves_the_file(folder: Folder) -> None:
    loaded = folder.load(LEAST, {"PASSOPROXY__OAUTH__CLIENT_SECRET": ""})
    assert loaded.settings.oauth.client_secret_file == folder.path / "secret"


def test_credentials_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "state_key").write_text("x")
    layer = sources.credentials({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert layer.values == {"state": {"key_file": str(tmp_path / "state_key")}}
    assert sources.credentials({}).values == {}


CONTENT = {
    "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "keys": "shop:word",
    "proxy": "http://proxy.internal:3128",
    "webhook": "https://hook.example/x",
}
"""What a secret looks like, by the last word of its name."""


def test_every_secret_has_a_credential_of_its_name() -> None:
    names = sources.credential_names()
    for path in sources.secret_pairs():
        assert names["_".join(path)] == (*path[:-1], f"{path[-1]}_file")
    assert {"client_secret", "client_keys", "webhook", "tls_key", "seed"} < names.keys()
    assert "key" not in names  # there are two


@pytest.mark.parametrize("name", sources.credential_names())
def test_each_is_found_by_itself_also_where_a_file_is_named_that_cannot_be_read(folder: Folder, name: str) -> None:
    credentials = folder.path / "credentials"
    credentials.mkdir()
    (credentials / name).write_text(CONTENT.get(name.rpartition("_")[2], "a-secret"))
    (credentials / name).chmod(0o440)
    key = sources.credential_names()[name]
    more: dict[str, dict[str, Any]] = {
        "oauth": {"client_id": "a", "client_secret": "b"},
        "server": {"tls": {"cert_file": "cert.pem"}},
    }
    if "client_secret" in name:
        del more["oauth"]["client_secret"]
    if "static_token" in name:
        more["oauth"]["grant"] = "static"
    if "previous" in name:
        more["state"] = {"key": CONTENT["key"]}
    if "tls" not in name:
        del more["server"]
    folder.write("cert.pem", "")
    for file in (None, "/etc/passoproxy/nowhere"):
        text = copy.deepcopy(more)
        section: dict[str, Any] = text
        for part in key[:-1]:
            section = section.setdefault(part, {})
        section |= {key[-1]: file} if file else {}
        loaded = folder.load(yaml.safe_dump(text), {"CREDENTIALS_DIRECTORY": str(credentials)})
        assert loaded.sources[".".join(key)] == f"credential {name}"


def test_where_a_configuration_is_looked_for() -> None:
    assert sources.configuration_files({"HOME": "/h"}, Path("/w")) == [
        Path("/w/config.yaml"),
        Path("/h/.config/passoproxy/config.yaml"),
        Path("/etc/passoproxy/config.yaml"),
    ]
    assert sources.configuration_files({}, Path("/w")) == [
        Path("/w/config.yaml"),
        Path("/etc/passoproxy/config.yaml"),
    ]
