"""The names of all keys, from the settings' models: which are sections, files, secrets; and the likely meaning of an unknown name."""

from __future__ import annotations

import difflib
import functools
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, SecretStr

from passoproxy.config.settings import Settings
from passoproxy.values import dataclass

KeyPath = tuple[str | int, ...]
"""Where a value stands: names of keys, and numbers within lists."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `section` is True for a mapping with keys of its own, `nullable` where null is a value."""

    path: tuple[str, ...]
    section: bool
    nullable: bool
    file: bool
    secret: bool


def dotted(path: KeyPath) -> str:
    """`upstream.url`, `routes[2].ttl`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parsed(key: str) -> KeyPath:
    """The path of a dotted key."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key))


@functools.cache
def catalogue() -> Mapping[tuple[str, ...], Key]:
    """Every key by its path; those of a route stand under `routes`."""
    return {key.path: key for key in _walk(Settings, ())}


def _walk(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        types = set(_types(field.annotation))
        inner = next((each for each in types if isinstance(each, type) and issubclass(each, BaseModel)), None)
        # the routes are a list, and their keys those of its items
        origin = typing.get_origin(field.annotation)
        section = inner is not None and origin is not tuple
        # a mapping with names of the user's own holds files and secrets, and is neither
        one = origin is not dict
        yield Key((*path, name), section, type(None) in types, one and Path in types, one and SecretStr in types)
        if inner is not None:
            yield from _walk(inner, (*path, name))


def _types(annotation: object) -> Iterator[object]:
    arguments = typing.get_args(annotation)
    if not arguments:
        yield annotation
    for each in arguments:
        yield from _types(each)


def find(path: KeyPath) -> Key | None:
    """The key at a path, numbers of list items left out."""
    return catalogue().get(names(path))


def names(path: KeyPath) -> tuple[str, ...]:
    """The path without the numbers of list items."""
    return tuple(part for part in path if isinstance(part, str))


def children(section: tuple[str, ...]) -> list[str]:
    """The names that are valid in a section, in the order of the contract."""
    return [path[-1] for path in catalogue() if path[:-1] == section]


def nearest(path: KeyPath) -> str:
    """The valid key that an unknown key most likely means, dotted; empty if none is near."""
    *section, name = names(path)
    level = children(tuple(section))
    tidy = name.strip().lower().replace("-", "_").replace(" ", "_")
    if tidy in level:
        return dotted((*section, tidy))
    elsewhere = [each for each in catalogue() if each[-1] == tidy]
    close = difflib.get_close_matches(tidy, level, 1, 0.75 if elsewhere else 0.6)
    if close:
        return dotted((*section, close[0]))
    if elsewhere:
        return dotted(elsewhere[0])
    begun = [each for each in level if each.startswith(tidy)] if len(tidy) >= 3 else []
    if len(begun) == 1:
        return dotted((*section, begun[0]))
    far = difflib.get_close_matches(tidy, [each[-1] for each in catalogue()], 1, 0.8)
    return dotted(next(each for each in catalogue() if each[-1] == far[0])) if far else ""


def remedy_for_unknown(path: KeyPath) -> str:
    """What to do about an unknown key: the nearest name, else all that are valid there."""
    meant = nearest(path)
    if meant.startswith("routes.") and names(path)[0] != "routes":
        return f"did you mean {meant.removeprefix('routes.')} of an item of routes?"
    if meant and meant == path[-1]:
        return f"{meant} is a section of its own: write it at the beginning of a line"
    if meant:
        section = dotted(names(path)[:-1])
        return f"did you mean {meant.removeprefix(section + '.') if section else meant}?"
    above = names(path)[:-1]
    while not (level := children(above)):  # itself unknown, or no section
        above = above[:-1]
    return f"valid here: {', '.join(level)}"
