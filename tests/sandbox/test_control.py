"""The controls: switching faults, changing what is said about destinations."""

from typing import Any

import pytest

from tests.sandbox.conftest import Stand, Started


async def arm(stand: Stand, *faults: str) -> Any:
    return (await stand.ask("/__sandbox/faults", "POST", json={"faults": list(faults)})).json["faults"]


async def test_a_call_replaces_the_whole_set_and_shows_what_is_left(started: Started) -> None:
    stand = await started(faults=("revoked",))
    assert await arm(stand, "origin_5xx:2", "refresh_lost") == [
        {"name": "origin_5xx", "left": 2, "struck": 0},
        {"name": "refresh_lost", "left": None, "struck": 0},
    ]
    assert (await stand.ask("/api/v2/health")).status == 500
    shown = (await stand.ask("/__sandbox/faults")).json
    assert shown["faults"][0] == {"name": "origin_5xx", "left": 1, "struck": 1}
    assert len(shown["known"]) == 16
    assert await arm(stand) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"faults": ["refresh_lots:1"]}', ("refresh_lots", "refresh_lost")),
        (b'{"faults": ["revoked:0"]}', ("revoked:0", "whole number")),
        (b'{"faults": "revoked"}', ("faults", "list of strings")),
        (b'{"faults": [1]}', ("faults", "list of strings")),
        (b"{}", ("faults",)),
        (b'{"fault": []}', ("fault", "known are faults")),
        (b"[]", ("JSON object",)),
        (b"{", ("must be JSON",)),
        (b"[" * 100_000, ("must be JSON",)),
    ],
)
async def test_what_cannot_be_armed_is_refused_and_changes_nothing(
    stand: Stand, body: bytes, words: tuple[str, ...]
) -> None:
    await arm(stand, "origin_429")
    answer = await stand.ask("/__sandbox/faults", "POST", data=body)
    assert answer.status == 400
    for word in words:
        assert word in answer.json["error"]
    assert [fault.name for fault in stand.sandbox.faults.armed()] == ["origin_429"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"countries": ["XX"]}, "XX"),
        ({"countries": "TR"}, "list"),
        ({"countries": ["TR"], "important": 1}, "important"),
        ({"x": 1}, "x"),
    ],
)
async def test_changes_that_cannot_be_made_are_refused(stand: Stand, body: dict[str, object], word: str) -> None:
    answer = await stand.ask("/__sandbox/changes", "POST", json=body)
    assert answer.status == 400
    assert word in answer.json["error"]
    assert stand.sandbox.changes.sequence == 0


async def test_a_change_really_changes_the_answer(stand: Stand) -> None:
    path = "/content/entry/json?lang=en&countries=TR&nat=DE"
    before = (await stand.api(path)).json["records"]
    assert (await stand.api(path)).json["records"] == before
    answer = await stand.ask("/__sandbox/changes", "POST", json={"countries": ["tr"], "important": False})
    assert answer.json == {"countries": ["TR"], "important": False}
    after = (await stand.api(path)).json["records"]
    assert (
        after[0]["documents"]["passport"]["validity"]["days"]
        == before[0]["documents"]["passport"]["validity"]["days"] + 30
    )
    assert after[0]["updated_at"] == "2023-11-14 22:13:20"
    other = "/content/entry/json?lang=en&countries=ZA&nat=DE"
    assert "2023" not in (await stand.api(other)).text
