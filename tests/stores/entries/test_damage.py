"""Any byte flipped, any file cut or swapped with another: a miss, never an error, a hang or a wrong answer."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.stores.entries.disk.store import DiskStore
from tests.stores.entries.making import body_of, entry, put

Opened = Callable[..., DiskStore]
SIZES = [0, 10, 3000, 40_000, 400_000]


def damage(folder: Path, chance: random.Random) -> str:
    """Does one thing to one file, and tells what."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    # the databases are two files among many: take them as often as all others together
    path = chance.choice([folder / "index.db", folder / "cache.db", chance.choice(files)])
    size = path.stat().st_size
    kind = chance.choice(["flip", "flip", "flip", "cut", "swap", "zero"])
    if kind == "cut":
        os.truncate(path, chance.randrange(size))
    elif kind == "swap":
        other = chance.choice([each for each in files if each != path])
        spare = folder.parent / "spare"
        path.rename(spare)
        other.rename(path)
        spare.rename(other)
        return f"{path} and {other} swapped"
    else:
        length = min(size, 4096) if kind == "zero" else 1
        at = chance.randrange(size - length + 1)
        with path.open("r+b") as file:
            file.seek(at)
            old = file.read(length)
            file.seek(at)
            file.write(bytes(length) if kind == "zero" else bytes((old[0] ^ (1 << chance.randrange(8)),)))
    return f"{path}: {kind}"


async def check(store: DiskStore, stored: dict[str, tuple[Entry, bytes]], what: str) -> int:
    """Everything that is found is what was stored; how much was found."""
    hits = 0
    for key, (made, body) in stored.items():
        for selected in await store.select(key):
            assert selected == made, what
            served = await body_of(store, selected)
            assert served in (None, body), what
            hits += served is not None
    async for listed in store.entries(Selector()):
        assert listed == stored[listed.key][0], what
    return hits


async def series(opened: Opened, tmp_path: Path, cases: int, seed: int) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "cache"
    store = opened(folder=whole)
    stored: dict[str, tuple[Entry, bytes]] = {}
    for n in range(60):
        body = os.urandom(SIZES[n % 5])
        made = await put(store, entry(n), body)
        stored[made.key] = (made, body)
    assert await check(store, stored, "undamaged") == 60
    await store.close()
    chance = random.Random(seed)
    survived = 0
    for case in range(cases):
        shutil.copytree(whole, folder)
        what = f"case {case} of seed {seed}: {damage(folder, chance)}"
        again = opened(folder=folder)
        try:
            survived += await check(again, stored, what)
            await again.purge(Selector(target=entry(0).target))
            new = await put(again, entry("new"), b"goes on")
            assert await body_of(again, new) == b"goes on", what
            await again.stats()
        except Exception as error:
            raise AssertionError(what) from error
        finally:
            await again.close()
        shutil.rmtree(folder)
    assert survived > cases * 20  # most of what is not damaged is still there


async def test_damage_of_every_kind_is_a_miss(opened: Opened, tmp_path: Path) -> None:
    await series(opened, tmp_path, 12, seed=1)


@pytest.mark.slow
async def test_damage_of_every_kind_is_a_miss_in_two_hundred_cases(opened: Opened, tmp_path: Path) -> None:
    await series(opened, tmp_path, 200, seed=2)


async def test_damage_while_the_store_is_open_is_a_miss(opened: Opened, tmp_path: Path) -> None:
    """Of bodies; the files of an open database are SQLite's to guard, and one that is cut under it is begun anew at the next start."""
    store = opened()
    chance = random.Random(3)
    for round_ in range(8):
        body = os.urandom(SIZES[3 + round_ % 2])
        made = await put(store, entry(round_), body)
        assert await body_of(store, made) == body
        (path,) = [
            each for each in (tmp_path / "cache" / "bodies").rglob("*") if each.is_file() and each.stat().st_size
        ]
        with path.open("r+b") as file:
            at = chance.randrange(len(body))
            file.seek(at)
            file.write(bytes((body[at] ^ 0x10,)))
        assert await body_of(store, made) is None
        assert not path.exists()
