"""Soft purges in force: what the cache does with what was made stale, across restarts and processes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import EntryStoreFailure, OriginUnreachable
from passoproxy.proxy.softening import LOOK_EVERY, Softening
from passoproxy.stores.entries.soft_purge_file import SoftPurgeFile
from tests.caching_stand import ROUTE, Stand
from tests.fakes import settle

POLICY = replace(ROUTE, stale_while_revalidate=0.0)


def softening(stand: Stand, folder: Path) -> Softening:
    made = Softening(stand.store, SoftPurgeFile(folder), stand.clock, stand.cache.terms_changed)
    stand.cache.judge = made.terms
    return made


async def stored(*more: object, policy: object = POLICY) -> Stand:
    stand = Stand(policy=policy)  # type: ignore[arg-type]
    stand.origin.script += [stand.says(), *more]  # type: ignore[list-item]
    await stand.ask()
    assert "hit" in (await stand.ask()).cache
    await stand.clock.advance(5)
    return stand


async def test_what_was_fresh_is_asked_for_again_and_fresh_then(tmp_path: Path) -> None:
    stand = await stored()
    stand.origin.script.append(stand.says(body=b"new"))
    await softening(stand, tmp_path).soften(Selector(tag="t"))
    await stand.clock.advance(1)
    answer = await stand.ask()
    assert "fwd=stale" in answer.cache
    assert answer.body == b"new"
    assert "; hit" in (await stand.ask()).cache


async def test_the_stale_copy_is_there_when_the_origin_fails(tmp_path: Path) -> None:
    stand = await stored(OriginUnreachable("away"))
    await softening(stand, tmp_path).soften(Selector())
    answer = await stand.ask()
    assert (answer.body, answer.status) == (b"hello", 200)
    assert "detail=STALE_ERROR" in answer.cache


async def test_windows_count_from_the_purge(tmp_path: Path) -> None:
    stand = await stored(OriginUnreachable("away"))
    await softening(stand, tmp_path).soften(Selector())
    await stand.clock.advance(601)  # stale_if_error is 600 s, the ttl would have lasted 55 s longer
    with pytest.raises(OriginUnreachable):
        await stand.ask()


async def test_stale_while_revalidate_serves_and_renews(tmp_path: Path) -> None:
    policy = replace(ROUTE, stale_while_revalidate=30.0)
    stand = await stored(policy=policy)
    stand.origin.script.append(stand.says(body=b"new"))
    await softening(stand, tmp_path).soften(Selector(target="/x"))
    await stand.clock.advance(1)
    assert "detail=STALE_REVALIDATING" in (await stand.ask()).cache
    await stand.quiet()
    assert (await stand.ask()).body == b"new"


async def test_others_stay_fresh(tmp_path: Path) -> None:
    stand = await stored()
    await softening(stand, tmp_path).soften(Selector(target="/another"))
    assert "; hit" in (await stand.ask()).cache


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    stand = await stored()
    await softening(stand, tmp_path).soften(Selector(route="r"))
    stand.cache.judge = softening(stand, tmp_path).terms
    stand.origin.script.append(stand.says())
    await stand.clock.advance(1)
    assert "fwd=stale" in (await stand.ask()).cache


async def test_another_process_hears_of_it(tmp_path: Path) -> None:
    stand = await stored()
    mine, theirs = softening(stand, tmp_path), softening(stand, tmp_path)
    stand.cache.judge = mine.terms
    looking = asyncio.create_task(mine.keep_looking())
    await settle()
    await theirs.soften(Selector())
    stand.origin.script.append(stand.says())
    stand.clock.step(1)
    for _ in range(100):  # the file is looked at in a thread
        if mine.purges:
            break
        await stand.clock.advance(LOOK_EVERY)
        await asyncio.sleep(0.01)
    assert "fwd=stale" in (await stand.ask()).cache
    looking.cancel()


async def test_every_process_is_told_that_what_it_remembers_may_not_hold(tmp_path: Path) -> None:
    stand = await stored()
    purged: list[Selector] = []
    before = stand.store.purge

    async def purge(selector: Selector) -> int:
        purged.append(selector)
        return await before(selector)

    stand.store.purge = purge  # type: ignore[method-assign]
    await softening(stand, tmp_path).soften(Selector())
    assert len(purged) == 1
    assert (await stand.store.stats()).entries == 1


async def test_a_purge_that_cannot_be_kept_is_none(tmp_path: Path) -> None:
    stand = await stored()
    made = softening(stand, tmp_path / "away")
    with pytest.raises(EntryStoreFailure):
        await made.soften(Selector())
    assert not made.purges
    assert "; hit" in (await stand.ask()).cache
