"""The pair's store on a real redis-server: one holder, fences, and a store that is away, forgets, or comes back older."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import begun, digest, floor
from passoproxy.errors import (
    ConfigurationError,
    OwnerUnknown,
    PairDamaged,
    PairStoreFailure,
    PairStoreOwned,
    PairStoreUnproven,
)
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair import lease as leasing
from passoproxy.stores.pair import serialization
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.encryption import FleetCover, key_of
from passoproxy.stores.pair.lease import Pulse
from passoproxy.stores.pair.redis import RedisPairStore
from passoproxy.stores.redis_client import Keys, RedisLink
from tests.redis_server import RedisServer

SHORT = 1.0
"""Seconds of a lease in these tests."""

PAIR = Pair("access-1", "def-1", 1.5, 3601.5, 3601.5, 3600.0, "*", "sub", 1, "login", "salt", "issuer")
ANSWER = RawAnswer(b"\x00\xff raw", "text/html", 7.5, "refresh_token", 1)
KEY = key_of(base64.b64encode(b"k" * 32).decode())
OTHER_KEY = key_of(base64.b64encode(b"o" * 32).decode())


def pair(generation: int) -> Pair:
    return replace(PAIR, access_token=f"access-{generation}", refresh_token=f"def-{generation}", generation=generation)


def until(condition: Callable[[], object], seconds: float = 20.0) -> object:
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


class Steady:
    """A steady clock that a test may move ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    if shared_server.process is None:
        shared_server.start()
    shared_server.thaw()
    shared_server.flush()
    return shared_server


class Instances:
    """Stores of a fleet, each with a folder of its own."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.made: list[RedisPairStore] = []

    def __call__(self, name: str, client: str = "", **more: object) -> RedisPairStore:
        """`client`: under the configuration of another client or token endpoint, which is another fleet."""
        link = RedisLink(self.server.url)
        given = {"monotonic": time.monotonic, "lease_seconds": SHORT, "wall": lambda: 1000.0, **more}
        local = DirectoryPairStore(self.folder / name, client=client)
        store = RedisPairStore(link, Keys.of((client or "x") * 24), local, **given)  # type: ignore[arg-type]
        self.made.append(store)
        return store

    def raw(self) -> dict[bytes, bytes]:
        with self.server.client() as client:
            return client.hgetall(Keys.of("x" * 24).pair)  # type: ignore[return-value]


@pytest.fixture
def instance(server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instances]:
    monkeypatch.setattr(leasing, "GRACE", 0.3)
    made = Instances(server, tmp_path)
    yield made
    for store in made.made:
        store.release()


def owned(store: RedisPairStore) -> bool:
    try:
        store.acquire()
    except PairStoreOwned:
        return False
    return True


def dies(store: RedisPairStore) -> None:
    """As a process that is killed: nothing is given back."""
    store.lease._still()
    store._local.release()
    store.has_folder = False


# ---- a store of the pair ---------------------------------------------------------------------------------------------


def test_an_empty_store_holds_nothing(instance):
    store = instance("a")
    store.acquire()
    assert (store.load(), store.pending_answer(), store.may_present()) == (None, None, True)
    assert (store.lost, store.away) == ("", "")


def test_what_is_written_is_read_by_the_next_holder_on_another_machine(instance):
    a, b = instance("a"), instance("b")
    a.acquire()
    record = ChainRecord("unknown", "lost", ("x", "y"), begun(None, "def-1", 1, 2.5), 2.5, (("seed", "value"),))
    a.commit(PAIR)
    a.reserve()
    a.save_record(record)
    a.keep_answer(ANSWER)
    a.release()
    b.acquire()
    assert (b.load(), b.pending_answer()) == (PAIR, ANSWER)
    found = b.load_record()
    assert (found.state, found.spent, found.intent) == ("unknown", ("x", "y"), record.intent)
    assert (("seed", "value") in found.extra, floor(found.extra)) == (True, 1)
    assert DirectoryPairStore(instance.folder / "b").load() == PAIR
    b.commit(pair(2))
    assert (b.load(), b.pending_answer(), instance.raw().get(b"answer")) == (pair(2), None, None)
    assert instance.raw()[b"generation"] == b"2"


def test_a_commit_twice_keeps_the_generation_before(instance):
    a = instance("a")
    a.acquire()
    a.commit(PAIR)
    before = instance.raw()[b"pair"]
    for _ in range(2):
        a.commit(pair(2))
        assert instance.raw()[b"previous"] == before


def test_forgetting_is_forgetting_everywhere(instance):
    a, b = instance("a"), instance("b")
    a.acquire()
    a.commit(pair(3))
    a.release()
    b.acquire()
    b.erase()
    b.save_record(ChainRecord(spent=("x",)))
    b.release()
    a.acquire()
    assert (a.load(), DirectoryPairStore(instance.folder / "a").load()) == (None, None)
    assert floor(a.load_record().extra) >= 4
    a.commit(pair(5))
    assert b"erased" not in instance.raw()


def test_nothing_is_forgotten_while_the_store_is_away(instance, server):
    a = instance("a")
    a.acquire()
    a.commit(PAIR)
    server.kill()
    with pytest.raises(PairStoreFailure):
        a.erase()
    assert (a.load(), DirectoryPairStore(instance.folder / "a").load()) == (PAIR, PAIR)


def test_what_could_not_be_forgotten_is_not_forgotten_later(instance, monkeypatch):
    """The heart brings the store up to date after a write that failed, or whose answer was lost: with the pair, which lives."""
    a = instance("a", lease_seconds=4.0)
    a.acquire()
    a.commit(PAIR)
    before = instance.raw()
    write = a.lease.write

    def not_at_all(*_: object) -> None:
        raise PairStoreFailure("away")

    def unanswered(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        raise PairStoreFailure("no answer")

    for fails in (not_at_all, unanswered):
        monkeypatch.setattr(a.lease, "write", fails)
        with pytest.raises(PairStoreFailure):
            a.erase()
        monkeypatch.setattr(a.lease, "write", write)
        a.lease.beat()
        found = instance.raw()
        assert (found.get(b"pair"), found[b"generation"], b"erased" in found) == (before[b"pair"], b"1", False)


# ---- one holder ------------------------------------------------------------------------------------------------------


def test_the_second_is_told_who_holds_it(instance):
    a, b = instance("a"), instance("b")
    a.acquire()
    a.acquire()
    with pytest.raises(PairStoreOwned, match="renewed by process"):
        b.acquire()
    a.release()
    b.acquire()
    b.release()


def test_of_one_folder_only_one_process_stands_for_it(instance):
    a, b = instance("a"), instance("a")
    a.acquire()
    with pytest.raises(PairStoreOwned, match="already served"):
        b.acquire()
    assert (a.has_folder, b.has_folder, b.own_pair()) == (True, False, None)


def test_a_dead_holders_lease_ends_by_itself(instance):
    a, b = instance("a"), instance("b")
    began = time.monotonic()
    a.acquire()
    a.commit(PAIR)
    dies(a)
    assert until(lambda: owned(b))
    assert time.monotonic() - began > 0.9 * SHORT  # not before its time
    assert b.load() == PAIR


def test_the_heart_keeps_the_lease(instance):
    a, b = instance("a"), instance("b")
    a.acquire()
    assert not until(lambda: owned(b), 2.5 * SHORT)
    assert a.may_present()


def test_a_loop_that_hangs_lets_go(instance, monkeypatch):
    monkeypatch.setattr(leasing, "PULSE_TOLERANCE", 0.3)
    pulse = Pulse(time.monotonic)
    pulse.tick()
    a, b = instance("a", pulse=pulse), instance("b")
    a.acquire()
    assert until(lambda: owned(b))
    assert not a.may_present()
    pulse.tick()  # it goes on
    assert until(lambda: a.lost)


def test_eight_take_it_at_once_and_one_has_it(instance):
    for turn in range(5):
        stores = [instance(f"{turn}-{number}") for number in range(8)]
        start, won = threading.Barrier(8), []

        def take(store: RedisPairStore, start=start, won=won) -> None:
            start.wait()
            if owned(store):
                won.append(store)

        threads = [threading.Thread(target=take, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].commit(pair(turn + 1))
        assert instance.raw()[b"generation"] == str(turn + 1).encode()
        for store in stores:
            store.release()


# ---- fences ----------------------------------------------------------------------------------------------------------


def frozen(instance: Instances) -> tuple[RedisPairStore, RedisPairStore]:
    """A holder that stood still (its heartbeat too) for a minute, while its lease ended and another instance took over."""
    clock = Steady()
    a, b = instance("a", monotonic=clock), instance("b")
    a.acquire()
    a.commit(PAIR)
    a.lease._still()
    clock.ahead += 60.0
    with instance.server.client() as client:
        client.delete(Keys.of("x" * 24).lease)
    b.acquire()
    return a, b


def test_a_holder_that_wakes_after_its_time_writes_nothing(instance):
    a, b = frozen(instance)
    b.commit(pair(2))
    before = instance.raw()
    assert not a.may_present()
    with pytest.raises(PairStoreUnproven):
        a.reserve()
    a.lease.beat()
    for write in (lambda: a.commit(pair(9)), lambda: a.save_record(ChainRecord("dead")), a.erase):
        with pytest.raises(PairStoreFailure, match="nothing was written"):
            write()
    assert instance.raw() == before
    assert "took the pair over" in a.lost
    with pytest.raises(PairStoreOwned):
        a.reserve()


def test_a_write_is_fenced_also_while_no_lease_stands_in_its_way(instance):
    """The holder after it has come and gone: only the fence tells that the pair was another instance's meanwhile."""
    a, b = frozen(instance)
    b.release()
    before = instance.raw()
    with pytest.raises(PairStoreFailure, match="nothing was written"):
        a.save_record(ChainRecord("dead"))
    assert instance.raw() == before
    assert "took the pair over" in a.lost


def test_the_loser_discards_nothing_and_brings_its_newer_pair_along(instance):
    a, b = frozen(instance)
    a.keep_answer(ANSWER)  # its folder has it
    with pytest.raises(PairStoreFailure):
        a.commit(pair(2))
    assert DirectoryPairStore(instance.folder / "a").load() == pair(2)
    assert until(lambda: owned(a))
    assert "newer pair" in b.lost
    assert a.load() == pair(2)
    assert instance.raw()[b"generation"] == b"2"


def test_an_answer_that_only_the_loser_has_comes_back_too(instance):
    a, b = frozen(instance)
    a.keep_answer(ANSWER)
    a.release()
    assert until(lambda: owned(a))
    assert "newer pair" in b.lost
    assert (a.load(), a.pending_answer()) == (PAIR, ANSWER)


def test_two_pairs_of_one_generation_the_stores_counts_and_the_other_is_kept(instance):
    a, b = frozen(instance)
    with pytest.raises(PairStoreFailure):
        a.commit(replace(pair(2), refresh_token="def-mine"))
    b.commit(pair(2))
    a.release()
    b.release()
    a.acquire()
    assert a.load() == pair(2)
    kept = DirectoryPairStore(instance.folder / "a")
    assert kept.load() == pair(2)
    assert [path.name for path in (instance.folder / "a").glob("*superseded*")] == ["pair.2.json.superseded-1000"]


def test_nobody_takes_the_lease_before_one_with_a_claim(instance):
    a, b = frozen(instance)
    c = instance("c")
    with pytest.raises(PairStoreFailure):
        a.commit(pair(2))
    a.lease._still()
    b.release()
    assert until(lambda: _claims(a, instance))
    with pytest.raises(PairStoreOwned, match="newer pair"):
        c.acquire()


def _claims(store: RedisPairStore, instance: Instances) -> bool:
    """`store` lays its claim and does not take what it then may."""
    with instance.server.client() as client:
        client.set(Keys.of("x" * 24).claim, f"2|{store.lease._id}", px=5000)
    return True


# ---- a store that is away, forgets, or comes back older --------------------------------------------------------------


def test_while_the_store_is_away_nobody_owns(instance, server):
    a = instance("a")
    server.kill()
    with pytest.raises(OwnerUnknown, match="no instance renews") as away:
        a.acquire()
    assert away.value.exit_code == 69
    assert (a.has_folder, a.may_present(), "cannot be used" in a.away) == (True, False, True)
    server.start()
    a.acquire()
    assert a.away == ""


def test_a_holder_whose_store_is_away_may_present_until_its_own_time_is_up(instance, server):
    clock = Steady()
    a = instance("a", monotonic=clock, lease_seconds=30.0)
    a.acquire()
    a.commit(PAIR)
    server.kill()
    assert a.may_present()
    clock.ahead += 23.9
    assert a.may_present()
    clock.ahead += 0.2
    assert not a.may_present()
    with pytest.raises(PairStoreUnproven, match="cannot know"):
        a.reserve()
    assert a.lost == ""
    with pytest.raises(PairStoreUnproven):
        a.save_record(ChainRecord("retrying"))
    with pytest.raises(PairStoreFailure):
        a.commit(pair(2))
    a.keep_answer(replace(ANSWER, previous_generation=2))
    assert DirectoryPairStore(instance.folder / "a").pending_answer() is not None


def test_an_answer_is_lost_only_where_neither_place_takes_it(instance, server):
    a = instance("a")
    a.acquire()
    server.kill()
    (instance.folder / "a" / "answer.json").mkdir()
    with pytest.raises(PairStoreUnproven):
        a.keep_answer(ANSWER)


def test_a_store_that_forgot_is_told_again_by_the_heart(instance, server):
    a = instance("a")
    a.acquire()
    a.commit(PAIR)
    a.save_record(ChainRecord("healthy", spent=("x",)))
    before = instance.raw()
    server.flush()
    assert until(lambda: instance.raw().get(b"pair") == before[b"pair"])
    assert instance.raw()[b"record"] == before[b"record"]
    assert a.may_present()


def test_what_could_not_be_written_is_written_when_the_store_is_back(instance, server):
    a = instance("a", lease_seconds=4.0)
    a.acquire()
    a.commit(PAIR)
    server.kill()
    with pytest.raises(PairStoreFailure):
        a.commit(pair(2))
    server.start()
    assert until(lambda: instance.raw().get(b"generation") == b"2")
    assert (a.lost, a.may_present()) == ("", True)


def test_a_store_that_came_back_older_takes_the_higher_generation(instance, server):
    a = instance("a", lease_seconds=6.0)
    a.acquire()
    a.commit(PAIR)
    old = server.snapshot()
    a.commit(pair(2))
    server.put_back(old)
    assert until(lambda: instance.raw().get(b"generation") == b"2")
    assert a.lost == ""


def test_the_same_when_all_were_stopped_and_the_last_holder_comes_first(instance, server):
    a = instance("a")
    a.acquire()
    a.commit(pair(5))
    a.release()
    server.flush()
    again = instance("a")
    with pytest.raises(PairStoreOwned, match="older pair"):
        again.acquire()
    assert until(lambda: owned(again))
    assert again.load() == pair(5)


def test_one_that_heard_of_more_waits_for_whoever_has_it(instance, server, monkeypatch):
    monkeypatch.setattr(leasing, "LONG_GRACE", 60.0)
    a, b = instance("a"), instance("b")
    b.acquire()
    b.commit(pair(3))
    b.release()
    a.acquire()
    a.commit(pair(4))
    assert not owned(b)
    b.hear(4)
    dies(a)
    server.flush()
    assert not until(lambda: owned(b), 1.0)
    again = instance("a")
    assert until(lambda: owned(again))
    assert again.load() == pair(4)


def test_and_presents_nothing_that_it_knows_to_be_spent(instance, server, monkeypatch):
    monkeypatch.setattr(leasing, "LONG_GRACE", 0.2)
    b = instance("b")
    b.acquire()
    b.commit(pair(3))
    b.release()
    b.acquire()
    b.lease.give_back()
    b.hear(4)
    server.flush()
    after_restart = instance("b")
    b.release()
    assert until(lambda: owned(after_restart))
    found = after_restart.load()
    assert (found.generation, found.refresh_token, floor(after_restart.load_record().extra)) == (3, None, 4)
    after_restart.commit(found)  # as after a step of the clock: it is no generation of the fleet
    assert b"pair" not in instance.raw()
    after_restart.commit(pair(5))
    assert instance.raw()[b"generation"] == b"5"


def test_a_pair_from_before_the_fleet_seeds_it_or_gives_way(instance):
    for name, generation in (("a", 2), ("b", 8)):
        alone = DirectoryPairStore(instance.folder / name)
        alone.acquire()
        alone.commit(pair(generation))
        alone.save_record(ChainRecord("healthy"))
        alone.release()
    a, b = instance("a"), instance("b")
    a.acquire()
    assert a.load() == pair(2)
    assert not owned(b)
    a.release()
    b.acquire()
    assert b.load() == pair(2)
    assert [path.name for path in (instance.folder / "b").glob("pair.8*superseded*")] == ["pair.8.json.superseded-1000"]


def test_each_client_is_a_fleet_of_its_own_on_one_folder(instance):
    """The pair of one is not given to the other's store, and what was seen of one makes none of the other's old."""
    a, b = instance("m", "a"), instance("m", "b")
    a.acquire()
    a.commit(pair(7))
    a.save_record(ChainRecord("healthy", spent=("seven",)))
    a.release()
    b.acquire()
    assert (b.load(), [each.generation for each in b.kept()]) == (None, [7])
    assert floor(b.load_record().extra) == 0
    b.commit(pair(2))
    b.save_record(replace(b.load_record(), state="unknown", intent=begun(None, "def-2", 2, 5.0)))
    with instance.server.client() as client:
        assert serialization.decode(ChainRecord, client.hget(Keys.of("b" * 24).pair, "record")).others == ()  # type: ignore[arg-type]
    b.release()
    a.acquire()
    assert a.load().generation == 7
    assert (a.load_record().state, a.load_record().intent) == ("healthy", None)
    a.commit(pair(8))
    a.release()
    b.acquire()
    assert (b.load().generation, b.load_record().intent.token) == (2, digest("def-2"))


def test_a_memory_that_cannot_be_read_does_not_make_a_stranger_of_the_folder(instance):
    a = instance("a")
    a.acquire()
    a.commit(pair(5))
    a.release()
    (instance.folder / "a" / "fleet.json").write_text("{")
    a.acquire()
    assert a.load() == pair(5)


@pytest.mark.parametrize("step", ["read", "written"])
def test_a_store_that_goes_away_while_it_is_taken_over_is_not_taken_over(instance, monkeypatch, step):
    a = instance("a")

    def away(*_: object) -> dict[bytes, bytes]:
        raise PairStoreFailure("away")

    monkeypatch.setattr(*((a.link, "fields") if step == "read" else (a.lease, "write")), away)
    with pytest.raises(PairStoreOwned, match="no instance renews"):
        a.acquire()
    assert a.lost


# ---- damage and seals ------------------------------------------------------------------------------------------------


def spoil(instance: Instances, field: str, data: bytes = b"rubbish") -> None:
    with instance.server.client() as client:
        client.hset(Keys.of("x" * 24).pair, field, data)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["rubbish", "a record", "plain"])
def test_a_damaged_pair_in_the_store_is_kept_and_the_folders_own_counts(instance, what):
    first = instance("a")
    first.acquire()
    first.commit(PAIR)
    first.save_record(ChainRecord())
    plain = instance.raw()[b"pair"]
    first.release()
    a, why = first, "cannot be understood"
    if what != "rubbish":  # once it was sealed, plain content is not taken again
        a, why = instance("a", cover=FleetCover(KEY)), "in the place of" if what == "a record" else "not sealed"
        a.acquire()
        assert a.load() == PAIR
        a.release()
    data = {"rubbish": b"rubbish", "a record": instance.raw()[b"record"], "plain": plain}[what]
    spoil(instance, "pair", data)
    a.acquire()
    with pytest.raises(PairDamaged, match=rf"{why}.*pair\.damaged-1000"):
        a.load()
    assert a.load() == PAIR
    assert instance.raw()[b"pair.damaged-1000"] == data != instance.raw()[b"pair"]


@pytest.mark.parametrize("data", [b"rubbish", b""])
def test_a_damaged_record_in_the_store_is_one_lost_answer_whatever_the_folder_says(instance, data):
    a = instance("a")
    a.acquire()
    a.commit(pair(2))
    a.save_record(ChainRecord("healthy", spent=("a",)))
    a.release()
    spoil(instance, "record", data)
    a.acquire()
    record = a.load_record()
    assert (record.state, record.intent.presented, record.intent.lost, record.spent) == ("unknown", 1, True, ("a",))
    assert "the record there is missing or damaged" in record.reason
    a.release()
    a.acquire()
    assert a.load_record().intent == record.intent


def test_a_damaged_folder_is_told_and_the_stores_counts(instance):
    a = instance("a")
    a.acquire()
    a.commit(PAIR)
    a.release()
    (instance.folder / "a" / "pair.1.json").write_text("{")
    a.acquire()
    with pytest.raises(PairDamaged, match=r"pair\.1\.json"):
        a.load()
    assert a.load() == PAIR


def test_with_a_key_nothing_in_the_store_can_be_read(instance):
    a = instance("a", cover=FleetCover(KEY))
    a.acquire()
    a.commit(PAIR)
    a.save_record(ChainRecord("healthy", spent=("marker",)))
    a.keep_answer(RawAnswer(b"access-2 in clear", previous_generation=1))
    everything = b"".join(instance.raw().values())
    assert all(word not in everything for word in (b"access-", b"def-", b"marker", b"healthy"))
    a.release()
    a.acquire()
    assert (a.load(), a.pending_answer()) == (PAIR, RawAnswer(b"access-2 in clear", previous_generation=1))


@pytest.mark.parametrize("cover", [FleetCover(), FleetCover(OTHER_KEY)])
def test_without_the_right_key_nothing_is_touched(instance, cover):
    a = instance("a", cover=FleetCover(KEY))
    a.acquire()
    a.commit(PAIR)
    a.release()
    before = instance.raw()
    b = instance("b", cover=cover)
    with pytest.raises(ConfigurationError, match=r"state\.key_file"):
        b.acquire()
    assert instance.raw() == before
    a.acquire()


def test_a_key_is_changed_one_instance_after_the_other(instance):
    a = instance("a", cover=FleetCover(KEY))
    a.acquire()
    a.commit(PAIR)
    a.release()
    b = instance("b", cover=FleetCover(OTHER_KEY, KEY))
    b.acquire()
    assert b.load() == PAIR
    b.release()
    c = instance("c", cover=FleetCover(OTHER_KEY))
    c.acquire()
    assert c.load() == PAIR


def test_whether_another_instance_listens(instance, server):
    a = instance("a")
    assert not a.is_followed()
    with server.client() as client, client.pubsub() as other:
        other.subscribe(Keys.of("x" * 24).news)
        assert until(a.is_followed)
    server.kill()
    assert not a.is_followed()


def test_what_the_folder_holds_is_known_without_the_store(instance, server):
    a = instance("a")
    a.acquire()
    a.commit(PAIR)
    server.kill()
    assert a.own_pair() == PAIR
    (instance.folder / "a" / "pair.1.json").chmod(0o644)
    assert a.own_pair() is None


def test_one_that_stands_for_no_folder_remembers_nothing(instance):
    a = instance("a")
    a.hear(7)
    assert not (instance.folder / "a" / "fleet.json").exists()
    a.acquire()
    a.hear(7)
    a.hear(6)
    a.release()
    assert '"seen": 7' in (instance.folder / "a" / "fleet.json").read_text()


def test_a_loser_with_an_answer_of_another_chain_keeps_it_aside(instance):
    a, b = frozen(instance)
    a.keep_answer(ANSWER)
    b.commit(pair(2))
    b.commit(pair(3))
    a.release()
    b.release()
    a.acquire()
    assert (a.load(), a.pending_answer()) == (pair(3), None)
    assert [path.name for path in (instance.folder / "a").glob("answer*")] == ["answer.json.superseded-1000"]


def test_a_folder_that_is_full_does_not_keep_it_from_taking_over(instance):
    a = instance("a")
    (instance.folder / "a").mkdir()
    (instance.folder / "a" / "record.json.new").mkdir()
    a.acquire()
    assert a.may_present()
    with pytest.raises(PairStoreFailure, match="record"):
        a.save_record(ChainRecord("healthy"))
    assert b"record" in instance.raw()


def test_a_heart_that_meets_a_fault_beats_on(instance, monkeypatch):
    a = instance("a")
    a.acquire()
    real, met = a.lease.beat, []

    def beat() -> None:
        met.append(1)
        if len(met) == 1:
            raise ValueError
        real()

    monkeypatch.setattr(a.lease, "beat", beat)
    assert until(lambda: "ValueError" in a.away)
    assert until(lambda: a.away == "")
    assert a.may_present()


def test_a_pair_that_was_forgotten_while_an_instance_was_away_is_not_brought_back(instance):
    a, b = instance("a"), instance("b")
    a.acquire()
    a.commit(pair(3))
    a.release()
    b.acquire()
    b.erase()
    b.commit(pair(5))
    b.release()
    a.acquire()
    assert a.load() == pair(5)


def test_a_folder_of_nothing_but_damage_holds_nothing(instance, monkeypatch):
    a = instance("a")

    def load() -> Pair | None:
        raise PairDamaged("damaged")

    monkeypatch.setattr(a._local, "load", load)
    a.acquire()
    for _ in range(8):
        with pytest.raises(PairDamaged):
            a.load()
    assert a.load() is None
