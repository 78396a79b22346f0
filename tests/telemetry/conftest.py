"""Every kind of event with a secret in each of its texts."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from passoproxy.core import events

PLANTED = (
    "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJwbGFudGVkIn0.cGxhbnRlZA",
    "def50200" + "facade" * 10,
    "the-planted-client-secret",
)


def planted(kind: type, secret: str) -> events.Event:
    """An event of `kind` in which every text holds `secret`, and every number is plain."""
    filled: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        hint = str(field.type)
        filled[field.name] = (
            f"/p?access_token={secret}" if hint == "str" else 1 if hint.startswith("int") else 1_700_000_000.5
        )
    return typing.cast("events.Event", kind(**filled))


@pytest.fixture
def every_event() -> list[events.Event]:
    """One event of every kind for every planted secret."""
    return [planted(kind, secret) for kind in typing.get_args(events.Event) for secret in PLANTED]


@pytest.fixture
def secrets() -> tuple[str, ...]:
    """What must not be found in any output."""
    return PLANTED
