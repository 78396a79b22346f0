"""What the data service's answers mean: ids, questions, and what it says of earlier answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from passoproxy.core.passolution import News, news, question, request_id

ID = "0b8f9c1e-3c55-4b0e-9a52-6d3f4a3c9e10"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (f'{{"records": [], "requestid": "{ID}", "responsetime": 12}}', ID),
        (f'{{"requestid" : \n "{ID}"}}', ID),
        (f'{{"content": "say \\"requestid\\": \\"nonsense-id\\"", "requestid": "{ID}"}}', ID),
        ('{"content": "\\"requestid\\":\\"nonsense-id\\""}', ""),
        ('{"requestid": 12345678}', ""),
        ('{"requestid": "short"}', ""),
        ('{"requestid": "has spaces in it"}', ""),
        ("%PDF-1.7", ""),
        ("", ""),
    ],
)
def test_the_id_of_an_answer(body: str, found: str) -> None:
    assert request_id(body.encode()) == found


def test_a_question_is_what_the_service_reads() -> None:
    assert json.loads(question(["a", "b"])) == {"request_ids": ["a", "b"]}


def told(**said: Any) -> bytes:
    return json.dumps({"requests": [{"request_id": name, **members} for name, members in said.items()]}).encode()


def test_what_is_said_of_each() -> None:
    body = told(
        held={"is_valid": True, "has_important_changes": False},
        moved={"is_valid": True, "has_important_changes": True},
        gone={"is_valid": False, "has_important_changes": False},
        vague={},
        unasked={"is_valid": False},
    )
    found = news(body, ["held", "moved", "gone", "vague", "left out"])
    assert found == News(frozenset({"held", "vague"}), frozenset({"moved"}), frozenset({"gone"}))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"requests": 1}', b"[" * 100_000, b"\xff"])
def test_what_is_no_such_answer(body: bytes) -> None:
    assert news(body, ["a"]) is None


def test_members_that_are_no_objects_say_nothing() -> None:
    assert news(b'{"requests": [1, null, "a"]}', ["a"]) == News(frozenset(), frozenset(), frozenset())
