"""Layers of values laid over one another, each value remembering where it came from.

From below: preset, systemd credentials, file, environment. The settings' own defaults lie beneath all of them and are not a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from passoproxy.config.keys import KeyPath, catalogue, find


@dataclass(slots=True)
class Layer:
    """Raw values in the shape of the file. `places` tells where each path stands, in words for people."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where a path stands, or the nearest that encloses it; empty where nothing is known."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")

    def put(self, path: tuple[str, ...], value: Any, place: str) -> None:
        """Sets one value, and notes where it stands."""
        target = self.values
        for part in path[:-1]:
            inner = target.get(part)
            target[part] = target = inner if isinstance(inner, dict) else {}
        target[path[-1]] = value
        self._forget(path)
        self.places[path] = place

    def drop(self, path: tuple[str, ...]) -> None:
        """Takes one value away."""
        target: Any = self.values
        for part in path[:-1]:
            target = target.get(part) if isinstance(target, dict) else None
        if isinstance(target, dict) and target.pop(path[-1], self) is not self:
            self._forget(path)

    def get(self, path: KeyPath) -> Any:
        """The raw value at a path, None where there is none."""
        value: Any = self.values
        for part in path:
            if isinstance(value, dict) and isinstance(part, str):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def holds(self, path: tuple[str, ...]) -> bool:
        """Whether a value other than null is given."""
        return self.get(path) is not None

    def _forget(self, path: KeyPath) -> None:
        for place in [each for each in self.places if each[: len(path)] == path]:
            del self.places[place]


def lay_over(below: Layer, above: Layer) -> Layer:
    """`above` wins; mappings are joined key by key, lists are replaced whole, routes are joined by name (contract §3)."""
    result = Layer(_copied(below.values), dict(below.places))
    for path, value in _leaves(above.values, ()):
        if path == ("routes",) and isinstance(value, list):
            _join_routes(result, value, above)
            continue
        if _keeps_what_is_below(path, value):
            continue
        result.put(path, value, "")
        del result.places[path]
        result.places |= {place: said for place, said in above.places.items() if place[: len(path)] == path}
    # what is a mapping in both keeps the place of the uppermost, for faults about what is missing in it
    for place, said in above.places.items():
        if isinstance(above.get(place), dict):
            result.places[place] = said
    return result


def _keeps_what_is_below(path: tuple[str, ...], value: Any) -> bool:
    """Null for a whole section says nothing, and for the replay it means 'as the preset has it'."""
    key = find(path)
    silent = path in (("oauth", "lost_answer_replay"), ("routes",)) or (key is not None and key.section)
    return value is None and silent


def _leaves(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        key = find((*path, name))
        if isinstance(value, dict) and key is not None and key.section:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _join_routes(result: Layer, own: list[Any], above: Layer) -> None:
    lower = result.values.get("routes")
    lower = lower if isinstance(lower, list) else []
    # a list, and not a set: what was written as a name may be anything
    taken = [each.get("name") for each in own if isinstance(each, dict)]
    kept = [index for index, each in enumerate(lower) if not isinstance(each, dict) or each.get("name") not in taken]
    places = {
        (place[1], place[2:]): said
        for place, said in result.places.items()
        if place[:1] == ("routes",) and len(place) > 1
    }
    result.drop(("routes",))
    result.values["routes"] = [*own, *(lower[index] for index in kept)]
    result.places |= {place: said for place, said in above.places.items() if place[:1] == ("routes",)}
    for position, index in enumerate(kept, start=len(own)):
        result.places |= {("routes", position, *rest): said for (old, rest), said in places.items() if old == index}


def settle_siblings(layer: Layer, below: Layer) -> list[tuple[str, ...]]:
    """Where a layer names `x`, what lies below loses `x_file`, and the other way round.

    Returns the secrets that one layer gives both ways.
    """
    twice = []
    for path in secret_pairs():
        file = (*path[:-1], f"{path[-1]}_file")
        if layer.holds(path) and layer.holds(file):
            if layer.get(path) == "env":  # the default written out, as in the example
                layer.drop(path)
            else:
                twice.append(path)
        elif layer.holds(path):
            below.put(file, None, layer.place(path))
        elif layer.holds(file):
            below.drop(path)
    return twice


def secret_pairs() -> list[tuple[str, ...]]:
    """Every key that also has a `_file` form."""
    return [path for path in catalogue() if (*path[:-1], f"{path[-1]}_file") in catalogue()]


def settle_paths(layer: Layer, base: Path, home: str) -> None:
    """Makes relative file names absolute against `base`, and `~/` against `home`."""
    for path, key in catalogue().items():
        if key.file and not key.section:
            _settle_path(layer, path, base, home)
    headers = layer.get(("upstream", "headers"))
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if isinstance(value, dict):
            _settle_path(layer, ("upstream", "headers", name, "file"), base, home)


def _settle_path(layer: Layer, path: tuple[str, ...], base: Path, home: str) -> None:
    text = layer.get(path)
    if isinstance(text, str) and text.strip() and "\0" not in text:
        text = text.strip()
        _replace(layer.values, path, str(base / (f"{home}{text[1:]}" if text.startswith("~/") and home else text)))


def _replace(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        values = values[part]
    values[path[-1]] = value
