"""A pair and the client and token endpoint that it came from: under another configuration it is kept, named, and sent nowhere (contract §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from passoproxy.core.events import PairFileDamaged, Warned
from passoproxy.core.oauth.identity import client_of
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Provider
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import CommandFailure, PersonNeeded, ServiceUnreachable
from passoproxy.ports import ChainRecord
from passoproxy.stores.pair import serialization
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.tokens.commands import Export, Import, Logout, Refresh
from tests.fakes import FakeClock, PowerLoss
from tests.tokens.life import PROVIDER, Life

T = TypeVar("T")

OTHER = "https://moved.example/oauth/token"


class Folder:
    """One state folder, and the lives that are lived on it under one configuration or another. All ask one provider, which may have two addresses."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, FakeClock()
        self.first = Life(clock=self.clock)
        self.life = self.first

    async def under(self, url: str = PROVIDER.token_url, provider: Provider = PROVIDER, **more: object) -> Life:
        """A daemon with this token endpoint."""
        provider, grant = replace(provider, token_url=url), str(more.pop("grant", "authorization_code"))
        store = DirectoryPairStore(self.path, self.clock.wall, client=client_of(provider, "id", grant))
        self.life = Life(
            clock=self.clock, store=store, provider=provider, endpoint=self.first.rotating, observer=self.first.observer, **more,
        ).having(grant=grant)  # type: ignore[arg-type]  # fmt: skip
        self.life.rotating = self.first.rotating
        await self.life.start()
        return self.life

    async def crash(self) -> None:
        assert self.life.task is not None
        self.life.task.cancel()
        await asyncio.gather(self.life.task, return_exceptions=True)
        self.life.store.release()

    async def done(self, order: Awaitable[T]) -> T:
        """What comes of an order; time passes meanwhile, and not after it."""
        waiting = asyncio.ensure_future(order)
        await self.clock.advance(2)
        return await waiting

    async def forced(self) -> TokenSnapshot:
        return await self.done(self.life.keeper.execute(Refresh(force=True)))

    async def dies_in(self, method: str, order: Awaitable[object], passed: int = 0) -> None:
        """Power is lost when an order calls this method of the store, after `passed` such calls."""
        calls, real = 0, getattr(self.life.store, method)

        def dying(*given: object) -> object:
            nonlocal calls
            calls += 1
            if calls > passed:
                raise PowerLoss
            return real(*given)

        setattr(self.life.store, method, dying)
        waiting = asyncio.ensure_future(order)
        await self.clock.advance(2)
        waiting.cancel()
        assert self.life.task is not None
        with pytest.raises(PowerLoss):
            await self.life.task
        self.life.store.release()

    @property
    def presented(self) -> dict[str, int]:
        return self.first.rotating.presented


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "state")


async def left(folder: Folder) -> None:
    """A pair of the first configuration, refreshed once, and the daemon ended."""
    life = await folder.under()
    await life.keeper.execute(Import(life.document()))
    await folder.done(life.keeper.execute(Refresh()))
    await life.stop()


async def test_it_is_named_sent_nowhere_and_in_use_again_when_its_configuration_is(folder):
    await left(folder)
    life = await folder.under(OTHER)
    shown = life.keeper.snapshot()
    assert (shown.access, shown.chain, shown.generation) == ("none", "none", 0)
    assert shown.client == f"client id at {OTHER}"
    assert shown.kept == f"the pair of client id at {PROVIDER.token_url}"
    assert f"there is no pair of client id at {OTHER}; kept until its own configuration is back: " in shown.reason
    assert "token refresh --force" in shown.remedy
    (warned,) = [each for each in life.observer.of(Warned) if each.code == "pair_kept"]
    assert PROVIDER.token_url in warned.detail
    with pytest.raises(PersonNeeded, match=f"there is no pair of client id at {OTHER}"):
        await life.keeper.execute(Refresh())
    await life.clock.advance(1500)
    assert life.keeper.current() is None
    await life.stop()
    assert folder.presented == {"def-refresh-1": 1}
    life = await folder.under()
    assert life.keeper.snapshot().chain == "healthy"
    await life.clock.advance(5)
    assert folder.presented == {"def-refresh-1": 1, "def-refresh-2": 1}
    assert life.keeper.snapshot().kept == ""
    await life.stop()


async def test_a_login_under_the_other_configuration_destroys_nothing(folder):
    await left(folder)
    for _ in range(2):
        life = await folder.under(OTHER)
        if life.keeper.current() is None:
            await life.keeper.execute(Import(life.document()))
        assert (life.keeper.snapshot().chain, life.keeper.snapshot().kept != "") == ("healthy", True)
        for _ in range(4):  # only two generations of each are kept
            await folder.done(life.keeper.execute(Refresh()))
        await life.stop()
        life = await folder.under()
        assert life.keeper.snapshot().chain == "healthy"
        await folder.done(life.keeper.execute(Refresh()))
        await life.stop()
    assert folder.first.rotating.told == []
    assert set(folder.presented.values()) == {1}


async def test_a_logout_erases_only_the_pair_in_use(folder):
    await left(folder)
    life = await folder.under(OTHER)
    with pytest.raises(CommandFailure):
        await life.keeper.execute(Logout())
    await life.keeper.execute(Import(life.document()))
    await folder.done(life.keeper.execute(Logout()))
    await life.stop()
    life = await folder.under()
    assert life.keeper.snapshot().chain == "healthy"
    await life.stop()


@pytest.mark.parametrize(("policy", "more"), [("once", 1), ("never", 0)])
async def test_what_is_known_of_its_chain_is_kept_with_it(folder, policy, more):
    """A lost answer counts after the configuration was another one, and after a login and a lost answer there."""
    await left(folder)
    life = await folder.under()
    life.rotating.faults = ["lost"]
    while "def-refresh-2" not in folder.presented:
        await life.clock.advance(0.5)
    await folder.crash()
    life = await folder.under(OTHER)
    await life.keeper.execute(Import(life.document()))
    life.rotating.faults = ["lost"]
    with pytest.raises(ServiceUnreachable):
        await folder.done(life.keeper.execute(Refresh()))
    await folder.crash()
    life = await folder.under(terms=replace(folder.life.terms, lost_answer_replay=policy))
    assert life.keeper.snapshot().chain == "unknown"
    life.rotating.faults = [lambda: (200, b"garbage")] * 9
    await life.clock.advance(100)
    assert folder.presented["def-refresh-2"] == 1 + more
    await life.stop()


async def test_a_pair_that_was_handed_over_stays_so(folder):
    await left(folder)
    life = await folder.under()
    await life.keeper.execute(Export())
    await life.stop()
    life = await folder.under(OTHER)
    await life.keeper.execute(Import(life.document()))
    await life.stop()
    life = await folder.under()
    assert life.keeper.snapshot().handed_over_at is not None
    await life.clock.advance(3000)
    assert "def-refresh-2" not in folder.presented
    await life.stop()


async def test_a_dead_pair_stays_dead_and_is_not_waited_for(folder):
    await left(folder)
    life = await folder.under()
    life.rotating.spend("def-refresh-2")
    with pytest.raises(PersonNeeded):
        await folder.done(life.keeper.execute(Refresh()))
    reason = life.keeper.snapshot().reason
    await life.stop()
    life = await folder.under(OTHER)
    assert life.keeper.snapshot().kept == ""
    await life.keeper.execute(Import(life.document()))
    await life.stop()
    life = await folder.under()
    assert (life.keeper.snapshot().chain, life.keeper.snapshot().reason) == ("dead", reason)
    await life.stop()


async def test_an_answer_that_was_not_committed_waits_with_it(folder):
    await left(folder)
    life = await folder.under()
    await folder.dies_in("commit", life.keeper.execute(Refresh()))
    life = await folder.under(OTHER)
    assert life.keeper.current() is None
    await life.keeper.execute(Import(life.document()))
    await folder.done(life.keeper.execute(Refresh()))
    await life.stop()
    life = await folder.under()
    assert (life.keeper.snapshot().chain, life.keeper.current().token) == ("healthy", "access-3")
    assert folder.presented["def-refresh-2"] == 1
    await life.stop()


async def test_damage_to_the_record_under_the_other_configuration_is_a_lost_answer_here(folder):
    await left(folder)
    life = await folder.under(OTHER)
    await life.keeper.execute(Import(life.document()))
    await life.stop()
    (folder.path / "record.json").write_bytes(b"{")
    life = await folder.under(OTHER)
    await life.stop()
    life = await folder.under(terms=replace(folder.life.terms, lost_answer_replay="never"))
    assert life.keeper.snapshot().chain == "unknown"
    assert "says nothing of the stored pair" in life.keeper.snapshot().reason
    await life.stop()


async def test_a_clients_own_pair_is_none_of_a_persons(folder):
    await left(folder)
    life = await folder.under(grant="client_credentials")
    await life.clock.advance(1)
    assert life.keeper.current().token == "access-3"
    await life.stop()
    life = await folder.under()
    assert (life.keeper.current().token, life.keeper.snapshot().kept) == ("access-2", "")
    await life.stop()


async def test_a_pair_from_before_this_was_recorded_belongs_to_the_configuration_that_finds_it(folder):
    await left(folder)
    for path in folder.path.glob("pair.*.json"):
        path.write_bytes(serialization.encode(replace(serialization.decode(Pair, path.read_bytes()), client="")))
    record = folder.path / "record.json"
    record.write_bytes(serialization.encode(replace(serialization.decode(ChainRecord, record.read_bytes()), client="")))
    life = await folder.under(OTHER)
    assert life.keeper.snapshot().chain == "healthy"
    await life.stop()
    life = await folder.under()
    assert life.keeper.snapshot().access == "none"
    assert OTHER in life.keeper.snapshot().kept
    await life.stop()


async def test_a_seed_is_used_up_under_every_configuration(folder):
    seed = folder.first.document()
    life = await folder.under(seed=lambda: seed)
    assert life.keeper.snapshot().chain == "healthy"
    await life.stop()
    life = await folder.under(OTHER, seed=lambda: seed)
    assert life.keeper.snapshot().access == "none"
    assert [each.code for each in life.observer.of(Warned)].count("seed_spent") == 1
    await life.stop()


async def test_another_upstream_keeps_the_pair_and_is_told_until_it_is_renewed(folder):
    life = await folder.under(upstream="https://one.example")
    await life.keeper.execute(Import(life.document()))
    await life.stop()
    for times in (1, 2):
        life = await folder.under(upstream="https://two.example")
        assert life.keeper.current().token == "access-1"
        told = [each.detail for each in life.observer.of(Warned) if each.code == "upstream_changed"]
        assert len(told) == times
        assert "https://one.example" in told[-1]
        assert "https://two.example" in told[-1]
        if times == 2:
            await folder.done(life.keeper.execute(Refresh()))
        await life.stop()
    life = await folder.under(upstream="https://two.example")
    assert [each.code for each in life.observer.of(Warned)].count("upstream_changed") == 2
    await life.stop()


async def test_another_refresh_url_alone_keeps_the_pair_and_is_told(folder):
    life = await folder.under()
    await life.keeper.execute(Import(life.document()))
    await life.stop()
    for url, told in (("https://new.example/token?key=secret", 1), (PROVIDER.token_url, 1)):
        life = await folder.under(provider=replace(PROVIDER, refresh_url=url))
        assert life.keeper.current().token == "access-1"
        said = [each.detail for each in life.observer.of(Warned) if each.code == "refresh_url_changed"]
        assert len(said) == told
        assert "https://new.example/token (" in said[0]
        assert "secret" not in said[0]
        await life.stop()


@pytest.mark.parametrize("is_left", [False, True], ids=["removed", "left by a crash"])
async def test_an_import_that_waits_for_its_proof_outlives_a_damaged_record(folder, is_left):
    life = await folder.under()
    await life.keeper.execute(Import(life.document()))
    life.rotating.faults = ["lost"]
    with pytest.raises(ServiceUnreachable, match="both pairs are kept"):
        await folder.done(life.keeper.execute(Import(life.document())))
    await folder.crash()
    (folder.path / "record.json").write_bytes(b"{torn")
    life = await folder.under(terms=replace(folder.life.terms, lost_answer_replay="always"))
    candidate = life.keeper.state.record.candidate
    assert (candidate.pair.refresh_token, candidate.intent.presented, candidate.intent.lost) == (
        "def-refresh-2",
        1,
        True,
    )
    spare = (folder.path / "imports.json").read_bytes()
    await folder.clock.advance(10)  # the proof is repeated
    assert life.keeper.state.record.candidate is None
    assert not (folder.path / "imports.json").exists()
    await life.stop()
    if is_left:
        (folder.path / "imports.json").write_bytes(spare)
    life = await folder.under()
    assert not (folder.path / "imports.json").exists()
    await life.stop()


async def test_imports_that_are_damaged_beside_their_record_are_named(folder):
    life = await folder.under()
    await life.keeper.execute(Import(life.document()))
    await folder.crash()
    for name in ("record.json", "imports.json"):
        (folder.path / name).write_bytes(b"{torn")
        (folder.path / name).chmod(0o600)
    life = await folder.under()
    named = [each.detail.partition(": ")[0] for each in life.observer.of(PairFileDamaged)]
    assert named[-2:] == [str(folder.path / name) for name in ("record.json", "imports.json")]
    assert "record.json: cannot be understood" in life.keeper.snapshot().reason
    assert "imports.json: cannot be understood" in life.keeper.snapshot().reason
    assert list(folder.path.glob("imports.json.damaged-*"))
    await life.stop()


# ---- by force ----------------------------------------------------------------------------------------------------------


async def test_force_presents_it_to_the_new_endpoint_once(folder):
    await left(folder)
    life = await folder.under(OTHER)
    shown = await folder.forced()
    assert (shown.chain, shown.generation, shown.kept) == ("healthy", 3, "")
    assert [each.over for each in life.observer.of(Warned) if each.code == "pair_kept"] == [False, True]
    assert folder.presented["def-refresh-2"] == 1
    await folder.crash()
    life = await folder.under(OTHER)
    assert (life.keeper.snapshot().chain, life.keeper.current().token) == ("healthy", "access-3")
    await life.stop()
    life = await folder.under()
    shown = life.keeper.snapshot()
    assert (shown.access, shown.chain) == ("valid", "dead")
    assert shown.reason == f"its refresh token has brought a pair of client id at {OTHER}"
    assert OTHER in shown.kept
    await life.clock.advance(4000)
    assert folder.presented["def-refresh-2"] == 1
    await life.stop()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda: (400, b'{"error": "invalid_grant"}'), PersonNeeded),
        (lambda: (401, b'{"error": "invalid_client"}'), CommandFailure),
        (503, ServiceUnreachable),
        ("unsent", ServiceUnreachable),
    ],
)
async def test_what_the_new_endpoint_says_against_it_is_no_word_of_its_own(folder, fault, error):
    await left(folder)
    life = await folder.under(OTHER)
    for _ in range(2):
        life.rotating.faults = [fault]
        with pytest.raises(error) as told:
            await folder.forced()
    if fault != "unsent" and error is not CommandFailure:
        assert "is kept as it was" in str(told.value)
    assert life.keeper.snapshot().chain == "none"
    assert life.keeper.snapshot().kept
    await life.clock.advance(100)
    await life.stop()
    asked = len(life.rotating.bodies)
    life = await folder.under()
    assert life.keeper.snapshot().chain == "healthy"
    await folder.done(life.keeper.execute(Refresh()))
    assert life.keeper.current().token == "access-3"
    assert len(life.rotating.bodies) == asked + 1
    await life.stop()


async def test_an_answer_that_is_lost_by_force_counts_where_it_came_from(folder):
    await left(folder)
    life = await folder.under(OTHER)
    life.rotating.faults = ["lost"]
    with pytest.raises(ServiceUnreachable, match="it is not known whether it is spent"):
        await folder.forced()
    await life.clock.advance(100)
    assert folder.presented["def-refresh-2"] == 1, "once, and not again by itself"
    await folder.crash()
    life = await folder.under()
    assert life.keeper.snapshot().chain == "unknown"
    life.rotating.faults = [lambda: (200, b"garbage")] * 9
    await life.clock.advance(100)
    assert folder.presented["def-refresh-2"] == 2
    await life.stop()


@pytest.mark.parametrize(
    ("method", "passed"), [("keep_answer", 0), ("save_record", 1), ("commit", 0), ("save_record", 2)]
)
async def test_a_crash_in_the_midst_of_it(folder, method, passed):
    await left(folder)
    life = await folder.under(OTHER)
    await folder.dies_in(method, life.keeper.execute(Refresh(force=True)), passed)
    life = await folder.under(OTHER)
    await life.clock.advance(20)
    if method == "keep_answer":
        assert life.keeper.snapshot().chain == "none"  # nothing is sent again by itself
    else:
        assert (life.keeper.snapshot().chain, life.keeper.current().token) == ("healthy", "access-3")
    await life.stop()
    life = await folder.under(terms=replace(life.terms, lost_answer_replay="never"))
    await life.clock.advance(20)
    assert life.keeper.snapshot().chain == ("unknown" if method == "keep_answer" else "dead")
    assert folder.presented["def-refresh-2"] == 1
    await life.stop()
