"""The JSON Schema, held against the file's forms by a small validator of its own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from passoproxy.config.describe import commented, json_schema
from passoproxy.config.keys import catalogue

SCHEMA = json_schema()
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def valid(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value satisfies the words of JSON Schema that ours uses; any other word is an error."""
    return all(_holds(word, wanted, value, schema) for word, wanted in schema.items())


def _holds(word: str, wanted: Any, value: Any, schema: dict[str, Any]) -> bool:
    match word:
        case "$ref":
            return valid(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")])
        case "anyOf":
            return any(valid(value, each) for each in wanted)
        case "type":
            names = wanted if isinstance(wanted, list) else [wanted]
            return any(
                isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool)) for name in names
            )
        case "enum":
            return value in wanted
        case "const":
            return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
        case "pattern":
            return not isinstance(value, str) or re.search(wanted, value) is not None
        case "minimum" | "maximum":
            number = isinstance(value, int | float)
            return not number or (value >= wanted if word == "minimum" else value <= wanted)
        case "minItems":
            return not isinstance(value, list) or len(value) >= wanted
        case "items":
            return not isinstance(value, list) or all(valid(each, wanted) for each in value)
        case "required":
            return not isinstance(value, dict) or set(wanted) <= set(value)
        case "properties":
            return not isinstance(value, dict) or all(
                valid(value[name], each) for name, each in wanted.items() if name in value
            )
        case "additionalProperties":
            return not isinstance(value, dict) or wanted is not False or set(value) <= set(schema["properties"])
        case "$schema" | "$defs" | "title" | "description" | "default" | "format" | "writeOnly" | "examples":
            return True
    raise AssertionError(f"the schema uses a word that this test does not know: {word}")


def test_it_is_json_of_the_named_draft() -> None:
    assert json.loads(json.dumps(SCHEMA))["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_knows_every_key_and_no_other() -> None:
    def walk(schema: dict[str, Any], path: tuple[str, ...]) -> set[tuple[str, ...]]:
        found = set()
        for name, each in schema["properties"].items():
            found.add((*path, name))
            reference = re.search(r"#/\$defs/(\w+)", json.dumps(each))
            if reference:
                found |= walk(SCHEMA["$defs"][reference[1]], (*path, name))
        return found

    assert walk(SCHEMA, ()) == set(catalogue())


def test_the_example_and_its_route_are_valid() -> None:
    assert valid(yaml.safe_load(commented()), SCHEMA)
    lines = [
        line.removeprefix("# ")
        for line in commented().splitlines()
        if re.match(r"# (routes:|  - name| {4,}[a-z])", line)
    ]
    route = yaml.safe_load("\n".join(lines))
    assert len(route["routes"][0]) == 17
    assert valid(route, SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "server:",
        "server: {listen: '127.0.0.1:1'}",
        "server: {listen: ['127.0.0.1:1'], tls: {min_version: 1.2}}",
        "admin: {listen: off}",
        "upstream: {read_timeout: 30, max_connections: 3, user_agent: null}",
        "oauth: {client_id: 12, lost_answer_replay: 30s, refresh_token_lifetime: same, refresh_at: 0.4, client_secret: 12345}",
        "oauth: {lost_answer_replay: null}",
        "cache: {max_size: 64MiB, memory_size: 5}",
        "alerts: {runway: {log: 60%}, command: [a, b]}",
        "routes: [{name: a, match: /x, key: {headers: [a]}}]",
        "routes: null",
    ],
)
def test_right_forms(text: str) -> None:
    assert valid(yaml.safe_load(text), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "nope: 1",
        "server: {nope: 1}",
        "server: 5",
        "server: {listen: []}",
        "server: {workers: 0}",
        "upstream: {read_timeout: 5 parsecs}",
        "upstream: {read_timeout: null}",
        "cache: {max_size: 64MB}",
        "cache: {shared: 1}",
        "log: {level: loud}",
        "routes: [{name: a}]",
        "routes: {}",
        "oauth: {grant: password}",
    ],
)
def test_wrong_forms(text: str) -> None:
    assert not valid(yaml.safe_load(text), SCHEMA)


def test_defaults_are_written_as_in_the_file() -> None:
    definitions = SCHEMA["$defs"]
    assert definitions["UpstreamSettings"]["properties"]["read_timeout"]["default"] == "30s"
    assert definitions["ServerSettings"]["properties"]["listen"]["default"] == ["127.0.0.1:8610", "[::1]:8610"]
    assert definitions["CacheSettings"]["properties"]["max_size"]["default"] == "1GiB"
