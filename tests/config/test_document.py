"""YAML with places and bounds."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.config import sources
from passoproxy.config.sources import Layer


def parse(text: str | bytes) -> Layer:
    return sources.parse(text, "f")


def test_every_value_has_its_line() -> None:
    found = parse("a: 1\nb:\n  c: x\n  d: [1, 2]\ne:\n  - f: 3\n")
    assert found.values == {"a": 1, "b": {"c": "x", "d": [1, 2]}, "e": [{"f": 3}]}
    assert {
        path: place for path, place in found.places.items() if path in {("a",), ("b", "c"), ("b", "d"), ("e", 0, "f")}
    } == {
        ("a",): "f:1",
        ("b", "c"): "f:3",
        ("b", "d"): "f:4",
        ("e", 0, "f"): "f:6",
    }
    assert found.faults == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", False),
        ("Yes", True),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("012", "012"),
        ("+3", "+3"),
        ("1:30", "1:30"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1.2.3", "1.2.3"),
        ("127.0.0.1:8610", "127.0.0.1:8610"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'off'", "off"),
        ('"12"', "12"),
        ("none", "none"),
        ("'*'", "*"),
        ("12345678901234567890", "12345678901234567890"),
        (".inf", float("inf")),
        ("!!str 12", "12"),
    ],
)
def test_scalars_are_those_of_yaml_1_2_with_the_words_for_off(text: str, value: object) -> None:
    found = parse(f"a: {text}\n")
    assert (found.values["a"], found.faults) == (value, [])
    assert type(found.values["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: b: c\n", 1, "line 1, column 5"),
        ("oauth:\n\tx: 1\n", 2, "cannot start any token"),
        ("oauth: [\n", 2, "line 2"),
        ("oauth: {x: 'y\n", 2, "in what begins at line 1"),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ("a: 1\nb: \x01\n", 2, "control character"),
        (b"a: 1\nb: \xe9\n", 2, "not UTF-8"),
        ("[" * 50 + "]" * 50, 1, "nested deeper"),
        ("x: " + "y" * sources.MAX_BYTES, 0, "larger than 256 KiB"),
    ],
)
def test_what_does_not_parse_is_one_fault_with_its_line(text: str | bytes, line: int, said: str) -> None:
    found = parse(text)
    assert found.values is None
    (fault,) = found.faults
    assert fault.where == (f"f:{line}" if line else "f")
    assert said in fault.problem
    assert fault.remedy


def test_an_undefined_alias_does_not_repeat_what_may_be_a_secret() -> None:
    (fault,) = parse("client_secret: *planted\n").faults
    assert "planted" not in fault.problem + fault.remedy
    assert "quotes" in fault.remedy


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("a: 1\na: 2\n", "a", "stands twice (first in line 1)"),
        ("a:\n  b: 1\n  b: 2\n", "a.b", "stands twice (first in line 2)"),
        ("1: x\n", "", "not text"),
        ("off: x\n", "", "not text"),
        ("? [a]\n: x\n", "", "not text"),
        ("'': x\n", "", "not text"),
        ("a: !foo x\n", "a", "has a tag"),
        ("a: !!binary aGk=\n", "a", "has a tag"),
        ("a: !foo {b: 1}\n", "a", "has a tag"),
        ("a: !!python/object/apply:os.system ['id']\n", "a", "has a tag"),
        ("a: !!set {b}\n", "a", "has a tag"),
        ("a: !!int x\n", "a", "does not fit"),
        ("a: !!float x\n", "a", "does not fit"),
        ("a: {<<: 3}\n", "a", "merges"),
    ],
)
def test_faults_of_a_document_that_parses(text: str, key: str, said: str) -> None:
    (fault,) = parse(text).faults
    assert fault.key == key
    assert said in fault.problem
    assert fault.remedy


def test_several_faults_are_told_together() -> None:
    assert len(parse("a: 1\na: 2\n3: x\nb: !t y\n").faults) == 3


def test_anchors_and_merges_work_and_keep_the_lines_of_own_keys() -> None:
    found = parse("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: {<<: [*a, {z: 4}]}\nd: *a\n")
    assert found.values == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2, "z": 4},
        "d": {"x": 1, "y": 2},
    }
    assert found.places["b", "y"] == "f:4"
    assert found.faults == []


def test_a_merge_word_as_a_value_is_text() -> None:
    assert parse("a: <<\n").values == {"a": "<<"}


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1,2,3,4,5,6,7,8,9]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)),
        "&a [*a]\n",
        "a: &a {b: *a}\n",
        "a: &a {<<: *a}\n",
        "a: &a {<<: [*a, *a]}\n",
    ],
)
def test_aliases_that_multiply_are_refused_at_once(text: str) -> None:
    begun = time.monotonic()
    found = parse(text)
    assert found.values is None
    assert [fault.remedy for fault in found.faults] == ["use fewer aliases"]
    assert time.monotonic() - begun < 5


def test_nothing_is_nothing() -> None:
    for text in ("", "# only a comment\n", b"\xef\xbb\xbf"):
        assert (parse(text).values, parse(text).faults) == (None, [])


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60), st.text(alphabet="ab:-[]{}&*!|>'\"#%@ \n\t?,<~", max_size=40), st.binary(max_size=40)
    )
)
def test_no_text_raises(text: str | bytes) -> None:
    found = parse(text)
    assert all(fault.problem and fault.remedy for fault in found.faults)
