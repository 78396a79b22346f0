"""The file of the daily budget: it goes on over restarts, is shared by the daemons of a folder, and survives damage and clock steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from passoproxy.core.events import Event, Warned
from passoproxy.errors import PairStoreFailure
from passoproxy.stores.budget import NAME, FileLedger

NOW = 1_700_000_400.0  # the beginning of a slot


class Stand:
    def __init__(self, folder: Path) -> None:
        self.now, self.told = NOW, list[Event]()
        self.ledger = FileLedger(folder, self.told.append)

    async def add(self, count: int, known: dict[int, int]) -> dict[int, int]:
        return await self.ledger.add(count, known, self.now)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


async def test_it_goes_on_after_a_restart_and_ages(stand: Stand, tmp_path: Path) -> None:
    assert await stand.add(0, {}) == {}
    assert not (tmp_path / NAME).exists()  # nothing to keep
    assert await stand.add(3, {0: 3}) == {0: 3}
    again = Stand(tmp_path)
    again.now += 1200
    assert await again.add(2, {0: 2}) == {0: 2, 2: 3}
    again.now += 86_400 - 1200
    assert await again.add(0, {}) == {142: 2}
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


async def test_daemons_of_one_folder_count_together(stand: Stand, tmp_path: Path) -> None:
    other = Stand(tmp_path)
    await stand.add(3, {0: 3})
    assert await other.add(2, {0: 2}) == {0: 5}
    assert await stand.add(1, {0: 4}) == {0: 6}


async def test_a_clock_that_was_set_back(stand: Stand) -> None:
    await stand.add(3, {0: 3})
    stand.now -= 30 * 86_400
    assert await stand.add(1, {}) == {0: 4}
    stand.now += 86_400
    assert await stand.add(0, {}) == {}


async def test_a_file_that_was_removed_is_written_again(stand: Stand, tmp_path: Path) -> None:
    await stand.add(3, {0: 3})
    (tmp_path / NAME).unlink()
    assert await stand.add(1, {1: 3, 0: 1}) == {0: 1, 1: 3}
    assert await stand.add(0, {}) == {0: 1, 1: 3}


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"requests": 3}',
        b'{"requests": {"x": 1}}',
        b'{"requests": {"1": -1}}',
        b"\xff",
        b'{"requests": {"1": 1%s}}' % (b"0" * 400),
    ],
)
async def test_a_damaged_file_begins_anew_and_is_named(stand: Stand, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / NAME).write_bytes(damage)
    (tmp_path / NAME).chmod(0o600)
    assert await stand.add(2, {0: 2}) == {0: 2}
    [warned] = stand.told
    assert isinstance(warned, Warned)
    assert (warned.code, str(tmp_path / NAME) in warned.detail) == ("daily_budget_file", True)
    [aside] = [each for each in tmp_path.iterdir() if each.name != NAME]
    assert aside.read_bytes() == damage
    assert json.loads((tmp_path / NAME).read_text())["requests"] == {str(int(NOW // 600)): 2}


async def test_what_cannot_be_written_is_told(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(PairStoreFailure, match=NAME):
        await stand.add(1, {})
