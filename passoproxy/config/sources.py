"""YAML with the place of every value, and with bounds: size, depth, number of nodes after aliases, duplicate keys, no tags.

Scalars follow YAML 1.2 (no sexagesimal numbers, no octal, no dates), with the words of 1.1 for true and false, because the contract
has `off`. What the values mean is not judged here.

Layers of values laid over one another, each value remembering where it came from.

From below: preset, systemd credentials, file, environment. The settings' own defaults lie beneath all of them and are not a layer.

What the environment says: PASSOPROXY__SECTION__KEY variables, systemd credentials, and the folders that are given to a service.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong at a place of a document; `line` counts from 1, 0 where it is the whole."""

    line: int
    key: str
    problem: str
    remedy: str


@dataclass(slots=True)
class Document:
    """What a text holds: plain values, the line of every path, and every flaw found."""

    values: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)


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


def parse(text: str | bytes) -> Document:
    """Reads one document; flaws are collected and never raised. A text that does not parse has values None and one flaw."""
    document = Document()
    if len(text) > MAX_BYTES:
        flaw = Flaw(
            0, "", f"is larger than {MAX_BYTES // 1024} KiB", "a configuration of that size is a mistake; shorten it"
        )
        document.flaws.append(flaw)
        return document
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        deepest = _deepest(text)
        if deepest:
            document.flaws.append(Flaw(deepest, "", f"is nested deeper than {MAX_DEPTH} levels", "flatten it"))
            return document
        node = yaml.compose(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        document.flaws.append(Flaw(line, "", f"is not UTF-8 text (line {line})", "save the file as UTF-8"))
    except yaml.YAMLError as error:
        document.flaws.append(_syntax(error, str(text)))
    else:
        if node is not None:
            try:
                document.values = _Builder(document).build(node, ())
            except _Overgrown as error:
                problem = f"holds more than a configuration can after the aliases of line {error.line} are followed"
                document.flaws = [Flaw(error.line, "", problem, "use fewer aliases")]
    return document


def _deepest(text: str) -> int:
    """The line at which the nesting becomes too deep, else 0; looks at events, which need no recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return 0


def _syntax(error: yaml.YAMLError, text: str) -> Flaw:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Flaw(line, "", f"is not valid YAML at line {line}: it holds a control character", "remove it")
    mark = getattr(error, "problem_mark", None)
    context_mark = getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or "cannot be understood")
    remedy = "check indentation, colons, brackets and quotes there and on the line before"
    if isinstance(error, yaml.composer.ComposerError):
        # its text repeats what stands there, which may be a secret that was meant as text
        known = {
            "found undefined alias": (
                "'*' begins an alias, and there is no anchor of that name",
                "put a text that begins with '*' into quotes",
            )
        }
        problem, remedy = next(
            (said for begin, said in known.items() if problem.startswith(begin)),
            ("more than one document", "keep one, without '---'"),
        )
    elif "cannot start any token" in problem:
        remedy = "indent with spaces, and put a text that begins with such a character into quotes"
    if mark is None:
        return Flaw(0, "", f"is not valid YAML: {problem}", remedy)
    place = f"line {mark.line + 1}, column {mark.column + 1}"
    begun = (
        f" (in what begins at line {context_mark.line + 1})"
        if context_mark is not None and context_mark.line != mark.line
        else ""
    )
    return Flaw(mark.line + 1, "", f"is not valid YAML at {place}: {problem}{begun}", remedy)


class _Overgrown(Exception):
    """Aliases that multiply, or contain themselves."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Builder:
    """Turns nodes into plain values and notes their lines; counts nodes, aliases followed."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0
        self._merging = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _Overgrown(node.start_mark.line + 1)
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._flaw(node, path, "has a tag ('!...'), which a configuration cannot have", "remove it")
        if isinstance(node, yaml.SequenceNode):
            return [self.build(each, (*path, index)) for index, each in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                merged.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
            elif not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str" or not key.value:
                self._flaw(
                    key,
                    path,
                    "has a key that is not text",
                    "write the key as a plain name, in quotes where YAML reads it as something else",
                )
            elif key.value in seen:
                self._flaw(
                    key, (*path, key.value), f"stands twice (first in line {seen[key.value]})", "keep one of them"
                )
            else:
                seen[key.value] = line
                self._document.lines[(*path, key.value)] = line
                found[key.value] = self.build(value, (*path, key.value))
        for each in merged:
            self._merge(each, path, found)
        return found

    def _merge(self, node: yaml.Node, path: KeyPath, found: dict[str, Any]) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._flaw(node, path, "merges ('<<') what is not a mapping", "name an anchor of a mapping")
            return
        self._merging += 1
        if self._merging > MAX_DEPTH:
            raise _Overgrown(node.start_mark.line + 1)
        # what is merged must not write over the lines of the mapping's own keys
        kept = {place: line for place, line in self._document.lines.items() if place[: len(path)] == path}
        for name, value in self._mapping(node, path).items():
            found.setdefault(name, value)
        self._document.lines.update(kept)
        self._merging -= 1

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in _TRUE
            case "int":
                return self._number(int, text, node, path)
            case "float":
                return self._number(float, text.lower().replace(".inf", "inf").replace(".nan", "nan"), node, path)
            case "merge":
                return text
            case _:
                self._flaw(
                    node,
                    path,
                    "has a tag ('!...'), which a configuration cannot have",
                    "remove it, or put a text that begins with '!' into quotes",
                )
                return None

    def _number(
        self, kind: type[int] | type[float], text: str, node: yaml.ScalarNode, path: KeyPath
    ) -> int | float | None:
        try:
            return kind(text)
        except ValueError:  # only with an explicit tag
            self._flaw(node, path, "has a tag that does not fit its value", "remove it")
            return None

    def _flaw(self, node: yaml.Node, path: KeyPath, problem: str, remedy: str) -> None:
        self._document.flaws.append(Flaw(node.start_mark.line + 1, dotted(path), problem, remedy))


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


PREFIX = "PASSOPROXY__"

SYSTEM_CONFIGURATION = Path("/etc/passoproxy/config.yaml")
"""The configuration of a service."""


@cache
def credential_names() -> Mapping[str, tuple[str, ...]]:
    """Names in $CREDENTIALS_DIRECTORY, and the `_file` key that each stands for: the key's name, with as much before it as makes it the
    only one (`client_secret`, `state_key`, `tls_key`), up to the whole (`oauth_client_secret`)."""
    paths = [*secret_pairs(), ("oauth", "seed"), ("server", "tls", "key")]
    named = [("_".join(path[at:]), (*path[:-1], f"{path[-1]}_file")) for path in paths for at in range(len(path))]
    counts = Counter(name for name, _ in named)
    return {name: key for name, key in named if counts[name] == 1}


def variables(environ: Mapping[str, str]) -> tuple[Layer, list[Fault]]:
    """The layer of PASSOPROXY__ variables, each value read as YAML."""
    layer, faults = Layer(), []
    given = sorted((name for name in environ if name.startswith(PREFIX)), key=lambda name: (name.count("__"), name))
    for name in given:
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        key = find(path)
        where = f"environment {name}"
        if key is None or (path[0] == "routes" and len(path) > 1):
            faults.append(Fault(where, "", "names no key", _nearest_variable(path)))
            continue
        value, flaws = _value(environ[name], key)
        faults += [Fault(where, flaw.key or dotted(path), flaw.problem, flaw.remedy) for flaw in flaws]
        if not flaws:
            _put(layer, path, value, where)
    return layer, faults


def _put(layer: Layer, path: tuple[str, ...], value: Any, where: str) -> None:
    key = find(path)
    if isinstance(value, dict) and key is not None and key.section:
        for name, each in value.items():
            _put(layer, (*path, name), each, where)
    else:
        layer.put(path, value, where)


def _value(text: str, key: Key) -> tuple[Any, list[Flaw]]:
    bare = text.strip()
    # a secret with '#' or ': ' in it must not be cut short; quoted, it is YAML like the others
    if key.secret and bare and bare[0] not in "\"'" and bare not in ("null", "~"):
        return bare, []
    found = parse(text)
    if found.flaws and not key.section:
        hint = Flaw(0, "", found.flaws[0].problem, f"put the value into quotes of its own, as in '\"{_example(key)}\"'")
        return None, [hint]
    return found.values, found.flaws


def _example(key: Key) -> str:
    return "[::1]:8610" if "listen" in key.path[-1] else "the value"


def _nearest_variable(path: tuple[str, ...]) -> str:
    if path[0] == "routes":
        return "set the whole list, as YAML, in PASSOPROXY__ROUTES"
    said = remedy_for_unknown(path)
    if said.startswith("did you mean "):
        meant = said.removeprefix("did you mean ").rstrip("?")
        whole = meant if "." in meant or len(path) == 1 else dotted((*path[:-1], meant))
        return f"did you mean {PREFIX}{whole.upper().replace('.', '__')}?"
    return said


def credentials(environ: Mapping[str, str]) -> Layer:
    """The layer of systemd credentials that are named like a key."""
    layer = Layer()
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    for name, path in credential_names().items():
        if folder and not layer.holds(path) and (Path(folder) / name).is_file():
            layer.put(path, str(Path(folder) / name), f"credential {name}")
    return layer


def home(environ: Mapping[str, str]) -> str:
    """The home folder, empty where there is none to speak of."""
    folder = environ.get("HOME", "")
    return folder.rstrip("/") if folder.startswith("/") and folder != "/" else ""


def configuration_files(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    """Where a configuration is looked for when none is named, in order."""
    base = _xdg(environ, "XDG_CONFIG_HOME", ".config")
    return [
        cwd / "config.yaml",
        *([base / "passoproxy" / "config.yaml"] if base else []),
        SYSTEM_CONFIGURATION,
    ]


UNIT_STATE = Path("/var/lib/passoproxy")
"""What systemd/passoproxy.service has for a state folder."""


def state_folders(environ: Mapping[str, str]) -> list[Path]:
    """Where a daemon may have its state when none is configured: the service manager's folder, the unit's, and the user's."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    base = _xdg(environ, "XDG_STATE_HOME", ".local/state")
    return [
        *([Path(given)] if given.startswith("/") else []),
        UNIT_STATE,
        *([base / "passoproxy"] if base else []),
    ]


def folder(environ: Mapping[str, str], service: str, xdg: str, under_home: str) -> tuple[Path, str] | None:
    """The folder for state or cache, and where it comes from: the service manager's, else the user's; None where neither is known."""
    given = environ.get(service, "").partition(":")[0]
    if given.startswith("/"):
        return Path(given), f"environment {service}"
    base = _xdg(environ, xdg, under_home)
    if base is None:
        return None
    return base / "passoproxy", f"environment {xdg}" if environ.get(xdg, "").startswith("/") else "default"


def _xdg(environ: Mapping[str, str], name: str, under_home: str) -> Path | None:
    # a relative path is to be ignored (XDG base directory specification)
    given = environ.get(name, "")
    if given.startswith("/"):
        return Path(given)
    return Path(home(environ)) / under_home if home(environ) else None
