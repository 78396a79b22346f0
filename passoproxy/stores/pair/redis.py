"""What the shared store's fields hold: the pair's bytes as in a folder, sealed with the fleet's key where there is one, and two records made one.

The seal binds kind and generation, and no folder: the store is everybody's. Which field is read and written when is `redis`'s business.

Which pair counts when an instance becomes the holder: what the shared store has, or what lies in the instance's own folder.

Only a decision; reading and writing are `redis`'s. Nothing is discarded by it: what does not count is kept aside by whoever carries it out.

The pair of a fleet: one Redis or Valkey that many instances share, and each one's own folder beside it.

Never two refreshes. A refresh token works once, and no store can take back what was sent to the provider. So:

1. Only the holder of the lease presents a token, and only while it can prove the lease by its own clock (`lease.proven`): the intent is in the
   shared store before, written under the fence, and the last look at the clock is taken when the connection to the provider stands, before a
   byte is written (`may_present`). Whoever takes over finds the intent, and then a token is presented again only as `lost_answer_replay` allows.
2. A store that is away proves nothing. The lease ends by the holder's own clock, and from then on it serves and does not refresh, to the very
   end of the runway: it cannot tell a store that is dead from one that it alone cannot reach, and in the second case another instance has taken
   over and spent the token long since. To present it then could end the whole chain, where providers punish reuse. So the last proven owner
   loses its access token's rest at worst, and says so from the first minute (`store_away`). A person who knows that no other instance runs can
   start one without `store.url`: it goes on from its own folder, and brings its newer pair along when `store.url` is set again.
3. What an answer brought is kept in the holder's folder first, whoever has the lease by then: the loser of a race discards nothing. A folder that
   knows a higher generation than the store lays a claim to the lease; the holder of the moment steps down before it (`redis_scripts`).
4. A store that comes back older (restored, flushed, failed over) is brought up to date by its holder's next heartbeat. Where the holder is gone,
   nobody takes over within a grace in which whoever knows more can come forward; and an instance that heard of a higher generation than it
   holds never presents its own: that token is spent.

Reading is from memory: `acquire` settles what counts, from the store and the folder, and from then on this instance is the only writer.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from passoproxy.core.oauth.chain import Chain
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import REMEMBERED, Candidate, Intent, floored, unrecorded
from passoproxy.errors import (
    ConfigurationError,
    Fault,
    OwnerUnknown,
    PairDamaged,
    PairStoreAway,
    PairStoreFailure,
    PairStoreOwned,
    PairStoreUnproven,
)
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair import serialization
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.encryption import Key, KeyUnknown, Label, SealBroken, is_sealed, label_of
from passoproxy.stores.pair.files import set_aside
from passoproxy.stores.pair.fleet_memory import NAME, Memory, remember, remembered
from passoproxy.stores.pair.lease import LEASE_SECONDS, Known, Lease, Pulse
from passoproxy.stores.pair.redis_scripts import PUT_ASIDE
from passoproxy.stores.redis_client import Keys, RedisLink

_STAMP = "stamp"


class FleetCover:
    """The seal of what lies in the shared store; none without a key. `previous` is still read."""

    def __init__(self, key: Key | None = None, previous: Key | None = None) -> None:
        self._key = key
        self._keys = {each.name: each for each in (previous, key) if each is not None}
        # a label needs a store's name: here it is that of all stores of fleets
        self._store = hashlib.sha256(b"passoproxy fleet").hexdigest()[:32]

    @property
    def seals(self) -> bool:
        """Whether there is a key."""
        return self._key is not None

    def close(self, kind: str, number: int, content: bytes) -> bytes:
        """What goes to the store."""
        return content if self._key is None else self._key.close(Label(self._store, kind, number, 0), content)

    def open(self, kind: str, number: int | None, data: bytes, *, plain: bool = True) -> bytes:
        """The reverse; `number` None takes any, `plain` also what is not sealed. Raises KeyUnknown, SealBroken."""
        if not is_sealed(data):
            if self._key is not None and not plain:
                raise SealBroken("it is not sealed, and everything in this store was", "unsealed")
            return data
        name, label = label_of(data)
        if name not in self._keys:
            raise KeyUnknown(name)
        content = self._keys[name].open(data)
        if (label.store, label.kind) != (self._store, kind) or number not in (None, label.number):
            raise SealBroken(f"it is a sealed {label.kind} {label.number} in the place of a {kind} {number}", "foreign")
        return content


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """When a record was written, in the order of holders and of one holder's writes."""

    fence: int = 0
    serial: int = 0


def stamped(record: ChainRecord, stamp: Stamp) -> ChainRecord:
    """`record` with the moment at which it is written."""
    rest = tuple(pair for pair in record.extra if pair[0] != _STAMP)
    return replace(record, extra=(*rest, (_STAMP, f"{stamp.fence}.{stamp.serial}")))


def stamp_of(record: ChainRecord) -> Stamp:
    """When it was written; the oldest moment of all where it does not say."""
    fence, _, serial = dict(record.extra).get(_STAMP, "").partition(".")
    return Stamp(int(fence), int(serial)) if fence.isdecimal() and serial.isdecimal() else Stamp()


def merged(here: ChainRecord, there: ChainRecord) -> ChainRecord:
    """Two instances' records as one: the younger counts, no spent token is forgotten, and no presentation."""
    older, younger = sorted((here, there), key=stamp_of)
    spent = [mark for mark in older.spent if mark not in younger.spent] + list(younger.spent)
    return replace(
        younger,
        spent=tuple(spent[-REMEMBERED:]),
        intent=_counted(younger.intent, older.intent),
        candidate=_counted_candidate(younger.candidate, older.candidate),
        asked_at=max(older.asked_at, younger.asked_at),
    )


def _counted_candidate(younger: Candidate | None, older: Candidate | None) -> Candidate | None:
    if younger is None or older is None:
        return younger
    return replace(younger, intent=_counted(younger.intent, older.intent) or younger.intent)


def _counted(younger: Intent | None, older: Intent | None) -> Intent | None:
    same = (
        younger is not None
        and older is not None
        and (younger.token, younger.generation) == (older.token, older.generation)
    )
    if younger is None or older is None or not same or younger.lost:
        return younger
    return replace(younger, presented=max(younger.presented, older.presented))


@dataclass(frozen=True, slots=True)
class Held:
    """What one place holds. `generation` is the highest that it ever had, `erased` that its pair was forgotten on purpose.

    `unrecorded` is why it cannot tell which tokens were spent; '' where it can, and where no pair was ever there.
    """

    pair: Pair | None = None
    answer: RawAnswer | None = None
    record: ChainRecord | None = None
    generation: int = 0
    erased: bool = False
    unrecorded: str = ""

    @property
    def reach(self) -> int:
        """The generation that can be had from here: an answer that was kept and not committed counts as the next one."""
        if self.pair is None:
            return 0
        return self.pair.generation + (self.answer is not None and follows(self.answer, self.pair))


@dataclass(frozen=True, slots=True)
class Settled:
    """What counts from now on. `outdated`: a newer one was heard of, so this one's refresh token is spent and left
    out; it may serve, and is no generation of its own.

    `taken_in`: the folder has to take it over. `forgotten`: the folder has to forget its own. `floor`: new pairs are numbered above.
    """

    pair: Pair | None
    answer: RawAnswer | None
    record: ChainRecord
    generation: int
    floor: int
    outdated: bool = False
    taken_in: bool = False
    forgotten: bool = False


def follows(answer: RawAnswer | None, pair: Pair | None) -> bool:
    """Whether a kept answer is the one after `pair`."""
    return answer is not None and answer.previous_generation == (pair.generation if pair is not None else 0)


def settle(here: Held, there: Held, memory: Memory, now: float) -> Settled:
    """One truth of the folder (`here`) and the shared store (`there`) at `now` (epoch seconds)."""
    forgotten = here.pair is not None and there.erased and here.pair.generation < there.generation
    if forgotten:
        here = replace(here, pair=None, answer=None)
    ours = here.pair is not None and (
        there.pair is None or (memory.shared and here.pair.generation > there.pair.generation)
    )
    pair = here.pair if ours else there.pair
    # the folder's answer counts only beside the folder's own pair: another one's generation may bear the same number
    beside = here.answer if pair is not None and here.pair is not None and _same(here.pair, pair) else None
    kept = there.answer if follows(there.answer, pair) else beside
    answer = kept if follows(kept, pair) else None
    seen = max(memory.seen, there.generation)
    reach = 0 if pair is None else pair.generation + (answer is not None)
    outdated = pair is not None and reach < seen
    generation = there.generation if pair is None or outdated else pair.generation
    if pair is not None and outdated:
        pair = replace(pair, refresh_token=None, refresh_until=None)
    record = merged(here.record, there.record) if here.record and there.record else here.record or there.record
    record = record or ChainRecord(Chain.HEALTHY if pair is not None else Chain.NONE)
    record = replace(record, others=here.record.others if here.record else ())
    # the folder's record may be older than others' presentations, so it does not stand in for the store's
    why = there.unrecorded or ("" if there.record is not None else here.unrecorded)
    if why and pair is not None:
        record = replace(record, state=Chain.UNKNOWN, reason=why, intent=unrecorded(pair, now))
    return Settled(
        pair=pair,
        answer=None if outdated else answer,
        record=record,
        generation=generation,
        floor=max(seen, generation),
        outdated=outdated,
        taken_in=not ours and pair is not None and not (here.pair is not None and _same(here.pair, pair)),
        forgotten=forgotten,
    )


def _same(one: Pair, other: Pair) -> bool:
    return (one.generation, one.refresh_token) == (other.generation, other.refresh_token)


T = TypeVar("T")


class RedisPairStore:
    """A PairStore over `link`, with `local` as this instance's own copy. `pulse` tells whether the loop lives.

    `acquire` raises OwnerUnknown while the store is away: then nobody may own, and what is known is served. `away` says why.
    """

    def __init__(
        self,
        link: RedisLink,
        keys: Keys,
        local: DirectoryPairStore,
        *,
        monotonic: Callable[[], float],
        cover: FleetCover | None = None,
        pulse: Pulse | None = None,
        wall: Callable[[], float] = time.time,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._link, self._keys, self._local, self._wall = link, keys, local, wall
        self.cover = cover or FleetCover()
        self.lease = Lease(link, keys, monotonic=monotonic, pulse=pulse, seconds=lease_seconds, changed=self._compare)
        self._lock = threading.RLock()
        self._fields: dict[str, bytes] = {}
        self._serial = 0
        self._whole = False
        """Whether the store has all that was written here."""
        self._now = Settled(None, None, ChainRecord(), 0, 0)
        self._damage: list[PairDamaged] = []
        self._memory = Memory()
        self.has_folder = False
        """Whether the folder's lock is ours: else another process of this machine stands for it, and is followed."""

    # ---- ownership -----------------------------------------------------------------------------------------------------

    def acquire(self) -> None:
        if not self.has_folder:
            self._local.acquire()
            self.has_folder = True
            memory = remembered(self._local.folder / NAME)
            self._memory = memory if memory.client in ("", self._local.client) else Memory()
        if self.lease.proven:
            return
        with self._lock:
            self._fields = {}  # the heart of the new lease must not write what the old one knew
        try:
            here = self._held_here()
            own = here.reach if self._memory.shared else 0
            self.lease.take(Known(max(self._memory.seen, own), own, self._memory.fence))
            self._settle(here)
        except PairStoreFailure as fault:
            self.lease.give_back()
            kind = OwnerUnknown if isinstance(fault, PairStoreAway) else PairStoreOwned
            raise kind(f"{fault}; until then nobody renews the pair, and what is known is served") from fault
        except PairStoreOwned:
            raise
        except BaseException:
            self.lease.give_back()
            raise

    def release(self) -> None:
        self.lease.give_back()
        self._link.close()
        if self.has_folder:
            self.has_folder = False
            self._local.release()

    @property
    def lost(self) -> str:
        """Why the ownership is over; '' while it is held, proven or not. No I/O."""
        return self.lease.lost

    @property
    def away(self) -> str:
        """Why the store could not be used when it was asked last; '' where it could."""
        return self.lease.fault

    def may_present(self) -> bool:
        """Whether a token may be presented this very moment. No I/O."""
        return self.lease.proven

    def hear(self, generation: int) -> None:
        """A follower was shown `generation`: from now on it is known, here and after a restart, that the fleet has come so far."""
        if generation > self._memory.seen and self.has_folder:
            self._remember(replace(self._memory, seen=generation, shared=True))

    def is_followed(self) -> bool:
        """Whether another instance listens: it would go on with the pair at once. Blocks for a moment."""
        try:
            return self._link.listeners(self._keys.news) > 0
        except PairStoreFailure:
            return False

    def own_pair(self) -> Pair | None:
        """What this instance's folder holds, whoever owns the fleet's pair; None where nothing can be read."""
        with contextlib.suppress(PairStoreFailure):
            return self._own(self._local.load) if self.has_folder else None
        return None

    # ---- the port ------------------------------------------------------------------------------------------------------

    def load(self) -> Pair | None:
        if self._damage:
            raise self._damage.pop(0)
        return self._now.pair

    def load_record(self) -> ChainRecord:
        return replace(self._now.record, extra=floored(self._now.record.extra, self._now.floor))

    def pending_answer(self) -> RawAnswer | None:
        return self._now.answer

    def kept(self) -> tuple[Pair, ...]:
        return self._local.kept()

    def reserve(self) -> None:
        """PairStoreUnproven where the lease cannot be proven, PairStoreOwned where it is lost: nothing may be presented then."""
        if self.lease.lost:
            raise PairStoreOwned(f"{self._link.shown}: {self.lease.lost}")
        if not self.lease.proven:
            raise PairStoreUnproven(
                f"store.url {self._link.shown} is away, and without it nobody knows whether another instance renews the pair;"
                " bring it back before the access token ends"
            )
        self._local.reserve()

    def keep_answer(self, answer: RawAnswer) -> None:
        """Durable in one of both places is durable: the answer is the only copy."""
        self._now = replace(self._now, answer=answer)
        sealed = self.cover.close("answer", answer.previous_generation, serialization.encode_answer(answer))
        faults = self._both(lambda: self._local.keep_answer(answer), {"answer": sealed})
        if len(faults) == 2:
            raise faults[0]

    def commit(self, pair: Pair) -> None:
        if self._now.outdated and pair.refresh_token is None:
            return  # it is no generation of its own, and whoever has the whole of it may still bring it back
        renewed = pair.generation != self._now.generation
        self._now = replace(
            self._now,
            pair=pair,
            answer=None,
            generation=pair.generation,
            floor=max(self._now.floor, pair.generation),
            outdated=False,
        )
        fields = {"pair": self._sealed(pair), "answer": b"", "erased": b""}
        if renewed:
            fields["previous"] = self._fields.get("pair", b"")
        _raise(self._both(lambda: self._local.commit(pair), fields))

    def save_record(self, record: ChainRecord) -> None:
        """PairStoreUnproven where the shared store did not take it: then nothing may be presented."""
        _raise(self._write_record(record))

    def erase(self) -> None:
        """In the shared store or not at all: other instances would go on with what was erased here."""
        before, number = self._now, max(self._now.floor, self._now.generation) + 1
        self._now = replace(before, generation=number, floor=number)
        try:
            self._put(dict.fromkeys(("pair", "previous", "answer"), b"") | {"erased": b"1"})
        except PairStoreFailure:
            self._now = before
            raise
        self._now = replace(self._now, pair=None, answer=None, outdated=False)
        self._local.erase()

    # ---- writing -------------------------------------------------------------------------------------------------------

    def _write_record(self, record: ChainRecord) -> list[PairStoreFailure]:
        self._now = replace(self._now, record=record)
        stamp = Stamp(self.lease.fence, self._serial + 1)
        shared = replace(
            record.of(self._local.client), others=()
        )  # what is kept for other clients is this folder's own
        sealed = self.cover.close("record", 0, serialization.encode_record(stamped(shared, stamp)))
        return self._both(lambda: self._local.save_record(stamped(record, stamp)), {"record": sealed})

    def _both(self, here: Callable[[], None], fields: dict[str, bytes]) -> list[PairStoreFailure]:
        """Writes here and there, whatever becomes of either; what failed, the shared store's fault first."""
        faults: list[PairStoreFailure] = []
        for write in (here, lambda: self._put(fields)):
            try:
                write()
            except PairStoreFailure as fault:
                faults.insert(0, fault)
        return faults

    def _put(self, fields: dict[str, bytes]) -> None:
        """Writes fields to the shared store, with all others where it may have missed any. Raises PairStoreUnproven."""
        with self._lock:
            self._fields.update(fields)
            self._serial += 1
            sent = fields if self._whole else self._fields
            self._whole = False
            try:
                self.lease.write(self._now.generation, {**sent, "serial": str(self._serial).encode()})
            except PairStoreFailure as fault:
                raise PairStoreUnproven(str(fault)) from fault
            self._whole = True

    def _compare(self, stamp: str, generation: int) -> None:
        """After a heartbeat: a store that has something else than was written last is brought up to date."""
        with self._lock:
            if self._fields and (stamp, generation) != (f"{self.lease.fence}.{self._serial}", self._now.generation):
                self._whole = False
                self._put({})

    def _sealed(self, pair: Pair) -> bytes:
        return self.cover.close("pair", pair.generation, serialization.encode_pair(pair))

    # ---- settling ------------------------------------------------------------------------------------------------------

    def _settle(self, here: Held) -> None:
        """Makes one truth of the folder and the store, and gives it to both."""
        found = self._link.fields(self._keys.pair)
        there = self._held_there(found)
        self._now = now = settle(here, there, self._memory, self._wall())
        if now.forgotten:
            with contextlib.suppress(PairStoreFailure):
                self._local.erase()
        if now.taken_in and now.pair is not None and not now.outdated:
            self._take_in(here, now.pair)
        kept = {name: found.get(name.encode(), b"") for name in ("pair", "previous", "erased")}
        if now.pair is not None and not now.outdated:
            kept |= {"pair": self._sealed(now.pair), "erased": b""}
        answer = now.answer
        kept["answer"] = (
            b""
            if answer is None
            else self.cover.close("answer", answer.previous_generation, serialization.encode_answer(answer))
        )
        with self._lock:
            self._fields, self._serial, self._whole = kept, 0, False
        for fault in self._write_record(now.record):
            if isinstance(fault, PairStoreUnproven):
                raise fault
        self._remember(Memory(True, now.floor, self.lease.fence, self._memory.sealed or self.cover.seals))

    def _take_in(self, here: Held, there: Pair) -> None:
        """The store's pair becomes the folder's, and what that one had is kept aside. A full disk is told at the next write."""
        stamp = int(self._wall())
        with contextlib.suppress(PairStoreFailure):
            if here.answer is not None:
                set_aside(self._local.folder / "answer.json", stamp, "superseded")
            if here.pair is not None and here.pair.generation >= there.generation:
                set_aside(self._local.folder / f"pair.{here.pair.generation}.json", stamp, "superseded")
            self._local.commit(there)

    def _held_here(self) -> Held:
        """What the folder holds. Raises PairStoreFailure."""
        pair, answer = self._own(self._local.load), self._own(self._local.pending_answer)
        record, unrecorded = None, ""
        try:
            record = self._local.load_record()
        except PairDamaged as fault:
            self._damage.append(fault)
            unrecorded = str(fault)
        return Held(pair, answer, record, pair.generation if pair is not None else 0, unrecorded=unrecorded)

    def _held_there(self, found: dict[bytes, bytes]) -> Held:
        """What the store holds. Raises ConfigurationError where the key is not here."""
        pair = self._stored(found, "pair", "pair", serialization.decode_pair)
        record = self._stored(found, "record", "record", serialization.decode_record)
        missing = (
            f"{self._link.shown}: the record there is missing or damaged, and nobody can tell which tokens were spent"
        )
        return Held(
            pair or self._stored(found, "previous", "pair", serialization.decode_pair),
            self._stored(found, "answer", "answer", serialization.decode_answer),
            record,
            int(found.get(b"generation", b"0")),
            bool(found.get(b"erased")),
            missing if found.get(b"pair") and record is None else "",
        )

    def _own(self, read: Callable[[], T | None]) -> T | None:
        """What the folder holds; damage is told when the pair is loaded, and what is left counts. Raises PairStoreFailure."""
        for _ in range(8):
            try:
                return read()
            except PairDamaged as fault:
                self._damage.append(fault)
        return None

    def _stored(self, found: dict[bytes, bytes], field: str, kind: str, decode: Callable[[bytes], T]) -> T | None:
        """One field; what cannot be understood is kept under another name and told when the pair is loaded."""
        data = found.get(field.encode())
        if not data:
            return None
        try:
            return decode(self.cover.open(kind, None, data, plain=not self._memory.sealed))
        except KeyUnknown as fault:
            given = "is not the key" if self.cover.seals else "is not set, and has to be: it is sealed what lies"
            problem = f"{given} in store.url {self._link.shown} ({fault})"
            remedy = "give every instance the same key; nothing was changed"
            raise ConfigurationError(Fault("", "state.key_file", problem, remedy)) from fault
        except ValueError as fault:
            name = f"{field}.damaged-{int(self._wall())}"
            self._link.lua(PUT_ASIDE, (self._keys.pair,), name, data)
            text = f"{self._link.shown}: the {field} stored there cannot be understood ({fault}); it is kept there as {name}"
            self._damage.append(PairDamaged(text))
            return None

    def _remember(self, memory: Memory) -> None:
        self._memory = memory
        remember(self._local.folder / NAME, replace(memory, client=self._local.client))


def _raise(faults: list[PairStoreFailure]) -> None:
    if faults:
        raise faults[0]
