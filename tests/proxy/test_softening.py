"""Soft purges in force: what the cache does with what was made stale, across restarts and processes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import EntryStoreFailure, OriginUnreachable
from passoproxy.proxy.cache import EntryTerms
from tests.caching_stand import ROUTE, KeptSoftPurges, Stand

POLICY = replace(ROUTE, stale_while_revalidate=0.0)


@pytest.fixture
def kept() -> KeptSoftPurges:
    return KeptSoftPurges()


def softening(stand: Stand, kept: KeptSoftPurges) -> EntryTerms:
    """The soft purges in `kept` count from now on."""
    stand.cache.terms = EntryTerms(stand.cache.mode, stand.clock, kept)
    return stand.cache.terms


async def stored(*more: object, policy: object = POLICY) -> Stand:
    stand = Stand(policy=policy)  # type: ignore[arg-type]
    stand.origin.script += [stand.says(), *more]  # type: ignore[list-item]
    await stand.ask()
    assert "hit" in (await stand.ask()).cache
    await stand.clock.advance(5)
    return stand


async def test_what_was_fresh_is_asked_for_again_and_fresh_then(kept: KeptSoftPurges) -> None:
    stand = await stored()
    stand.origin.script.append(stand.says(body=b"new"))
    await softening(stand, kept).soften(Selector(tag="t"))
    await stand.clock.advance(1)
    answer = await stand.ask()
    assert "fwd=stale" in answer.cache
    assert answer.body == b"new"
    assert "; hit" in (await stand.ask()).cache


async def test_the_stale_copy_is_there_when_the_origin_fails(kept: KeptSoftPurges) -> None:
    stand = await stored(OriginUnreachable("away"))
    await softening(stand, kept).soften(Selector())
    answer = await stand.ask()
    assert (answer.body, answer.status) == (b"hello", 200)
    assert "detail=STALE_ERROR" in answer.cache


async def test_windows_count_from_the_purge(kept: KeptSoftPurges) -> None:
    stand = await stored(OriginUnreachable("away"))
    await softening(stand, kept).soften(Selector())
    await stand.clock.advance(601)  # stale_if_error is 600 s, the ttl would have lasted 55 s longer
    with pytest.raises(OriginUnreachable):
        await stand.ask()


async def test_stale_while_revalidate_serves_and_renews(kept: KeptSoftPurges) -> None:
    policy = replace(ROUTE, stale_while_revalidate=30.0)
    stand = await stored(policy=policy)
    stand.origin.script.append(stand.says(body=b"new"))
    await softening(stand, kept).soften(Selector(target="/x"))
    await stand.clock.advance(1)
    assert "detail=STALE_REVALIDATING" in (await stand.ask()).cache
    await stand.quiet()
    assert (await stand.ask()).body == b"new"


async def test_others_stay_fresh(kept: KeptSoftPurges) -> None:
    stand = await stored()
    await softening(stand, kept).soften(Selector(target="/another"))
    assert "; hit" in (await stand.ask()).cache


async def test_it_survives_a_restart(kept: KeptSoftPurges) -> None:
    stand = await stored()
    await softening(stand, kept).soften(Selector(route="r"))
    softening(stand, kept)
    stand.origin.script.append(stand.says())
    await stand.clock.advance(1)
    assert "fwd=stale" in (await stand.ask()).cache


async def test_another_process_judges_by_it_from_its_next_look(kept: KeptSoftPurges) -> None:
    stand = await stored()
    theirs, mine = softening(stand, kept), softening(stand, kept)
    mine.look()
    assert "; hit" in (await stand.ask()).cache
    await theirs.soften(Selector())
    (entry,) = [entry async for entry in stand.store.entries(Selector())]
    assert mine.ended(entry) == stand.clock.wall()  # who shows or explains an entry need not look first
    stand.origin.script.append(stand.says())
    stand.clock.step(1)
    mine.look()
    assert "fwd=stale" in (await stand.ask()).cache


async def test_a_purge_that_cannot_be_kept_is_none() -> None:
    stand = await stored()
    made = softening(stand, KeptSoftPurges(fails=True))
    with pytest.raises(EntryStoreFailure):
        await made.soften(Selector())
    assert not made.purges
    assert "; hit" in (await stand.ask()).cache
