"""The effective configuration for people and programs: nested as the file is, secrets masked, with where each value came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from passoproxy.config.keys import KeyPath, dotted
from passoproxy.config.layers import Layer
from passoproxy.config.settings import Settings
from passoproxy.config.values import without_password

if TYPE_CHECKING:
    from passoproxy.config.reading import Loaded


def shown(loaded: Loaded) -> dict[str, Any]:
    """Plain nested data as the file has it: short durations and sizes, secrets masked."""
    plain = loaded.settings.plain()
    if plain["store"]["url"]:
        plain["store"]["url"] = without_password(plain["store"]["url"])
    return plain


def flat(loaded: Loaded) -> list[tuple[str, str]]:
    """Every key with its value as text, in the order of the contract."""
    return [(dotted(path), _text(value)) for path, value in _leaves(shown(loaded), ())]


def sources_of(settings: Settings, layer: Layer) -> dict[str, str]:
    """For every dotted key, where its value came from: default, preset, file:line, environment variable, or credential."""
    return {dotted(path): _source(path, layer) for path, _ in _leaves(settings.plain(), ())}


def _source(path: KeyPath, layer: Layer) -> str:
    if layer.get(path) is None and path not in layer.places:
        return "default"
    return layer.place(path) or "default"


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Mappings are opened, and the list of routes; other lists are values."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, (*path, name))
    elif path == ("routes",):
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
    else:
        yield path, value


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case _:
            return str(value)
