"""YAML with the place of every value, and with bounds: size, depth, number of nodes after aliases, duplicate keys, no tags.

Scalars follow YAML 1.2 (no sexagesimal numbers, no octal, no dates), with the words of 1.1 for true and false, because the contract
has `off`. What the values mean is not judged here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from passoproxy.config.keys import KeyPath, dotted

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
