"""The effective configuration as `config show` gives it."""

from __future__ import annotations

import json

from passoproxy.config.describe import flat, shown
from tests.config.writing import LEAST, SECRET, Folder


def test_it_is_nested_as_the_file_and_masks_secrets(folder: Folder) -> None:
    loaded = folder.load(
        "oauth: {client_id: abc, client_secret: planted}\nadmin: {token: planted}\nupstream: {read_timeout: 90}\n"
        "store: {url: 'redis://planted@h/0'}\nserver: {allowed_peers: [10.0.0.0/8]}\nalerts: {webhook: 'https://h.example/planted'}\n"
    )
    found = shown(loaded)
    assert found["oauth"]["client_secret"] == "********"
    assert found["upstream"]["read_timeout"] == "90s"
    assert found["server"]["allowed_peers"] == ["10.0.0.0/8"]
    assert found["store"]["url"] == "redis://********@h/0"
    text = json.dumps({**found, "sources": dict(loaded.sources)})
    assert "planted" not in text
    assert SECRET not in text


def test_flat_has_every_key_with_its_source(folder: Folder) -> None:
    loaded = folder.load(LEAST + "server: {listen: '127.0.0.1:1'}\nadmin: {listen: off}\n")
    rows = dict(flat(loaded))
    assert rows["server.listen"] == "[127.0.0.1:1]"
    assert rows["admin.listen"] == "off"
    assert rows["upstream.ca_file"] == "null"
    assert rows["oauth.pkce"] == "true"
    assert rows["cache.offline"] == "false"
    assert rows["routes[0].name"] == "travel-details"
    assert set(rows) == set(loaded.sources)
