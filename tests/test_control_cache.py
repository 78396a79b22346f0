"""The daemon's handle over the cache operated: what is described is understood, and what is meant is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import EntriesPurged
from passoproxy.errors import EntryStoreFailure, UsageFailure
from tests.test_control import Stand


class Held:
    """A handle over the fakes of the handle's own tests."""

    def __init__(self) -> None:
        self.stand = Stand()
        self.operations, self.told, self.control = self.stand.operations, self.stand.told_purged, self.stand.control


@pytest.fixture
def held() -> Held:
    return Held()


async def test_an_explanation_is_plain_data(held: Held) -> None:
    found = await held.control.explain(
        {"method": "post", "url": "http://localhost:8610/a?b", "headers": ["A: b"], "data": "x"}
    )
    assert (found["outcome"], found["reasons"], found["freshness"]) == ("miss", ("because",), None)
    assert held.operations.asked == [("POST", "/a?b", [("A", "b")], b"x")]
    with pytest.raises(UsageFailure, match="neither the proxy's nor the origin's"):
        await held.control.explain({"url": "http://elsewhere/"})


async def test_what_cannot_be_understood_fails_and_the_rest_is_done(held: Held) -> None:
    described = ["/a", {"url": "/b", "number": 40}, {"url": "/c", "number": "x"}, {"metod": 1, "number": 9}, 7]
    found = [each async for each in held.control.warm(described)]
    assert [(each["number"], each["outcome"]) for each in found] == [
        (9, "failed"),
        (4, "failed"),
        (0, "fetched"),
        (40, "fetched"),
        (2, "fetched"),
    ]
    assert found[0]["detail"] == "'metod' is not known here; known are url, method, headers and body"


async def test_whoever_leaves_closes_what_is_under_way(held: Held) -> None:
    filling = held.control.warm(["/a", "/b"])
    assert (await anext(filling))["url"] == "/a"
    await filling.aclose()
    assert [each async for each in filling] == []


@pytest.mark.parametrize(
    ("what", "meant", "count"),
    [
        ({"url": "/a", "soft": True}, [Selector(target="/a"), Selector(key="GET /a None")], 1),
        ({"prefix": "/*", "soft": True}, [Selector(prefix="/*")], 2),
        ({"all": True, "soft": True}, [Selector()], 2),
    ],
)
async def test_a_soft_purge_removes_nothing_and_counts_what_is_meant(
    held: Held, what: Any, meant: list[Selector], count: int
) -> None:
    held.stand.entry("/a"), held.stand.entry("/b")
    held.stand.store.held[0] = replace(held.stand.store.held[0], key="GET /a None")  # meant twice, and counted once
    assert await held.control.purge(what) == count
    assert (held.operations.asked, held.told, held.stand.store.purged) == (meant, meant, [])
    assert len(held.stand.store.held) == 2
    assert held.stand.observer.of(EntriesPurged) == [EntriesPurged(count, "soft purge")]


async def test_a_soft_purge_that_cannot_be_kept_raises(held: Held) -> None:
    held.operations.away = True
    with pytest.raises(EntryStoreFailure):
        await held.control.purge({"all": True, "soft": True})
    assert held.told == []
    with pytest.raises(UsageFailure):
        await held.control.purge({"soft": True})


def test_the_probe_is_shown_where_there_is_one(held: Held) -> None:
    assert held.control.status()["cache"]["change_probe"] == {"state": "on"}  # type: ignore[index]
    held.control._probing = None
    assert "change_probe" not in held.control.status()["cache"]  # type: ignore[operator]
