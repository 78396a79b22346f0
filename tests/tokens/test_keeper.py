"""The keeper's promises: renewal without traffic, one refresh at a time, saving before publishing, the degraded ways (contract §4)."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest

from passoproxy.core.events import (
    Audited,
    ChainChanged,
    PairFileDamaged,
    PairNotSaved,
    RefreshFailed,
    TaskFailed,
    TokenRefreshed,
    Warned,
)
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.errors import (
    AuthorizationRequired,
    CannotCreate,
    CommandFailure,
    ConfigurationError,
    PairStoreOwned,
    PassoproxyError,
    PersonNeeded,
    ServiceUnreachable,
    TokenUnavailable,
)
from passoproxy.ports import RawAnswer
from passoproxy.tokens.commands import Export, Import, Login, LoginPending, Logout, Refill, Refresh
from tests.fakes import settle
from tests.tokens.life import Life


@pytest.fixture
async def life():
    life = Life()
    yield life
    if life.task is not None and not life.task.done():
        life.store.failing.clear()
        life.store.loss = None
        await life.stop()


# ---- the timer -------------------------------------------------------------------------------------------------------


async def test_renews_at_refresh_at_without_any_traffic(life):
    keeper = await life.started_with_pair()
    await life.clock.advance(1439)
    assert keeper.current().token == "access-1"
    await life.clock.advance(2)
    assert keeper.current().token == "access-2"
    for _ in range(20):
        await life.clock.advance(1440)
    assert len(life.rotating.bodies) == 21
    assert life.rotating.told == []
    assert keeper.snapshot().chain == "healthy"


def audited(life):
    return [(each.action, each.who, each.outcome) for each in life.observer.of(Audited)]


async def test_what_it_does_to_the_pair_by_itself_is_audited_and_what_a_command_did_is_its_sender_s_to_tell(life):
    keeper = await life.started_with_pair()
    before = len(audited(life))
    await life.clock.advance(1441)
    await keeper.renewed(keeper.current())
    await life.clock.advance(2)
    await asyncio.gather(keeper.execute(Refresh()), life.clock.advance(2))
    assert keeper.current().token == "access-4"
    await life.clock.advance(1000)
    assert await keeper.execute(Refill(60.0))
    assert audited(life)[before:] == [("token refresh", who, "done") for who in ("timer", "request", "stop")]


async def test_a_death_is_audited(life):
    await life.started_with_pair(refresh_token="def-unknown")
    await life.clock.advance(1500)
    assert audited(life)[-1] == ("token death", "timer", "dead")


@pytest.mark.parametrize(("chance", "moment"), [(0.0, 1440 * 0.98), (1.0, 1440 * 1.02)])
async def test_jitter_is_two_percent_of_the_delay(chance, moment):
    life = Life(chance=chance)
    await life.started_with_pair()
    await life.clock.advance(moment - 0.5)
    assert life.rotating.bodies == []
    await life.clock.advance(1)
    assert len(life.rotating.bodies) == 1
    await life.stop()


async def test_an_unknown_lifetime_is_renewed_hourly_and_has_no_runway(life):
    keeper = await life.started_with_pair(expires_in=None)
    shown = keeper.snapshot()
    assert (shown.access, shown.runway_seconds, shown.access_until) == ("valid", None, None)
    await life.clock.advance(3601)
    assert keeper.current().token == "access-2"


async def test_a_pair_without_refresh_token_serves_to_its_last_second(life):
    keeper = await life.started_with_pair(refresh_token=None)
    assert (keeper.snapshot().chain, keeper.snapshot().runway_seconds) == ("none", 3600)
    await life.clock.advance(3599.5)
    assert keeper.current() is not None
    await life.clock.advance(0.6)
    assert keeper.current() is None
    assert keeper.snapshot().access == "expired"
    with pytest.raises(AuthorizationRequired, match="passoproxy login"):
        await keeper.bearer()


# ---- failures --------------------------------------------------------------------------------------------------------


async def test_a_provider_that_is_away_for_most_of_the_runway_costs_nothing(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [503] * 10_000
    await life.clock.advance(3000)
    assert keeper.current().token == "access-1"
    assert keeper.snapshot().chain == "retrying"
    assert 0 < keeper.snapshot().runway_seconds <= 600
    life.rotating.faults = []
    await life.clock.advance(100)
    assert keeper.current().token != "access-1"
    gaps = [after - before for before, after in zip(life.rotating.times, life.rotating.times[1:], strict=False)]
    assert min(gaps) >= 1.0


async def test_attempts_go_on_to_the_last_second_and_after_it(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = ["unsent"] * 100_000
    await life.clock.advance(3599)
    in_time = len(life.rotating.times)
    assert life.rotating.times[-1] > 1000 + 3597
    await life.clock.advance(600)
    assert keeper.current() is None
    assert len(life.rotating.times) > in_time + 8
    with pytest.raises(AuthorizationRequired):
        await keeper.bearer()
    life.rotating.faults = []
    await life.clock.advance(61)
    assert keeper.snapshot().chain == "healthy"


async def test_a_dead_chain_serves_its_access_token_and_then_asks_for_a_person(life):
    keeper = await life.started_with_pair(refresh_token="def-unknown")
    await life.clock.advance(1500)
    shown = keeper.snapshot()
    assert (shown.access, shown.chain, shown.runway_seconds) == ("valid", "dead", 0)
    assert shown.next_refresh_at is None
    assert "invalid_grant" in shown.reason
    assert keeper.current().token == "access-1"
    await life.clock.advance(10_000)
    assert life.rotating.presented == {"def-unknown": 1}
    with pytest.raises(AuthorizationRequired, match=r"http://127\.0\.0\.1:8611/"):
        await keeper.bearer()


async def test_a_login_revives_a_dead_chain(life):
    keeper = await life.started_with_pair(refresh_token="def-unknown")
    await life.clock.advance(10_000)
    await keeper.execute(Import(life.document()))
    assert keeper.snapshot().chain == "healthy"
    assert (await keeper.bearer()).token == "access-2"


async def test_a_fault_of_the_configuration_keeps_the_pair_and_is_named(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [lambda: (401, b'{"error": "invalid_client"}')] * 3
    await life.clock.advance(1445)
    shown = keeper.snapshot()
    assert shown.chain == "retrying"
    assert "invalid_client" in shown.reason
    assert life.observer.of(RefreshFailed)[-1].outcome == "misconfigured"
    assert shown.next_refresh_at - life.clock.wall() > 15
    await life.clock.advance(200)
    assert keeper.snapshot().chain == "healthy"


async def test_a_pair_that_someone_else_rotated_is_found_in_the_store(life):
    keeper = await life.started_with_pair(refresh_token="def-taken")
    issued = life.rotating.issue()["refresh_token"]
    other = Pair("access-other", issued, life.clock.wall() + 1400, life.clock.wall() + 5000, generation=7)
    life.store.generations[7] = other
    await life.clock.advance(1441)
    assert keeper.current() == Bearer("access-other", 7, other.access_until)
    assert keeper.snapshot().chain == "healthy"


# ---- lost answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "replays", "presented"), [("never", 0, 1), ("once", 1, 2), ("always", 3, 2), (60.0, 3, 2)]
)
async def test_a_lost_answer_is_replayed_as_the_setting_allows(policy, replays, presented):
    life = Life().having(lost_answer_replay=policy)
    life.rotating.replays = replays
    keeper = await life.started_with_pair()
    life.rotating.faults = ["lost"]
    await life.clock.advance(1440.5)
    assert keeper.snapshot().chain == "unknown"
    assert keeper.snapshot().runway_seconds == pytest.approx(2159.5)
    await life.clock.advance(10)
    assert keeper.snapshot().chain == ("unknown" if policy == "never" else "healthy")
    assert life.rotating.presented["def-refresh-1"] == presented
    await life.clock.advance(3000)
    assert keeper.snapshot().chain == ("dead" if policy == "never" else "healthy")
    await life.stop()


@pytest.mark.parametrize(("policy", "attempts"), [("once", 2), (30.0, 6), ("always", 50)])
async def test_answers_lost_again_and_again_end_in_dead_with_the_access_token(policy, attempts):
    life = Life().having(lost_answer_replay=policy)
    keeper = await life.started_with_pair()
    life.rotating.faults = [lambda: (200, b"garbage")] * 10_000
    await life.clock.advance(3598)
    assert keeper.snapshot().chain == "unknown"
    count = len(life.rotating.bodies)
    assert count == 2 if policy == "once" else count > (3 if policy == 30.0 else 20)
    assert keeper.current() is not None
    await life.clock.advance(3)
    assert keeper.snapshot().chain == "dead"
    await life.clock.advance(5000)
    assert len(life.rotating.bodies) - count <= 2
    await life.crash()
    keeper = await life.start()
    await life.clock.advance(5000)
    assert keeper.snapshot().chain == "dead"
    assert len(life.rotating.bodies) - count <= 2
    await life.stop()


@pytest.mark.parametrize("sleeps", [False, True])
async def test_when_the_grace_period_is_over_nothing_is_presented_again(sleeps):
    life = Life().having(lost_answer_replay=30.0)
    keeper = await life.started_with_pair()
    life.rotating.faults = [lambda: (200, b"garbage")] * 100
    await life.clock.advance(1440.5 if sleeps else 1475)
    count = len(life.rotating.bodies)
    if sleeps:  # a suspend, which the clocks count
        life.clock._monotonic, life.clock._wall = life.clock._monotonic + 100, life.clock._wall + 100
    await life.clock.advance(100)
    assert len(life.rotating.bodies) == count > 0
    assert (keeper.snapshot().chain, keeper.snapshot().next_refresh_at) == ("unknown", None)
    await life.stop()


async def test_a_replay_that_was_answered_does_not_count_and_stays_unknown(life):
    life.rotating.replays = 1
    keeper = await life.started_with_pair()
    life.rotating.faults = ["lost", 503, "unsent", 503]
    await life.clock.advance(1445)
    assert keeper.snapshot().chain == "unknown"
    await life.clock.advance(60)
    assert keeper.snapshot().chain == "healthy"
    assert life.rotating.told == []


# ---- callers ---------------------------------------------------------------------------------------------------------


async def test_a_thousand_callers_of_an_expired_token_make_one_refresh(life):
    life.store.generations[1] = Pair(
        "old",
        life.rotating.issue()["refresh_token"],
        life.clock.wall() - 4000,
        life.clock.wall() - 400,
        None,
        3600,
        generation=1,
    )
    life.having(refresh_lifetime=None)
    life.make()
    await life.keeper.open()
    callers = [asyncio.create_task(life.keeper.bearer()) for _ in range(1000)]
    await settle()
    life.task = asyncio.create_task(life.keeper.run())
    for leaver in callers[:300]:
        leaver.cancel()
    found = await asyncio.gather(*callers[300:])
    assert {bearer.token for bearer in found} == {"access-2"}
    assert len(life.rotating.bodies) == 1


async def test_a_hundred_401s_make_one_refresh(life):
    keeper = await life.started_with_pair()
    refused = keeper.current()
    found = await asyncio.gather(*[keeper.renewed(refused) for _ in range(100)])
    assert {bearer.token for bearer in found} == {"access-2"}
    assert len(life.rotating.bodies) == 1
    assert await keeper.renewed(refused) == keeper.current()


async def test_a_bearer_that_a_401_brought_is_not_renewed_by_the_next_one(life):
    keeper = await life.started_with_pair()
    newer = await keeper.renewed(keeper.current())
    assert await keeper.renewed(newer) is None
    assert len(life.rotating.bodies) == 1
    await life.clock.advance(301)
    assert (await keeper.renewed(newer)).token == "access-3"


async def test_one_path_that_always_answers_401_costs_no_more_than_one_refresh_for_each_of_the_timer_s(life):
    keeper = await life.started_with_pair()
    by_401 = 0
    for _ in range(900):
        newer, _ = await asyncio.gather(keeper.renewed(keeper.current(), "/stubborn"), life.clock.advance(4))
        if newer is not None:
            by_401 += 1
            assert await keeper.renewed(newer, "/stubborn", again=True) is None
    by_timer = len(life.rotating.bodies) - by_401
    assert by_timer == 2
    assert by_401 <= by_timer + 1


async def test_many_paths_that_answer_401_cost_twelve_refreshes_a_lifetime(life):
    keeper = await life.started_with_pair()
    for number in range(450):
        path = f"/{number % 100}"
        newer, _ = await asyncio.gather(keeper.renewed(keeper.current(), path), life.clock.advance(4))
        if newer is not None:
            await keeper.renewed(newer, path, again=True)
    assert len(life.rotating.bodies) <= 6 + 1


async def test_a_stubborn_path_waits_for_a_renewal_that_no_401_started(life):
    keeper = await life.started_with_pair()
    bearer = keeper.current()
    for path in ("/p", "/q"):
        bearer = await keeper.renewed(bearer, path)
        assert await keeper.renewed(bearer, path, again=True) is None
        await life.clock.advance(301)
    assert await keeper.renewed(bearer, "/p") is None
    assert len(life.rotating.bodies) == 2


async def test_the_provider_is_asked_once_a_second_whatever_it_answers(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [503, 503]
    for asked in (1, 2):
        refused = asyncio.create_task(keeper.execute(Refresh()))
        await life.clock.advance(0.9 if asked == 2 else 0)
        assert len(life.rotating.bodies) == 1
        await life.clock.advance(0.1 if asked == 2 else 0)
        with pytest.raises(ServiceUnreachable):
            await refused
        assert len(life.rotating.bodies) == asked


async def test_a_401_whose_refresh_fails_is_not_tried_again_by_every_401(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [503]
    assert await asyncio.gather(*[keeper.renewed(keeper.current()) for _ in range(50)]) == [None] * 50
    assert len(life.rotating.bodies) == 1
    assert keeper.current() is not None


async def test_a_401_on_a_revoked_pair_calls_for_a_person(life):
    keeper = await life.started_with_pair(refresh_token="def-revoked")
    with pytest.raises(AuthorizationRequired):
        await keeper.renewed(keeper.current())
    with pytest.raises(AuthorizationRequired):
        await keeper.renewed(keeper.current())
    assert len(life.rotating.bodies) == 1


async def test_a_401_without_a_refresh_token_or_a_pair_brings_nothing(life):
    keeper = await life.start()
    assert await keeper.renewed(Bearer("x", 1)) is None
    await keeper.execute(Import(life.document(refresh_token=None)))
    assert await keeper.renewed(keeper.current()) is None


async def test_a_token_of_unknown_lifetime_ends_with_a_401_that_brings_no_newer_one(life):
    keeper = await life.started_with_pair(expires_in=None)
    life.rotating.faults = ["unsent"]
    assert await keeper.renewed(keeper.current()) is None
    assert keeper.current() is None
    assert keeper.snapshot().access == "expired"
    assert (await asyncio.gather(keeper.bearer(), life.clock.advance(5)))[0].token == "access-2"


async def test_a_caller_that_leaves_cancels_nothing(life):
    keeper = await life.started_with_pair()
    caller = asyncio.create_task(keeper.execute(Refresh()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await settle(60)
    assert keeper.current().token == "access-2"
    assert max(life.store.generations) == 2


async def test_a_task_that_is_cancelled_finishes_its_refresh_first(life):
    keeper = await life.started_with_pair()
    life.rotating.before_answer = life.task.cancel
    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(life.task, life.clock.advance(1441))
    assert life.store.generations[2].refresh_token == "def-refresh-2"
    assert keeper.current().token == "access-2"
    await keeper.close()


async def test_waiting_for_a_bearer_has_an_end(life):
    life.store.generations[1] = Pair(
        "old", "def-x", life.clock.wall() - 4000, life.clock.wall() - 400, life.clock.wall() + 9e6, 3600, generation=1
    )
    life.rotating.faults = ["unsent"] * 1000
    keeper = await life.start()
    waiting = asyncio.create_task(keeper.bearer())
    await life.clock.advance(5)
    assert not waiting.done()
    await life.clock.advance(6)
    with pytest.raises(TokenUnavailable) as fault:
        await waiting
    assert dict(fault.value.fields)["Retry-After"]


async def test_a_login_under_way_makes_it_unavailable_rather_than_unauthorized(life):
    keeper = await life.start()
    with pytest.raises(AuthorizationRequired):
        await keeper.bearer()
    await keeper.execute(LoginPending(life.clock.wall() + 600))
    assert "finish it" in keeper.snapshot().remedy
    with pytest.raises(TokenUnavailable, match="login"):
        await keeper.bearer()
    await life.clock.advance(601)
    with pytest.raises(AuthorizationRequired):
        await keeper.bearer()


# ---- commands --------------------------------------------------------------------------------------------------------


async def test_refresh_answers_when_the_new_token_is_in_use(life):
    keeper = await life.started_with_pair()
    shown = await keeper.execute(Refresh())
    assert shown.generation == keeper.current().generation == 2
    both = await asyncio.gather(keeper.execute(Refresh()), keeper.execute(Refresh()), life.clock.advance(5))
    assert [shown.generation for shown in both[:2]] == [3, 3]


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("unsent", ServiceUnreachable, "no connection"),
        (503, ServiceUnreachable, "503"),
        ("lost", ServiceUnreachable, "lost"),
        (302, ConfigurationError, "redirects"),
        (
            lambda: (400, b'{"error": "invalid_grant", "hint": "def-refresh-1 was revoked"}'),
            PersonNeeded,
            "… was revoked",
        ),
    ],
)
async def test_refresh_says_what_came_of_it(life, fault, error, words):
    keeper = await life.started_with_pair()
    life.rotating.faults = [fault]
    with pytest.raises(error, match=words) as told:
        await keeper.execute(Refresh())
    assert "def-refresh" not in str(told.value)
    assert keeper.current().token == "access-1"


async def test_a_dead_token_is_presented_by_force_only(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [lambda: (400, b'{"error": "invalid_grant"}')]
    with pytest.raises(PersonNeeded):
        await keeper.execute(Refresh())
    with pytest.raises(PersonNeeded, match="--force"):
        await keeper.execute(Refresh())
    assert len(life.rotating.bodies) == 1
    forced = asyncio.create_task(keeper.execute(Refresh(force=True)))
    await life.clock.advance(2)
    assert (await forced).chain == "healthy"


async def test_force_after_lost_answers_and_a_failed_force(life):
    life.having(lost_answer_replay="never")
    keeper = await life.started_with_pair()
    life.rotating.faults = ["lost"]
    with pytest.raises(ServiceUnreachable):
        await keeper.execute(Refresh())
    with pytest.raises(PersonNeeded):
        await keeper.execute(Refresh())
    assert await keeper.renewed(keeper.current()) is None
    forced = asyncio.create_task(keeper.execute(Refresh(force=True)))
    await life.clock.advance(2)
    with pytest.raises(PersonNeeded):
        await forced
    assert keeper.snapshot().chain == "dead"


async def test_nothing_to_refresh_or_export(life):
    keeper = await life.start()
    with pytest.raises(PersonNeeded, match="login"):
        await keeper.execute(Refresh())
    with pytest.raises(PersonNeeded, match="no pair"):
        await keeper.execute(Export())


async def test_export_and_import_give_the_same_pair(life):
    keeper = await life.started_with_pair(scope="a b")
    document = life.held()
    assert set(document) == {"access_token", "token_type", "expires_in", "refresh_token", "scope", "obtained_at"}
    await life.clock.advance(100)
    shown = await keeper.execute(Import(json.dumps(document).encode()))
    assert shown.access_until == document["obtained_at"] + 3600
    assert life.held() == document


@pytest.mark.parametrize("document", [b"", b"no json", b"[]", b"{}", b'{"access_token": ""}', b'{"access_token": 1}'])
async def test_an_import_that_is_no_pair_is_refused_and_changes_nothing(life, document):
    keeper = await life.started_with_pair()
    with pytest.raises(CommandFailure) as told:
        await keeper.execute(Import(document))
    assert told.value.exit_code == 1
    assert keeper.current().token == "access-1"


async def test_a_pair_that_is_known_to_be_spent_and_is_imported_by_force_is_dead_at_once(life):
    keeper = await life.started_with_pair()
    old = life.held()
    await keeper.execute(Refresh())
    shown = await keeper.execute(Import(json.dumps(old).encode(), force=True))
    assert (shown.access, shown.chain) == ("valid", "dead")
    await life.clock.advance(5000)
    assert len(life.rotating.bodies) == 1


@pytest.mark.parametrize(("policy", "presented"), [("never", 1), ("once", 2)])
async def test_importing_the_same_pair_again_gives_no_further_replay(life, policy, presented):
    """A machine that imports its pair at every start must not present a token more often than the setting allows."""
    life.having(lost_answer_replay=policy)
    life.rotating.faults, life.rotating.replays = ["lost"] * 2, 3
    keeper = await life.started_with_pair()
    same = json.dumps(life.held()).encode()
    await life.clock.advance(1442)
    await life.clock.advance(9)
    assert len(life.rotating.bodies) == presented
    shown = await keeper.execute(Import(same, force=True))
    assert (shown.access, shown.chain) == ("valid", "unknown")
    assert "answer was lost" in shown.reason
    await life.stop()
    keeper = await life.start()
    assert keeper.snapshot().chain == "unknown"
    await life.clock.advance(2100)
    assert len(life.rotating.bodies) == presented
    assert (
        await keeper.execute(Import(life.document(), force=True))
    ).chain == "healthy"  # another pair has nothing to do with it


async def test_the_partition_survives_rotation_and_restart_but_no_unknown_login(life):
    nobody = (await life.start()).partition
    keeper = life.keeper
    await keeper.execute(Import(life.document()))
    first = keeper.partition
    await keeper.execute(Refresh())
    await life.stop()
    keeper = await life.start()
    assert keeper.partition == first != nobody
    await keeper.execute(Import(life.document(), force=True))
    assert keeper.partition not in {first, nobody}


# ---- saving ----------------------------------------------------------------------------------------------------------


async def test_a_pair_that_cannot_be_saved_is_held_until_it_can(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    await life.clock.advance(1441)
    assert keeper.current().token == "access-1"
    assert not keeper.snapshot().saved
    assert life.observer.of(PairNotSaved)
    with pytest.raises(CannotCreate, match="cannot be written"):
        await asyncio.gather(keeper.execute(Refresh()), life.clock.advance(2))
    assert "def-refresh-2" not in life.rotating.presented, "an answer to it would be the only copy of the chain"
    life.store.failing = set()
    await life.clock.advance(6)
    assert keeper.current().token == "access-2"
    assert keeper.snapshot().saved
    assert life.rotating.told == []


async def test_what_cannot_be_written_is_tried_every_five_seconds(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    await life.clock.advance(1441)
    tried, commit = [life.clock.monotonic()], life.store.commit

    def counted(pair):
        tried.append(life.clock.monotonic())
        commit(pair)

    life.store.commit = counted
    for _ in range(60):
        await life.clock.advance(1)
    assert keeper.current().token == "access-1"  # held unused
    assert len(tried) > 10
    assert max(later - earlier for earlier, later in pairwise(tried)) <= 5.0
    assert len(life.rotating.bodies) == 1


async def test_a_held_pair_is_used_when_nothing_else_is_left(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit", "save_record", "reserve"}
    await life.clock.advance(3000)
    assert life.rotating.bodies == []  # a refresh that could not be recorded waits while there is runway
    assert "cannot be written" in keeper.snapshot().reason
    await life.clock.advance(400)
    assert len(life.rotating.bodies) == 1  # near the end it is done anyway
    assert keeper.current().token == "access-1"
    await life.clock.advance(250)
    assert keeper.current().token == "access-2"
    assert not keeper.snapshot().saved
    life.store.failing = set()
    await life.clock.advance(10)
    assert keeper.snapshot().saved
    assert life.store.generations[2].access_token == "access-2"


async def test_a_held_pair_that_a_clock_step_saved_is_used(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    await life.clock.advance(1441)
    life.clock.step(-86400)
    life.store.failing = set()
    await life.clock.advance(6)
    assert keeper.current().token == "access-2"
    assert keeper.snapshot().saved


async def test_a_401_brings_the_held_pair_into_use(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    await life.clock.advance(1441)
    assert (await keeper.renewed(keeper.current())).token == "access-2"
    assert len(life.rotating.bodies) == 1


async def test_an_answer_that_was_kept_may_be_used_before_it_is_committed(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"commit"}
    await life.clock.advance(1441)
    assert keeper.current().token == "access-2"
    assert keeper.snapshot().saved
    await life.crash()
    life.store.failing = set()
    keeper = await life.start()
    assert keeper.current().token == "access-2"
    assert life.store.generations[2].access_token == "access-2"


async def test_a_login_that_cannot_be_saved_is_used_loudly(life):
    keeper = await life.start()
    life.store.failing = {"commit"}
    shown = await keeper.execute(Import(life.document()))
    assert not shown.saved
    assert "memory" in shown.remedy
    assert keeper.current().token == "access-1"
    life.store.failing = set()
    await life.stop()
    assert life.store.generations[1].access_token == "access-1"


async def test_unrecorded_refresh_by_command(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"reserve", "save_record"}
    with pytest.raises(CannotCreate, match="No space"):
        await keeper.execute(Refresh())
    assert life.rotating.bodies == []


# ---- start and stop --------------------------------------------------------------------------------------------------


async def test_a_second_owner_is_refused(life):
    await life.start()
    second = life.keeper
    life.make()
    with pytest.raises(PairStoreOwned):
        await life.keeper.open()
    life.keeper = second


async def test_damage_is_passed_over_and_named(life):
    life.store.damaged = ["/state/pair.9.json: torn; kept as pair.9.json.damaged-1"]
    keeper = await life.start()
    assert "pair.9.json" in keeper.snapshot().reason
    assert life.observer.of(PairFileDamaged)


async def test_a_store_that_cannot_be_read_is_read_again(life):
    document = life.document()
    life.store.failing = {"load"}
    keeper = await life.start()
    assert "cannot be written" in keeper.snapshot().reason
    await life.clock.advance(20)
    assert len(life.observer.of(PairFileDamaged)) == 1
    life.store.failing = set()
    life.store.generations[4] = Pair("a", "def-a", life.clock.wall(), life.clock.wall() + 3600, generation=4)
    await life.clock.advance(6)
    assert keeper.current().generation == 4
    assert (await keeper.execute(Import(document, force=True))).generation == 5


async def test_close_ends_everything(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"commit"}
    await life.stop()
    assert not life.store.owned
    with pytest.raises(TokenUnavailable, match="shutting down"):
        await keeper.execute(Refresh())
    await life.clock.advance(5000)
    with pytest.raises(PassoproxyError):
        await keeper.bearer()


async def test_orders_that_wait_at_the_end_are_told(life):
    keeper = await life.started_with_pair()
    order = asyncio.create_task(keeper.execute(Refresh()))
    await asyncio.sleep(0)
    await life.stop()
    with pytest.raises(TokenUnavailable):
        await order


async def test_a_fault_inside_is_told_and_lived_through(life):
    keeper = await life.started_with_pair()

    def broken() -> float:
        raise ZeroDivisionError

    life.keeper.state.chance = broken
    with pytest.raises(PassoproxyError, match="ZeroDivisionError"):
        await keeper.execute(Refresh())
    await life.clock.advance(1500)
    assert [event.where for event in life.observer.of(TaskFailed)][:1] == ["keeper"]
    life.keeper.state.chance = lambda: 0.5
    await life.clock.advance(60)
    assert (await keeper.bearer()).token
    assert life.rotating.told == []


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-86400, -600, 600])
async def test_a_step_of_the_wall_clock_changes_nothing_that_is_left(life, step):
    keeper = await life.started_with_pair()
    await life.clock.advance(100)
    life.clock.step(step)
    await life.clock.advance(20)
    shown = keeper.snapshot()
    assert shown.runway_seconds == pytest.approx(3480)
    assert shown.access_until == pytest.approx(life.clock.wall() + 3480)
    assert keeper.current().until == shown.access_until
    assert life.store.generations[1].access_until == shown.access_until
    assert [event.code for event in life.observer.of(Warned)] == ["clock_stepped"]
    await life.clock.advance(max(0, 1325 - max(0, step)))
    assert keeper.current().token == "access-2"
    assert len(life.rotating.bodies) == 1


async def test_a_pause_of_the_machine_that_only_the_wall_clock_shows_costs_no_pair(life):
    keeper = await life.started_with_pair()
    await life.clock.advance(600)
    life.clock.step(2400)  # the machine's clocks stood still, and the time was set right afterwards
    await life.clock.advance(20)
    assert (keeper.current().token, keeper.snapshot().chain) == ("access-2", "healthy")
    assert keeper.snapshot().runway_seconds == pytest.approx(3600, abs=30)
    await life.clock.advance(1200)
    assert len(life.rotating.bodies) == 1


async def test_a_step_before_a_restart_and_in_an_unknown_state(life):
    life.having(lost_answer_replay="never")
    keeper = await life.started_with_pair(expires_in=None)
    life.rotating.faults = ["lost"]
    with pytest.raises(ServiceUnreachable):
        await keeper.execute(Refresh())
    life.clock.step(-5000)
    await life.clock.advance(16)
    assert keeper.snapshot().chain == "unknown"
    keeper2 = await life.start() if await life.crash() is None else keeper
    assert keeper2.snapshot().chain == "unknown"


async def test_a_clock_that_steps_with_nothing_to_keep(life):
    keeper = await life.start()
    life.clock.step(10_000)
    await life.clock.advance(16)
    assert keeper.snapshot().access == "none"


async def test_a_process_that_slept_for_longer_than_the_lifetime_asks_once(life):
    keeper = await life.started_with_pair()
    life.clock._wall += 5400
    life.clock._monotonic += 5400
    await life.clock.advance(0.1)
    await settle(100)
    assert keeper.current().token == "access-2"
    assert len(life.rotating.bodies) == 1


# ---- client credentials ----------------------------------------------------------------------------------------------


async def test_client_credentials_need_no_person(life):
    life.having(grant="client_credentials")
    keeper = await life.start()
    await life.clock.advance(0.1)
    assert keeper.current().token == "access-1"
    shown = keeper.snapshot()
    assert (shown.chain, shown.runway_seconds, shown.link) == ("healthy", None, "")
    assert life.store.generations[1].refresh_token is None
    await life.clock.advance(1441)
    assert keeper.current().token == "access-2"
    assert life.rotating.bodies[0]["grant_type"] == "client_credentials"
    first = keeper.partition
    assert (await asyncio.gather(keeper.execute(Refresh()), life.clock.advance(2)))[0].generation == 3
    assert (await asyncio.gather(keeper.renewed(keeper.current()), life.clock.advance(2)))[0].token == "access-4"
    await life.stop()
    keeper = await life.start()
    assert keeper.current().token == "access-4"
    assert keeper.partition == first
    assert len(life.rotating.bodies) == 4


async def test_client_credentials_are_asked_for_again_until_they_come(life):
    life.having(grant="client_credentials")
    life.rotating.faults = [lambda: (400, b'{"error": "invalid_grant"}'), "lost", 503, "unsent"]
    keeper = await life.start()
    await life.clock.advance(0.1)
    assert keeper.snapshot().chain == "retrying"
    with pytest.raises(TokenUnavailable):
        await keeper.bearer()
    await life.clock.advance(200)
    assert keeper.current() is not None
    await keeper.execute(Logout())
    await life.clock.advance(2)
    assert keeper.current() is not None


async def test_client_credentials_come_soon_after_a_provider_that_was_long_away(life):
    life.having(grant="client_credentials")
    keeper = await life.start()
    await life.clock.advance(0.1)
    life.rotating.faults = [503] * 10_000
    await life.clock.advance(5000)
    assert keeper.current() is None
    life.rotating.faults = []
    await life.clock.advance(10)
    assert keeper.current() is not None


async def test_refused_client_credentials_are_nothing_that_a_login_mends(life):
    life.having(grant="client_credentials")
    keeper = await life.start()
    await life.clock.advance(2)
    life.rotating.faults = [lambda: (400, b'{"error": "invalid_grant"}')]
    with pytest.raises(ConfigurationError, match=r"invalid_grant; check oauth\.client_id"):
        await keeper.execute(Refresh())


async def test_events_tell_the_story(life):
    keeper = await life.started_with_pair()
    await keeper.execute(Refresh())
    assert [event.grant for event in life.observer.of(TokenRefreshed)] == ["import", "refresh"]
    assert [event.chain for event in life.observer.of(ChainChanged)] == ["healthy"]
    assert all("access-" not in repr(event) and "def-refresh" not in repr(event) for event in life.observer.events)


async def test_a_forced_refresh_that_is_refused_takes_the_newer_pair_of_the_store(life):
    keeper = await life.started_with_pair(refresh_token="def-taken")
    issued = life.rotating.issue()["refresh_token"]
    now = life.clock.wall()
    life.store.generations[7] = Pair("access-other", issued, now, now + 3600, generation=7)
    assert (await keeper.execute(Refresh())).generation == 7


async def test_a_login_answer_that_cannot_be_kept_is_used_and_said_to_be_unsaved(life):
    keeper = await life.start()
    life.store.failing = {"keep_answer", "commit"}
    answer = RawAnswer(b'{"access_token": "a", "refresh_token": "def-a"}', "", life.clock.wall(), "authorization_code")
    assert not (await keeper.execute(Login(answer))).saved
    assert keeper.current().token == "a"
    life.store.failing = {"commit"}
    assert (await keeper.execute(Login(answer))).saved


async def test_a_death_that_could_not_be_written_is_written_later(life):
    await life.started_with_pair()
    life.rotating.faults = [lambda: (400, b'{"error": "invalid_grant"}')]
    life.rotating.before_answer = lambda: None
    await life.clock.advance(1430)
    life.store.failing = {"save_record", "reserve"}
    await life.clock.advance(2100)  # the last tenth: presented without a record
    assert life.keeper.snapshot().chain == "dead"
    assert life.store.record.spent == ()
    life.store.failing = set()
    await life.clock.advance(6)
    assert len(life.store.record.spent) == 1


async def test_a_refusal_tells_the_deadline_even_where_it_is_beyond_the_calendar(life):
    life.store.generations[1] = Pair("a", None, 0, -1e15, generation=1)
    keeper = await life.start()
    with pytest.raises(AuthorizationRequired, match="far away"):
        await keeper.bearer()
