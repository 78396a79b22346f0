"""How a log line looks, and what a hostile client cannot make of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.telemetry.logs import as_coloured_text, as_json, as_text, escaped, timestamp

AT = 1_700_000_000.1234


def test_moments_are_rfc_3339_in_utc_with_milliseconds() -> None:
    assert timestamp(AT) == "2023-11-14T22:13:20.123Z"
    assert timestamp(1_700_000_000) == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("größer", "größer"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b", "\\x9b"),
        ("\u202egpj", "\\u202egpj"),
        ("\u2028", "\\u2028"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_unprintable_characters_are_written_out(raw: str, shown: str) -> None:
    assert escaped(raw) == shown


def test_json_has_the_moment_the_level_the_name_and_the_message_first() -> None:
    line = as_json(AT, "info", "named", "said", {"count": 3, "none": None, "odd": ("a",), "level": "forged"})
    assert line.startswith('{"time": "2023-11-14T22:13:20.123Z", "level": "info", "event": "named", "message": "said"')
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "event": "named",
        "message": "said",
        "count": 3,
        "none": None,
        "odd": "('a',)",
    }


def test_a_traceback_keeps_its_lines() -> None:
    trace = "Traceback:\n  line\x1b"
    assert (
        json.loads(as_json(AT, "error", "named", "said", {"exception": trace}))["exception"]
        == "Traceback:\n  line\\x1b"
    )
    assert as_text(AT, "error", "named", "said", {"exception": trace}).split("\n")[1:] == [
        "    Traceback:",
        "      line\\x1b",
    ]


def test_text_leaves_out_what_is_empty_and_quotes_what_has_spaces() -> None:
    line = as_text(AT, "warning", "named", "said", {"a": 1, "b": "", "c": None, "d": "two words", "e": "x=y"})
    assert line == '2023-11-14T22:13:20.123Z  warn    said  event=named a=1 d="two words" e="x=y"'


def test_colours_are_for_terminals() -> None:
    assert "\x1b" not in as_text(AT, "error", "named", "said", {"a": 1})
    coloured = as_coloured_text(AT, "error", "named", "said", {"a": 1})
    assert "\x1b[31merror" in coloured
    assert coloured.endswith("\x1b[0m")


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text(), st.text())
def test_one_line_stays_one_line_whatever_a_client_sent(name: str, sentence: str, value: str) -> None:
    for line in (
        as_json(AT, "info", name, sentence, {"target": value}),
        as_text(AT, "info", name, sentence, {"target": value}),
    ):
        assert len(line.splitlines()) == 1
        line.encode()
    json.loads(as_json(AT, "info", name, sentence, {"target": value}))
