"""Checking what a client asks."""

from typing import Any

import pytest

from passoproxy.sandbox.origin.fields import Asked, Invalid, Place


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, []), ("a,b", ["a", "b"]), (["a", "b,c"], ["a", "b", "c"]), (" a , ", ["a"]), (7, ["7"]), ([], [])],
)
def test_words(value: object, words: list[str]) -> None:
    assert Asked({"x": value}).words("x") == words


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (None, None),
        (True, True),
        (False, False),
        ("1", True),
        ("true", True),
        ("0", False),
        ("false", False),
        ("", False),
        (1, True),
    ],
)
def test_flags(value: object, flag: bool | None) -> None:
    assert Asked({"x": value}).flag("x") is flag


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (["a", "b"], "b"), ("", None), (None, None), (3, "3"), (1.5, "1.5")]
)
def test_texts(value: object, text: str | None) -> None:
    assert Asked({"x": value}).text("x") == text


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Asked({"x": {}}).text("x"),
        lambda: Asked({"x": []}).text("x"),
        lambda: Asked({"x": "b"}).choice("x", ("a",), "a"),
        lambda: Asked({"x": "1.5"}).number("x", 1),
        lambda: Asked({"x": "9"}).number("x", 1, most=8),
        lambda: Asked({"x": [{}]}).words("x"),
        lambda: Asked({"x": []}).object("x"),
        lambda: Asked({"destinations": [{"destination": "TR", "type": "fly"}]}).destinations(),
        lambda: Asked({"destinations": [{}]}).destinations(),
        lambda: Asked({"destinations": [{"destination": "TR"}, 5]}).destinations(),
    ],
)
def test_what_cannot_be_used(wrong: Any) -> None:
    with pytest.raises(Invalid) as refused:
        wrong()
    assert next(iter(refused.value.errors)) in ("x", "destinations")


def test_destinations_keep_their_order_and_lose_repetitions() -> None:
    assert Asked({"destinations": "za,tr,ZA"}).destinations() == [Place("ZA"), Place("TR")]
    mixed = [{"destination": "tr", "type": "transit"}, "ae"]
    assert Asked({"destinations": mixed}).destinations() == [Place("TR", "transit"), Place("AE")]
