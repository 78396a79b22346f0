"""Keys whose feature is not in this version are accepted, with a warning and never in silence."""

from __future__ import annotations

import pytest

from passoproxy.config.keys import catalogue
from passoproxy.config.validate import UNUSED
from tests.config.writing import LEAST, Folder


def test_none_is_told_of_defaults_even_written_out(folder: Folder) -> None:
    text = (
        LEAST
        + "server: {workers: 1, listen: ['127.0.0.1:8610']}\ncache: {on_revoked: purge_private}\nalerts: {runway: {log: 55%}}\n"
    )
    assert folder.load(text).warnings == ()


def test_what_this_version_does_anyway_is_not_told(folder: Folder) -> None:
    text = LEAST.replace("abc", "abc, refresh_on_exit: never") + "cache: {on_revoked: keep}\n"
    assert folder.load(text).warnings == ()


def test_what_works_in_part_says_which_part(folder: Folder) -> None:
    told = [each for each in folder.load(LEAST + "store: {url: 'redis://h'}\n").warnings if each.key == "store.url"]
    assert [each.text for each in told] == [UNUSED["store.url"]]


def test_the_table_names_keys_that_exist() -> None:
    assert {tuple(key.split(".")) for key in UNUSED} <= set(catalogue())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("oauth.lost_answer_replay", "once"),
        ("upstream.proxy", "http://proxy.example:3128"),
        ("upstream.proxy_file", "proxy"),
        ("server.unix_peers", "[root]"),
        ("server.base_path", "/a"),
        ("admin.probe_listen", "127.0.0.1:8612"),
        ("oauth.refresh_on_exit", "always"),
        ("oauth.seed_file", "nowhere"),
        ("state.key", "A" * 43 + "="),
        ("upstream.daily_budget", "100"),
        ("cache.on_revoked", "purge"),
    ],
)
def test_what_this_version_can_do_is_not_told(folder: Folder, key: str, value: str) -> None:
    folder.write("proxy", "http://user:word@proxy.example:3128")
    environ = {f"PASSOPROXY__{key.upper().replace('.', '__')}": value}
    assert folder.load(LEAST, environ).warnings == ()
    assert key not in UNUSED
