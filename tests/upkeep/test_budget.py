"""`upstream.daily_budget`: when background work rests, when it goes on, and what the ledgers are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from passoproxy.core.events import Event, TaskFailed, Warned
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.budget import FileLedger
from passoproxy.upkeep.budget import DailyBudget, in_words
from tests.fakes import FakeClock, settle

DAY = 86_400.0


class Book:
    """A ledger in memory, which others write too."""

    def __init__(self) -> None:
        self.ages: dict[int, int] = {}
        self.added: list[int] = []
        self.fault: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.open = asyncio.Event()
        self.open.set()

    async def add(self, count: int, known: Mapping[int, int], now: float) -> dict[int, int]:
        if self.fault is not None:
            raise self.fault
        self.added.append(count)
        self.ages[0] = self.ages.get(0, 0) + count
        ages = dict(self.ages)
        self.meanwhile()
        await self.open.wait()
        return ages


class Stand:
    def __init__(self, limit: int = 3, *, is_shared: bool = False) -> None:
        self.clock, self.told, self.events = FakeClock(), list[float](), list[Event]()
        self.file, self.shared = Book(), Book()
        self.budget = DailyBudget(
            limit,
            self.file,
            self.shared if is_shared else None,
            tell=lambda told: self.told.append(told.seconds),
            clock=self.clock,
            observer=self.events.append,
        )

    def warned(self) -> list[tuple[str, bool]]:
        return [(each.code, each.over) for each in self.events if isinstance(each, Warned)]


async def test_background_work_rests_when_it_is_used_up_and_goes_on() -> None:
    stand = Stand()
    for _ in range(2):
        stand.budget.sent()
    assert (stand.told, stand.budget.shown()["rests_until"]) == ([], None)
    stand.budget.sent()
    [rests] = stand.told
    assert DAY - 600 <= rests <= DAY
    assert stand.budget.shown() == {"limit": 3, "used": 3, "rests_until": stand.clock.wall() + rests}
    await stand.budget.turn()
    stand.budget.sent()  # a client's own
    assert len(stand.told) == 1
    await stand.clock.advance(rests)
    stand.file.ages = {}
    await stand.budget.turn()
    assert stand.told[1:] == [0.0]
    assert stand.warned() == [("daily_budget", False), ("daily_budget", True)]
    assert "3 of upstream.daily_budget's 3 requests" in str(stand.events[0])


async def test_another_limit_counts_at_once() -> None:
    stand = Stand()
    stand.budget.sent(3)
    stand.budget.limit = 4
    stand.budget.look()
    assert stand.told[-1] == 0.0
    stand.budget.limit = 0
    stand.budget.look()
    assert stand.told[-1] > 0
    stand.budget.stop()
    assert stand.told[-1] == 0.0


async def test_what_was_sent_before_the_restart_counts() -> None:
    stand = Stand()
    stand.file.ages = {7: 3}
    await stand.budget.turn()
    assert len(stand.told) == 1


async def test_the_file_is_written_once_a_minute_and_at_the_end() -> None:
    stand = Stand(9)
    for _ in range(3):
        await stand.budget.turn()
        stand.budget.sent()
    assert stand.file.added == [0]
    await stand.clock.advance(60)
    await stand.budget.turn()
    assert stand.file.added == [0, 3]
    stand.budget.sent()
    await stand.budget.settle(at_once=True)
    await stand.budget.settle(at_once=True)  # nothing is left to be told
    assert stand.file.added == [0, 3, 1]


async def test_other_instances_count_too() -> None:
    stand = Stand(is_shared=True)
    stand.shared.ages = {3: 2}
    stand.budget.sent()
    await stand.budget.turn()
    assert (stand.shared.added, stand.file.added, len(stand.told)) == ([1], [0], 1)
    stand.shared.fault = EntryStoreFailure("away")
    await stand.clock.advance(5)
    stand.budget.sent()
    await stand.budget.turn()
    assert stand.budget.shown()["used"] == 4  # what was known of the others, and its own
    stand.shared.fault = None
    await stand.clock.advance(5)
    await stand.budget.turn()
    assert stand.shared.added == [1, 1]


async def test_a_command_that_sends_nothing_asks_no_ledger_at_its_end() -> None:
    stand = Stand(9, is_shared=True)
    await stand.budget.settle(at_once=True)
    assert stand.file.added == stand.shared.added == []


async def test_what_is_written_while_the_daemon_stops_counts_once() -> None:
    stand = Stand(9)
    stand.budget.sent(3)
    stand.file.open.clear()
    turn = asyncio.create_task(stand.budget.turn())
    await settle()
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    stand.file.open.set()
    await stand.budget.settle(at_once=True)
    assert stand.file.added == [3]


async def test_what_is_sent_while_the_file_is_written_counts_while_the_store_is_away() -> None:
    stand = Stand(9, is_shared=True)
    stand.shared.fault = EntryStoreFailure("away")
    stand.file.meanwhile = stand.budget.sent
    await stand.budget.turn()
    assert stand.budget.used == 1


async def test_what_the_file_keeps_counts_no_more_once_the_store_has_answered() -> None:
    stand = Stand(9, is_shared=True)
    await stand.budget.turn()
    stand.file.ages = {0: 20}  # its ten minutes are not the store's
    stand.shared.meanwhile = stand.budget.sent
    await stand.clock.advance(60)
    await stand.budget.turn()
    assert (stand.told, stand.budget.used) == ([], 1)


async def test_a_new_ten_minutes_that_begins_while_the_file_is_written_counts_nothing_twice(tmp_path: Path) -> None:
    events = list[Event]()

    class Hasty(FakeClock):
        def wall(self) -> float:
            self._wall += 130
            return self._wall

    clock = Hasty()
    budget = DailyBudget(9, FileLedger(tmp_path, events.append), None, tell=print, clock=clock, observer=events.append)
    budget.sent(4)
    for _ in range(10):
        await budget.turn()
        await clock.advance(60)
    assert budget.used == 4


async def test_a_file_that_cannot_be_kept_is_told_once_and_so_is_its_end() -> None:
    stand = Stand(9)
    stand.file.fault = EntryStoreFailure("no room")
    for _ in range(2):
        await stand.budget.turn()
        await stand.clock.advance(60)
    stand.file.fault = None
    await stand.budget.turn()
    assert stand.warned() == [("daily_budget_file", False), ("daily_budget_file", True)]
    stand.file.fault = ZeroDivisionError()
    await stand.clock.advance(60)
    await stand.budget.turn()
    assert [each for each in stand.events if isinstance(each, TaskFailed)] == [
        TaskFailed("daily budget", "ZeroDivisionError")
    ]


@pytest.mark.parametrize(("until", "said"), [(None, "in 24 hours"), (0.0, "rests until 1970-01-01T00:00:00Z")])
def test_in_words(until: float | None, said: str) -> None:
    assert in_words({"limit": 5, "used": 5, "rests_until": until}).endswith(said)
