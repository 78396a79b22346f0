"""Where values come from: file, environment and systemd credentials, each a `Layer` whose values remember their place.

From below: preset, credentials, file, environment; `lay_over` merges two. The settings' own defaults lie beneath all of them and are no
layer. `parse` reads YAML with bounds (size, depth, nodes after aliases), without tags and duplicate keys. Scalars follow YAML 1.2 (no
sexagesimal numbers, no octal, no dates), with the words of 1.1 for true and false, because the contract has `off`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from passoproxy.config.keys import Key, KeyPath, catalogue, dotted, find, remedy_for_unknown
from passoproxy.errors import Fault

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 50_000


# ---- a layer ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Layer:
    """Raw values in the shape of the file. `places` tells where each path stands, in words; `faults` are those of reading it."""

    values: Any = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def place(self, path: KeyPath) -> str:
        """The place of a path, or of the nearest that encloses it; empty if none is known."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")

    def put(self, path: tuple[str, ...], value: Any, place: str) -> None:
        """Sets one value and its place."""
        target = self.values
        for part in path[:-1]:
            inner = target.get(part)
            target[part] = target = inner if isinstance(inner, dict) else {}
        target[path[-1]] = value
        self._forget(path)
        self.places[path] = place

    def drop(self, path: tuple[str, ...]) -> None:
        """Removes one value."""
        target = self.get(path[:-1])
        if isinstance(target, dict) and target.pop(path[-1], self) is not self:
            self._forget(path)

    def get(self, path: KeyPath) -> Any:
        """The raw value at a path, None if there is none."""
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
        self.places = {place: said for place, said in self.places.items() if place[: len(path)] != path}


_KEEP_BELOW = (("oauth", "lost_answer_replay"), ("routes",))
"""Null for one of these, or for a whole section, leaves what lies below."""


def lay_over(below: Layer, above: Layer) -> Layer:
    """`above` wins: mappings are joined key by key, lists are replaced whole, routes are joined by name (contract §3)."""
    result = Layer(_copied(below.values), dict(below.places))
    for path, value in _leaves(above.values, ()):
        key = find(path)
        if path == ("routes",) and isinstance(value, list):
            _join_routes(result, value, above)
        elif value is not None or not (path in _KEEP_BELOW or (key is not None and key.section)):
            result.put(path, value, "")
            del result.places[path]
            result.places |= {place: said for place, said in above.places.items() if place[: len(path)] == path}
    # a mapping of both has the upper one's place, for faults about what is missing in it
    result.places |= {place: said for place, said in above.places.items() if isinstance(above.get(place), dict)}
    return result


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
    lower = result.get(("routes",)) or []
    # a list, and not a set: what was written as a name may be anything
    taken = [each.get("name") for each in own if isinstance(each, dict)]
    kept = [index for index, each in enumerate(lower) if not isinstance(each, dict) or each.get("name") not in taken]
    places = {place: said for place, said in result.places.items() if place[:1] == ("routes",) and len(place) > 1}
    result.drop(("routes",))
    result.values["routes"] = [*own, *(lower[index] for index in kept)]
    result.places |= {place: said for place, said in above.places.items() if place[:1] == ("routes",)}
    for position, index in enumerate(kept, start=len(own)):
        result.places |= {("routes", position, *at[2:]): said for at, said in places.items() if at[1] == index}


def secret_pairs() -> list[tuple[str, ...]]:
    """Every key that also has a `_file` form."""
    return [path for path in catalogue() if _file_form(path) in catalogue()]


def _file_form(path: tuple[str, ...]) -> tuple[str, ...]:
    return (*path[:-1], f"{path[-1]}_file")


def settle_siblings(layer: Layer, below: Layer) -> list[Fault]:
    """If `layer` gives `x`, `below` loses `x_file`, and the other way round. A fault for each secret that `layer` gives both ways."""
    faults = []
    for path in secret_pairs():
        file = _file_form(path)
        if layer.holds(path) and layer.holds(file):
            if layer.get(path) == "env":  # the default written out, as in the example
                layer.drop(path)
            else:
                problem = f"is given beside {dotted(file)}"
                faults.append(Fault(layer.place(path), dotted(path), problem, "keep one of the two"))
        elif layer.holds(path):
            below.put(file, None, layer.place(path))
        elif layer.holds(file):
            below.drop(path)
    return faults


def settle_paths(layer: Layer, base: Path, home: str) -> None:
    """Makes relative file names absolute against `base`, and `~/` against `home`."""
    files = [path for path, key in catalogue().items() if key.file and not key.section]
    headers = layer.get(("upstream", "headers"))
    files += [("upstream", "headers", name, "file") for name in headers] if isinstance(headers, dict) else []
    for path in files:
        text = layer.get(path)
        if isinstance(text, str) and text.strip() and "\0" not in text:
            text = text.strip()
            layer.get(path[:-1])[path[-1]] = str(base / (home + text[1:] if text.startswith("~/") and home else text))


# ---- YAML ------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF", "tTfFyYnNoO"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"-?(?:0|[1-9][0-9]{0,17})", "-0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
    ("merge", r"<<", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first))

_TRUE = ("true", "yes", "on")


def parse(text: str | bytes, name: str, at: tuple[str, ...] = ()) -> Layer:
    """Reads one document into a layer, whose places are `name:line`. A text that does not parse has values None and one fault.

    `at` is the key of an environment variable, whose text is one value: its places have no line.
    """
    reader = _Reader(name, at)
    try:
        reader.layer.values = reader.read(text)
    except _Unreadable as fault:
        reader.layer.values, reader.layer.faults = None, [reader.fault(*fault.args)]
    return reader.layer


class _Unreadable(Exception):
    """Line (0: the whole), key, problem and remedy of a text that gives no values."""


class _Reader:
    """Turns YAML nodes into plain values and notes their places. Nodes are counted with aliases followed."""

    def __init__(self, name: str, at: tuple[str, ...]) -> None:
        self.layer = Layer()
        self._name, self._at = name, at
        self._nodes = 0
        self._merging = 0

    def _place(self, line: int) -> str:
        return self._name if self._at or not line else f"{self._name}:{line}"

    def fault(self, line: int, path: KeyPath, problem: str, remedy: str) -> Fault:
        return Fault(self._place(line), dotted((*self._at, *path)), problem, remedy)

    def _wrong(self, node: yaml.Node, path: KeyPath, problem: str, remedy: str) -> None:
        self.layer.faults.append(self.fault(_line(node), path, problem, remedy))

    def read(self, text: str | bytes) -> Any:
        if len(text) > MAX_BYTES:
            remedy = "a configuration of that size is a mistake; shorten it"
            raise _Unreadable(0, (), f"is larger than {MAX_BYTES // 1024} KiB", remedy)
        try:
            if isinstance(text, bytes):
                text = text.decode("utf-8-sig")
            _refuse_depth(text)
            node = yaml.compose(text, Loader=_Loader)
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise _Unreadable(line, (), f"is not UTF-8 text (line {line})", "save the file as UTF-8") from None
        except yaml.YAMLError as error:
            raise _syntax(error, str(text)) from None
        return None if node is None else self._build(node, ())

    def _build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _overgrown(node)
        self.layer.places.setdefault(path, self._place(_line(node)))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._wrong(node, path, "has a tag ('!...'), which a configuration cannot have", "remove it")
        if isinstance(node, yaml.SequenceNode):
            return [self._build(each, (*path, index)) for index, each in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                merged.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
            elif not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str" or not key.value:
                remedy = "write the key as a plain name, in quotes where YAML reads it as something else"
                self._wrong(key, path, "has a key that is not text", remedy)
            elif key.value in seen:
                problem = f"stands twice (first in line {seen[key.value]})"
                self._wrong(key, (*path, key.value), problem, "keep one of them")
            else:
                seen[key.value] = _line(key)
                self.layer.places[(*path, key.value)] = self._place(_line(key))
                found[key.value] = self._build(value, (*path, key.value))
        for each in merged:
            self._merge(each, path, found)
        return found

    def _merge(self, node: yaml.Node, path: KeyPath, found: dict[str, Any]) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, path, "merges ('<<') what is not a mapping", "name an anchor of a mapping")
            return
        self._merging += 1
        if self._merging > MAX_DEPTH:
            raise _overgrown(node)
        # the merged mapping must not take the places of the mapping's own keys
        kept = {place: said for place, said in self.layer.places.items() if place[: len(path)] == path}
        for name, value in self._mapping(node, path).items():
            found.setdefault(name, value)
        self.layer.places.update(kept)
        self._merging -= 1

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        try:
            match node.tag.removeprefix("tag:yaml.org,2002:"):
                case "str" | "merge":
                    return text
                case "null":
                    return None
                case "bool":
                    return text.lower() in _TRUE
                case "int":
                    return int(text)
                case "float":
                    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:  # only with an explicit tag
            self._wrong(node, path, "has a tag that does not fit its value", "remove it")
            return None
        remedy = "remove it, or put a text that begins with '!' into quotes"
        self._wrong(node, path, "has a tag ('!...'), which a configuration cannot have", remedy)
        return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _refuse_depth(text: str) -> None:
    """Looks at events, which need no recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise _Unreadable(line, (), f"is nested deeper than {MAX_DEPTH} levels", "flatten it")


def _overgrown(node: yaml.Node) -> _Unreadable:
    """For aliases that multiply, or contain themselves."""
    problem = f"holds more than a configuration can after the aliases of line {_line(node)} are followed"
    return _Unreadable(_line(node), (), problem, "use fewer aliases")


def _syntax(error: yaml.YAMLError, text: str) -> _Unreadable:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return _Unreadable(line, (), f"is not valid YAML at line {line}: it holds a control character", "remove it")
    problem = str(getattr(error, "problem", None) or "cannot be understood")
    remedy = "check indentation, colons, brackets and quotes there and on the line before"
    if isinstance(error, yaml.composer.ComposerError):
        # the parser's own text repeats what stands there, which may be a secret that was meant as text
        is_alias = problem.startswith("found undefined alias")
        problem = "'*' begins an alias, and there is no anchor of that name" if is_alias else "more than one document"
        remedy = "put a text that begins with '*' into quotes" if is_alias else "keep one, without '---'"
    elif "cannot start any token" in problem:
        remedy = "indent with spaces, and put a text that begins with such a character into quotes"
    mark, begun = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if mark is None:
        return _Unreadable(0, (), f"is not valid YAML: {problem}", remedy)
    if begun is not None and begun.line != mark.line:
        problem = f"{problem} (in what begins at line {begun.line + 1})"
    place = f"line {mark.line + 1}, column {mark.column + 1}"
    return _Unreadable(mark.line + 1, (), f"is not valid YAML at {place}: {problem}", remedy)


# ---- environment -----------------------------------------------------------------------------------------------------

PREFIX = "PASSOPROXY__"


def variables(environ: Mapping[str, str]) -> Layer:
    """PASSOPROXY__SECTION__KEY variables, each value read as YAML."""
    layer = Layer()
    given = sorted((name for name in environ if name.startswith(PREFIX)), key=lambda name: (name.count("__"), name))
    for name in given:
        path, where = tuple(name.removeprefix(PREFIX).lower().split("__")), f"environment {name}"
        key, text = find(path), environ[name].strip()
        if key is None or (path[0] == "routes" and len(path) > 1):
            layer.faults.append(Fault(where, "", "names no key", _nearest_variable(path)))
        elif key.secret and text and text[0] not in "\"'" and text not in ("null", "~"):
            # a secret with '#' or ': ' in it must not be cut short; quoted, it is YAML like the others
            layer.put(path, text, where)
        elif not (found := parse(environ[name], where, path)).faults:
            _put(layer, path, found.values, where)
        elif key.section:
            layer.faults += found.faults
        else:
            remedy = f"put the value into quotes of its own, as in '\"{_example(key)}\"'"
            layer.faults.append(Fault(where, dotted(path), found.faults[0].problem, remedy))
    return layer


def _put(layer: Layer, path: tuple[str, ...], value: Any, where: str) -> None:
    key = find(path)
    if isinstance(value, dict) and key is not None and key.section:
        for name, each in value.items():
            _put(layer, (*path, name), each, where)
    else:
        layer.put(path, value, where)


def _example(key: Key) -> str:
    return "[::1]:8610" if "listen" in key.path[-1] else "the value"


def _nearest_variable(path: tuple[str, ...]) -> str:
    if path[0] == "routes":
        return "set the whole list, as YAML, in PASSOPROXY__ROUTES"
    said = remedy_for_unknown(path)
    if not said.startswith("did you mean "):
        return said
    meant = said.removeprefix("did you mean ").rstrip("?")
    whole = meant if "." in meant or len(path) == 1 else dotted((*path[:-1], meant))
    return f"did you mean {PREFIX}{whole.upper().replace('.', '__')}?"


@cache
def credential_names() -> Mapping[str, tuple[str, ...]]:
    """Names in $CREDENTIALS_DIRECTORY, and the `_file` key that each stands for.

    A name is the key's, with as much before it as makes it unique (`client_secret`, `state_key`, `tls_key`), up to the whole
    (`oauth_client_secret`).
    """
    paths = [*secret_pairs(), ("oauth", "seed"), ("server", "tls", "key")]
    named = [("_".join(path[at:]), _file_form(path)) for path in paths for at in range(len(path))]
    counts = Counter(name for name, _ in named)
    return {name: key for name, key in named if counts[name] == 1}


def with_values(environ: Mapping[str, str], values: Mapping[str, object]) -> dict[str, str]:
    """An environment that gives these keys these values, such as `server.listen`."""
    given = {f"{PREFIX}{key.upper().replace('.', '__')}": json.dumps(value) for key, value in values.items()}
    return {**environ, **given}


def credentials(environ: Mapping[str, str]) -> Layer:
    """The systemd credentials that are named like a key."""
    layer = Layer()
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    for name, path in credential_names().items():
        if folder and not layer.holds(path) and (Path(folder) / name).is_file():
            layer.put(path, str(Path(folder) / name), f"credential {name}")
    return layer


# ---- folders ---------------------------------------------------------------------------------------------------------

SYSTEM_CONFIGURATION = Path("/etc/passoproxy/config.yaml")
"""The configuration of a service."""

UNIT_STATE = Path("/var/lib/passoproxy")
"""The state folder of systemd/passoproxy.service."""


def home(environ: Mapping[str, str]) -> str:
    """The home folder, empty if there is none."""
    folder = environ.get("HOME", "")
    return folder.rstrip("/") if folder.startswith("/") and folder != "/" else ""


def configuration_files(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    """Where a configuration is looked for when none is named, in order."""
    base = _xdg(environ, "XDG_CONFIG_HOME", ".config")
    return [cwd / "config.yaml", *([base / "passoproxy/config.yaml"] if base else []), SYSTEM_CONFIGURATION]


def state_folders(environ: Mapping[str, str]) -> list[Path]:
    """Where a daemon may have its state when none is configured: the service manager's folder, the unit's, and the user's."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    base = _xdg(environ, "XDG_STATE_HOME", ".local/state")
    return [
        *([Path(given)] if given.startswith("/") else []),
        UNIT_STATE,
        *([base / "passoproxy"] if base else []),
    ]


def settle_folders(layer: Layer, environ: Mapping[str, str]) -> None:
    """Puts the folders for state and cache that are not configured: the service manager's, else the user's, if one is known."""
    for section, under_home in (("state", ".local/state"), ("cache", ".cache")):
        path, service, xdg = (section, "directory"), f"{section.upper()}_DIRECTORY", f"XDG_{section.upper()}_HOME"
        if layer.holds(path) or not isinstance(layer.values.get(section, {}), dict):
            continue
        given, base = environ.get(service, "").partition(":")[0], _xdg(environ, xdg, under_home)
        if given.startswith("/"):
            layer.put(path, given, f"environment {service}")
        elif base is not None:
            is_set = environ.get(xdg, "").startswith("/")
            layer.put(path, str(base / "passoproxy"), f"environment {xdg}" if is_set else "default")


def _xdg(environ: Mapping[str, str], name: str, under_home: str) -> Path | None:
    # a relative path is to be ignored (XDG base directory specification)
    given = environ.get(name, "")
    if given.startswith("/"):
        return Path(given)
    return Path(home(environ)) / under_home if home(environ) else None
