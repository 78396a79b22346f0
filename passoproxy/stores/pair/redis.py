"""The pair of a fleet: one Redis or Valkey that many instances share, and each instance's own folder beside it.

Never two refreshes. A refresh token works once, and no store can take back what was sent to the provider. So:

1. Only the holder of the lease presents a token, and only while it can prove the lease by its own clock (`lease.proven`): the intent is in the
   shared store before, written under the fence, and the last look at the clock is taken when the connection to the provider stands, before a
   byte is written (`may_present`). The next holder finds the intent, and then a token is presented again only as `lost_answer_replay` allows.
2. A store that is away proves nothing. The lease ends by the holder's own clock, and from then on it serves and does not refresh, to the very
   end of the runway: it cannot tell a store that is dead from one that it alone cannot reach, and in the second case another instance has taken
   over and spent the token long since. To present it then could end the whole chain, if the provider punishes reuse. So the last proven owner
   loses its access token's rest at worst, and says so from the first minute (`store_away`). A person who knows that no other instance runs can
   start one without `store.url`: it goes on from its own folder, and brings its newer pair along when `store.url` is set again.
3. What an answer brought is kept in the holder's folder first, whichever instance has the lease by then: the loser of a race discards nothing.
   An instance whose folder has a higher generation than the store lays a claim to the lease; the holder of the moment steps down before it.
4. A store that comes back older (restored, flushed, failed over) is brought up to date by its holder's next heartbeat. If the holder is gone,
   no instance takes over within a grace in which one that knows more can come forward; and an instance that heard of a higher generation than
   it holds never presents its own: that token is spent.

Reading is from memory: `acquire` settles what counts, from the store and the folder, and from then on this instance is the only writer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import floored
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
from passoproxy.stores.pair.encryption import FleetCover, KeyUnknown
from passoproxy.stores.pair.files import set_aside
from passoproxy.stores.pair.lease import LEASE_SECONDS, Lease, Pulse
from passoproxy.stores.pair.settlement import (
    NAME,
    Held,
    Memory,
    Settled,
    Stamp,
    remember,
    remembered,
    settle,
    stamped,
)
from passoproxy.stores.redis_client import Keys, RedisLink

T = TypeVar("T", Pair, ChainRecord, RawAnswer)


class RedisPairStore:
    """A PairStore over `link`, with `local` as this instance's own copy. `pulse` tells whether the event loop lives.

    `acquire` raises OwnerUnknown while the store is away: then no instance may own the pair, and what is known is served.
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
        self.link, self.keys, self.cover = link, keys, cover or FleetCover()
        self._local, self._wall = local, wall
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
            self._fields = {}  # the heartbeat of the new lease must not write what the old one knew
        try:
            here = self._held_here()
            own = here.reach if self._memory.shared else 0
            self.lease.take(seen=max(self._memory.seen, own), held=own, fence=self._memory.fence)
            self._settle(here)
        except PairStoreFailure as fault:
            self.lease.give_back()
            kind = OwnerUnknown if isinstance(fault, PairStoreAway) else PairStoreOwned
            raise kind(f"{fault}; until then no instance renews the pair, and what is known is served") from fault
        except PairStoreOwned:
            raise
        except BaseException:
            self.lease.give_back()
            raise

    def release(self) -> None:
        self.lease.give_back()
        self.link.close()
        if self.has_folder:
            self.has_folder = False
            self._local.release()

    @property
    def lost(self) -> str:
        """Why the ownership is over; '' while it is held, proven or not. No I/O."""
        return self.lease.lost

    @property
    def away(self) -> str:
        """Why the store could not be used when it was asked last; '' if it could."""
        return self.lease.fault

    def may_present(self) -> bool:
        """Whether a token may be presented this very moment. No I/O."""
        return self.lease.proven

    def hear(self, generation: int) -> None:
        """A follower was shown `generation`: remembered, also over a restart, as how far the fleet has come."""
        if generation > self._memory.seen and self.has_folder:
            self._remember(replace(self._memory, seen=generation, shared=True))

    def is_followed(self) -> bool:
        """Whether another instance listens, which would go on with the pair at once. Blocks for a moment."""
        try:
            return self.link.listeners(self.keys.news) > 0
        except PairStoreFailure:
            return False

    def own_pair(self) -> Pair | None:
        """What this instance's folder holds, whichever instance owns the fleet's pair; None if nothing can be read."""
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

    def imports(self) -> ChainRecord:
        return ChainRecord()  # the record is there, whichever copies are damaged

    def pending_answer(self) -> RawAnswer | None:
        return self._now.answer

    def kept(self) -> tuple[Pair, ...]:
        return self._local.kept()

    def reserve(self) -> None:
        """PairStoreUnproven if the lease cannot be proven, PairStoreOwned if it is lost: nothing may be presented then."""
        if self.lease.lost:
            raise PairStoreOwned(f"{self.link.shown}: {self.lease.lost}")
        if not self.lease.proven:
            raise PairStoreUnproven(
                f"store.url {self.link.shown} is away, and without it this instance cannot know whether another one renews the pair;"
                " bring it back before the access token ends"
            )
        self._local.reserve()

    def keep_answer(self, answer: RawAnswer) -> None:
        """The answer is the only copy; it is durable if one of both places took it."""
        self._now = replace(self._now, answer=answer)
        faults = self._both(lambda: self._local.keep_answer(answer), {"answer": self._sealed_answer(answer)})
        if len(faults) == 2:
            raise faults[0]

    def commit(self, pair: Pair) -> None:
        if self._now.outdated and pair.refresh_token is None:
            return  # no generation of its own; an instance that has the whole of it may still bring it back
        fields = {"pair": self._sealed(pair), "answer": b"", "erased": b""}
        if pair.generation != self._now.generation:
            fields["previous"] = self._fields.get("pair", b"")
        floor = max(self._now.floor, pair.generation)
        self._now = Settled(pair, None, self._now.record, pair.generation, floor)
        _raise(self._both(lambda: self._local.commit(pair), fields))

    def save_record(self, record: ChainRecord) -> None:
        """PairStoreUnproven if the shared store did not take it: then nothing may be presented."""
        _raise(self._write_record(record))

    def erase(self) -> None:
        """In the shared store or not at all: other instances would go on with what was erased here."""
        with self._lock:
            before, fields, number = self._now, dict(self._fields), max(self._now.floor, self._now.generation) + 1
            self._now = replace(before, generation=number, floor=number)
            try:
                self._put({"pair": b"", "previous": b"", "answer": b"", "erased": b"1"})
            except PairStoreFailure:
                self._now, self._fields = before, fields  # the heartbeat brings back what may have been erased
                raise
            self._now = replace(self._now, pair=None, answer=None, outdated=False)
        self._local.erase()

    # ---- writing -------------------------------------------------------------------------------------------------------

    def _write_record(self, record: ChainRecord) -> list[PairStoreFailure]:
        self._now = replace(self._now, record=record)
        stamp = Stamp(self.lease.fence, self._serial + 1)
        shared = replace(record.of(self._local.client), others=())  # other clients' records are this folder's own
        sealed = self.cover.close("record", 0, serialization.encode(stamped(shared, stamp)))
        return self._both(lambda: self._local.save_record(stamped(record, stamp)), {"record": sealed})

    def _both(self, here: Callable[[], None], fields: dict[str, bytes]) -> list[PairStoreFailure]:
        """Writes here and there, also if one of both fails; returns the faults, the shared store's first."""
        faults: list[PairStoreFailure] = []
        for write in (here, lambda: self._put(fields)):
            try:
                write()
            except PairStoreFailure as fault:
                faults.insert(0, fault)
        return faults

    def _put(self, fields: dict[str, bytes]) -> None:
        """Writes fields to the shared store, and all others too if it may have missed one. Raises PairStoreUnproven."""
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
        return self.cover.close("pair", pair.generation, serialization.encode(pair))

    def _sealed_answer(self, answer: RawAnswer) -> bytes:
        return self.cover.close("answer", answer.previous_generation, serialization.encode(answer))

    # ---- settling ------------------------------------------------------------------------------------------------------

    def _settle(self, here: Held) -> None:
        """Makes one truth of the folder and the store, and writes it to both."""
        found = self.link.fields(self.keys.pair)
        self._now = now = settle(here, self._held_there(found), self._memory, self._wall())
        fields = {name: found.get(name.encode(), b"") for name in ("pair", "previous", "erased")}
        if now.forgotten:
            with contextlib.suppress(PairStoreFailure):
                self._local.erase()
        if now.pair is not None and not now.outdated:
            fields |= {"pair": self._sealed(now.pair), "erased": b""}
            if now.taken_in:
                self._take_in(here, now.pair)
        fields["answer"] = b"" if now.answer is None else self._sealed_answer(now.answer)
        with self._lock:
            self._fields, self._serial, self._whole = fields, 0, False
        for fault in self._write_record(now.record):
            if isinstance(fault, PairStoreUnproven):
                raise fault
        self._remember(Memory(True, now.floor, self.lease.fence, self._memory.sealed or self.cover.seals))

    def _take_in(self, here: Held, there: Pair) -> None:
        """The store's pair becomes the folder's, and what that had is kept aside. A full disk is told at the next write."""
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
        unrecorded = ""
        try:
            record = self._local.load_record()
        except PairDamaged as fault:
            self._damage.append(fault)
            unrecorded, record = str(fault), self._own(self._local.imports) or ChainRecord()
        return Held(pair, answer, record, pair.generation if pair is not None else 0, unrecorded=unrecorded)

    def _held_there(self, found: dict[bytes, bytes]) -> Held:
        """What the store holds. Raises ConfigurationError if it is sealed with a key that is not here."""
        pair = self._stored(found, "pair", "pair", Pair)
        record = self._stored(found, "record", "record", ChainRecord)
        missing = (
            f"{self.link.shown}: the record there is missing or damaged, and so which tokens were spent is not known"
        )
        return Held(
            pair or self._stored(found, "previous", "pair", Pair),
            self._stored(found, "answer", "answer", RawAnswer),
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

    def _stored(self, found: dict[bytes, bytes], field: str, kind: str, what: type[T]) -> T | None:
        """One field; what cannot be understood is kept under another name and told when the pair is loaded."""
        data = found.get(field.encode())
        if not data:
            return None
        try:
            return serialization.decode(what, self.cover.open(kind, None, data, plain=not self._memory.sealed))
        except KeyUnknown as fault:
            given = "is not the key" if self.cover.seals else "is not set, and has to be: it is sealed what lies"
            problem = f"{given} in store.url {self.link.shown} ({fault})"
            remedy = "give every instance the same key; nothing was changed"
            raise ConfigurationError(Fault("", "state.key_file", problem, remedy)) from fault
        except ValueError as fault:
            name = f"{field}.damaged-{int(self._wall())}"
            self.link.put_field_aside(self.keys.pair, name, data)
            text = f"{self.link.shown}: the {field} stored there cannot be understood ({fault}); it is kept there as {name}"
            self._damage.append(PairDamaged(text))
            return None

    def _remember(self, memory: Memory) -> None:
        self._memory = replace(memory, client=self._local.client)
        remember(self._local.folder / NAME, self._memory)


def _raise(faults: list[PairStoreFailure]) -> None:
    if faults:
        raise faults[0]
