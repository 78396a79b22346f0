"""Keys that are accepted and do nothing in this version: one table, to be shortened as their features arrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passoproxy.config.layers import Layer
from passoproxy.config.settings import Settings

UNUSED_KEYS: tuple[tuple[str, str], ...] = (
    ("upstream.daily_budget", "origin requests are not counted"),
    ("server.base_path", "paths are taken as they come"),
    ("alerts.events", "only the runway is told of"),
    ("tracing", "no traces are sent"),
    ("gateway", "nothing is recorded or replayed"),
)
"""A key, or a section with all that is in it, and what happens instead."""

PARTLY_USED: tuple[tuple[str, str], ...] = (
    (
        "store.url",
        "shares the pair and the cache in this version: each instance has an upstream.max_concurrency of its own",
    ),
)
"""A key that does less in this version than the contract says, and what it does."""

HONOURED: dict[str, str] = {}
"""Values that ask for what this version does anyway."""


def unused(settings: Settings, layer: Layer) -> list[tuple[str, str]]:
    """Keys that were set to something other than their default and do nothing, or not all of it, each with the text that says so."""
    wanted, defaults = settings.model_dump(), Settings().model_dump()
    found = []
    for key, instead in UNUSED_KEYS:
        for leaf in _leaves(key, defaults):
            path = tuple(leaf.split("."))
            value = _value(wanted, path)
            if value not in (_value(defaults, path), HONOURED.get(leaf)) and not layer.place(path).startswith("preset"):
                found.append((leaf, f"is accepted, and does nothing in this version: {instead}"))
    for key, what in PARTLY_USED:
        path = tuple(key.split("."))
        if _value(wanted, path) != _value(defaults, path):
            found.append((key, what))
    return found


def _leaves(key: str, tree: Mapping[str, Any]) -> list[str]:
    value = _value(tree, tuple(key.split(".")))
    if not isinstance(value, dict):
        return [key]
    return [leaf for name in value for leaf in _leaves(f"{key}.{name}", tree)]


def _value(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = tree
    for part in path:
        value = value[part]
    return value
