"""The tree: defaults as the contract has them, and what the core is given."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from passoproxy.config.settings import RouteSettings, Settings
from passoproxy.core.cache.policy import BypassPolicy, CacheMode, KeyPolicy, RoutePolicy


def test_the_tree_is_frozen_and_strict() -> None:
    with pytest.raises(ValidationError):
        Settings().log.level = "debug"
    for wrong in ({"server": {"workers": "2"}}, {"server": {"workers": True}}, {"nope": 1}, {"log": {"access": 1}}):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)


def test_secrets_do_not_show() -> None:
    found = Settings.model_validate(
        {
            "oauth": {"client_secret": "planted", "static_token": "planted"},
            "alerts": {"webhook": "https://hooks.example.com/planted"},
            "admin": {"token": 1234567},
        }
    )
    assert "planted" not in repr(found) + str(found) + str(found.plain())
    assert "1234567" not in repr(found) + str(found.plain())
    assert found.plain()["alerts"]["webhook"] == "https://hooks.example.com/********"
    assert found.admin.token is not None
    assert found.admin.token.get_secret_value() == "1234567"


def test_what_is_shown_can_be_read_again() -> None:
    first = Settings.model_validate(
        {"oauth": {"lost_answer_replay": "30s", "refresh_token_lifetime": 60}, "admin": {"listen": "off"}}
    )
    assert Settings.model_validate(first.plain()) == first


@pytest.mark.parametrize(
    ("methods", "policy"),
    [
        (["GET"], ("GET", "HEAD")),
        (["GET", "POST"], ("GET", "POST", "HEAD")),
        (["HEAD", "GET"], ("HEAD", "GET")),
        (["POST"], ("POST",)),
    ],
)
def test_head_goes_with_get(methods: list[str], policy: tuple[str, ...]) -> None:
    assert RouteSettings.model_validate({"name": "a", "match": "/a", "methods": methods}).policy().methods == policy


def test_a_route_becomes_the_policy_of_the_core() -> None:
    raw = {
        "name": "a",
        "match": "/a/**",
        "ttl": "1h",
        "override": True,
        "stale_while_revalidate": "5m",
        "stale_if_error": "1d",
        "stale_if_unauthorized": 60,
        "refresh_ahead": "10%",
        "key": {
            "ignore_query": ["x"],
            "sort_query": False,
            "ignore_body_fields": ["a.b"],
            "headers": ["Accept-Language"],
        },
        "volatile_fields": ["requestid"],
        "bypass_when": {"query_has": ["q"], "body_has": ["b"]},
        "cookies": "pass",
        "client_authorization": "pass",
        "private": True,
        "tags": ["t"],
        "purges": ["u"],
    }
    assert Settings.model_validate({"routes": [raw]}).policies() == (
        RoutePolicy(
            name="a",
            match="/a/**",
            methods=("GET", "HEAD"),
            ttl=3600.0,
            override=True,
            stale_while_revalidate=300.0,
            stale_if_error=86400.0,
            stale_if_unauthorized=60.0,
            refresh_ahead=0.1,
            key=KeyPolicy(("x",), False, ("a.b",), ("Accept-Language",)),
            volatile_fields=("requestid",),
            bypass_when=BypassPolicy(("q",), ("b",)),
            pass_cookies=True,
            pass_client_authorization=True,
            private=True,
            tags=("t",),
            purges=("u",),
        ),
    )


def test_the_cache_mode_of_the_core() -> None:
    cache = Settings.model_validate({"cache": {"mode": "http", "shared": False, "max_entry_size": "1MiB"}}).cache
    assert cache.as_mode() == CacheMode(http=True, shared=False, offline=False, max_entry_bytes=1 << 20)


def test_a_folder_without_load_is_a_fault_of_the_program() -> None:
    for section in (Settings().state, Settings().cache):
        with pytest.raises(ValueError, match=r"directory is not set"):
            _ = section.folder
