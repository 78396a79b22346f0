"""Keys that are accepted and do nothing in this version: one table, to be shortened as their features arrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passoproxy.config.layers import Layer
from passoproxy.config.settings import Settings

UNUSED_KEYS: tuple[tuple[str, str], ...] = (
    ("server.workers", "one process serves"),
    ("upstream.daily_budget", "origin requests are not counted"),
    ("oauth.refresh_on_exit", "the pair is kept as it is when the daemon ends"),
    ("oauth.seed_file", "use `passoproxy token import` instead"),
    ("state.key", "the pair is stored unencrypted, with mode 0600"),
    ("state.key_file", "the pair is stored unencrypted, with mode 0600"),
    ("state.previous_key", "the pair is stored unencrypted, with mode 0600"),
    ("state.previous_key_file", "the pair is stored unencrypted, with mode 0600"),
    ("cache.on_revoked", "stored answers are kept when a grant is withdrawn"),
    ("store", "pair and cache live on this machine's disk alone"),
    ("alerts", "nobody is alerted; watch passoproxy_token_runway_seconds"),
    ("tracing", "no traces are sent"),
    ("gateway", "nothing is recorded or replayed"),
)
"""A key, or a section with all that is in it, and what happens instead."""

HONOURED = {"oauth.refresh_on_exit": "never", "cache.on_revoked": "keep"}
"""Values that ask for what this version does anyway."""


def unused(settings: Settings, layer: Layer) -> list[tuple[str, str]]:
    """Keys that were set to something other than their default and do nothing, each with the text that says so."""
    wanted, defaults = settings.model_dump(), Settings().model_dump()
    found = []
    for key, instead in UNUSED_KEYS:
        for leaf in _leaves(key, defaults):
            path = tuple(leaf.split("."))
            value = _value(wanted, path)
            if value not in (_value(defaults, path), HONOURED.get(leaf)) and not layer.place(path).startswith("preset"):
                found.append((leaf, f"is accepted, and does nothing in this version: {instead}"))
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
