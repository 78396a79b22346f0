"""The lease on the pair that a fleet shares: taken, proven by the holder's own clock, kept by a heartbeat, given back; and writes under it.

The lease is a key that ends by itself, `FENCE|ID|NAME`. The fence is a number that grows with every new holder and never ends; a write counts
only while the fence is still the writer's own, so a former holder changes nothing, however late its write arrives. An instance with a higher
generation than the store's lays a claim, and no other takes the lease before it.

The holder's time counts from before each request to the store, so it ends before the store's own does. The heartbeat is a thread, because the
keeper waits in calls that block; it beats only while the event loop shows a pulse, so a daemon that hangs loses the lease as a dead one does.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping

from passoproxy.errors import PairStoreFailure, PairStoreOwned
from passoproxy.stores.redis_client import Keys, RedisLink

LEASE_SECONDS = 7.0
"""A dead holder's lease ends after this (contract §4: within 10 s)."""

MARGIN_SHARE = 0.2
"""The holder's own time is shorter by this share: clocks run apart, and a request takes its time."""

BEATS = 5
"""Heartbeats in one lease."""

PULSE_TOLERANCE = 2.5
"""Seconds without a pulse of the loop after which the heartbeat stops."""

GRACE = 3.0
"""Seconds for which a store that came back older is left to instances that know more, by a holder of the newest generation it has heard of."""

LONG_GRACE = 15.0
"""The same by an instance that does not hold the newest generation: its holder may be starting again."""

# ---- scripts: each one atomic step; answers begin with a word ---------------------------------------------------------

_COMMON = """
local lease, fences, pair, claims, news = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local function stored() return tonumber(redis.call('HGET', pair, 'generation') or '0') end
-- an answer that is kept and not committed counts as the next generation
local function reach() return stored() + redis.call('HEXISTS', pair, 'answer') end
local function claimed()
  local claim = redis.call('GET', claims)
  if not claim then return 0, '' end
  local generation, id = string.match(claim, '^(%d+)|(.*)$')
  return tonumber(generation), id
end
"""

TAKE = (
    _COMMON
    + """
local id, name, ttl, floor, seen, mine, patient = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local generation = reach()
local highest, claimant = claimed()
if mine > generation and (mine > highest or claimant == id) then
  redis.call('SET', claims, string.format('%d|%s', mine, id), 'PX', 5000)
  highest, claimant = mine, id
end
local held = redis.call('GET', lease)
-- a lease of our own that we do not know of: its answer was lost, and nothing was done under it
if held and not string.find(held, '|' .. id .. '|', 1, true) then return {'held', held, generation} end
if highest > math.max(generation, mine) and claimant ~= id then return {'claimed', '', generation} end
if seen > generation and patient ~= '1' then return {'older', '', generation} end
local fence = math.max(tonumber(redis.call('GET', fences) or '0'), floor) + 1
redis.call('SET', fences, string.format('%d', fence))
redis.call('SET', lease, string.format('%d|%s|%s', fence, id, name), 'PX', ttl)
if claimant == id then redis.call('DEL', claims) end
return {'taken', string.format('%d', fence), generation}
"""
)
"""Takes the lease. `seen` is the highest generation that the taker ever heard of, `mine` the one that it holds itself and may claim."""

KEEP = (
    _COMMON
    + """
local value, fence, ttl, proven = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held, last = redis.call('GET', lease), redis.call('GET', fences)
if held and held ~= value then return {'lost', held} end
if not held and last ~= fence then
  if proven ~= '1' or (last and tonumber(last) > tonumber(fence)) then return {'lost', ''} end
  redis.call('SET', fences, fence)
end
redis.call('SET', lease, value, 'PX', ttl)
local highest, claimant = claimed()
if highest <= reach() then highest = 0 end
local stamp = (redis.call('HGET', pair, 'fence') or '') .. '.' .. (redis.call('HGET', pair, 'serial') or '')
return {'kept', stamp, stored(), highest, claimant}
"""
)
"""Renews the lease. One that ended is taken up again only if no other had it since, or if the store forgot and the holder's own time still runs."""

WRITE = (
    _COMMON
    + """
local value, fence, ttl, generation = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local held = redis.call('GET', lease)
if redis.call('GET', fences) ~= fence or (held and held ~= value) then return {'lost', held or ''} end
if stored() > generation and redis.call('HGET', pair, 'fence') ~= fence then return {'newer', stored()} end
redis.call('SET', lease, value, 'PX', ttl)
redis.call('HSET', pair, 'fence', fence, 'generation', ARGV[4])
for at = 5, #ARGV, 2 do
  if ARGV[at + 1] == '' then redis.call('HDEL', pair, ARGV[at]) else redis.call('HSET', pair, ARGV[at], ARGV[at + 1]) end
end
return {'written'}
"""
)
"""Writes fields of the pair, all or none, if the fence is the writer's and no other stored a higher generation (compare and swap)."""

GIVE_BACK = (
    _COMMON
    + """
if redis.call('GET', lease) == ARGV[1] then
  redis.call('DEL', lease)
  redis.call('PUBLISH', news, 'free')
end
return {'given back'}
"""
)
"""Ends the lease before its time, if it is the caller's."""

SHOW = (
    _COMMON
    + """
if redis.call('GET', fences) ~= ARGV[1] then return {'lost'} end
redis.call('SET', KEYS[6], ARGV[2])
redis.call('PUBLISH', news, 'shown')
return {'shown'}
"""
)
"""Publishes what followers may know, if the fence is the caller's."""


class Pulse:
    """Whether the event loop lives. Before the first tick this is unknown, and counts as living."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: float | None = None

    def tick(self) -> None:
        """The loop lives now."""
        self._last = self._monotonic()

    def stop(self) -> None:
        """The loop ends in order: no tick is expected any more."""
        self._last = None

    @property
    def beats(self) -> bool:
        """Whether it ticked within PULSE_TOLERANCE."""
        return self._last is None or self._monotonic() - self._last < PULSE_TOLERANCE


class Lease:
    """One lease after the other. `changed` is called by the heartbeat with the stamp and generation that the store has."""

    def __init__(
        self,
        link: RedisLink,
        keys: Keys,
        *,
        monotonic: Callable[[], float],
        pulse: Pulse | None = None,
        seconds: float = LEASE_SECONDS,
        changed: Callable[[str, int], None] = lambda stamp, generation: None,
    ) -> None:
        self._link, self._monotonic, self._changed = link, monotonic, changed
        self._pulse = pulse or Pulse(monotonic)
        self.names = (keys.lease, keys.fence, keys.pair, keys.claim, keys.news)
        """The scripts' KEYS."""
        self._id = secrets.token_hex(8)
        self._name = f"process {os.getpid()} on {socket.gethostname()[:100]}"
        self._seconds, self._ms = seconds, int(seconds * 1000)
        self._lock = threading.Lock()
        self._value = ""
        self._until = 0.0
        self._older_since: float | None = None
        self._heart: threading.Thread | None = None
        self._stop = threading.Event()
        self.fence = 0
        self.lost = "no lease was taken"
        """Why the lease is over; '' while it is held, proven or not."""
        self.fault = ""
        """Why the store could not be used when it was asked last; '' if it could."""

    def take(self, *, seen: int, held: int, fence: int) -> None:
        """Takes the lease and starts the heartbeat: `seen` is the highest generation that this instance ever heard of, `held` the one that it
        holds whole (0: none), `fence` the highest that it had.

        Raises PairStoreOwned if it is not to be had now, PairStoreFailure if the store is away.
        """
        self._still()
        asked = self._monotonic()
        grace = GRACE if held >= seen else LONG_GRACE
        patient = self._older_since is not None and asked - self._older_since >= grace
        arguments = (self._id, self._name, self._ms, fence, seen, held, int(patient))
        word, told, generation = self._answer(TAKE, *arguments)
        is_older = int(generation) < seen
        self._older_since = (self._older_since or asked) if is_older else None
        shown = self._link.shown
        match word:
            case "held":
                holder = told.split("|", 2)[-1]
                raise PairStoreOwned(
                    f"{shown}: the pair is renewed by {holder}; a command needs a daemon, there or here"
                )
            case "claimed":
                raise PairStoreOwned(f"{shown}: another instance has a newer pair and is about to take over")
            case "older":
                raise PairStoreOwned(
                    f"{shown}: holds an older pair (generation {generation}) than was seen before ({seen});"
                    " an instance that has it is given time to bring it back"
                )
        with self._lock:
            self.fence, self.lost = int(told), ""
            self._value = f"{told}|{self._id}|{self._name}"
            self._until = asked + self._seconds * (1 - MARGIN_SHARE)
        self._older_since = None
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, args=(self._stop,), name="pair lease", daemon=True)
        self._heart.start()

    @property
    def proven(self) -> bool:
        """Whether no other instance can have the lease now, by the holder's own clock. No I/O."""
        return not self.lost and self._monotonic() < self._until

    def write(self, generation: int, fields: Mapping[str, bytes]) -> None:
        """Writes fields of the pair (an empty one is removed) and renews the lease. Raises PairStoreFailure if either is refused."""
        if self.lost:
            raise PairStoreFailure(f"{self._link.shown}: {self.lost}; nothing was written")
        asked = self._monotonic()
        pairs = [part for name, value in fields.items() for part in (name, value)]
        word, *_ = self._answer(WRITE, self._value, str(self.fence), self._ms, generation, *pairs)
        if word != "written":
            self._lose("another instance took the pair over")
            raise PairStoreFailure(f"{self._link.shown}: {self.lost}; nothing was written")
        self._renewed(asked)

    def beat(self) -> None:
        """One heartbeat. Raises PairStoreFailure if the store is away."""
        asked = self._monotonic()
        word, *told = self._answer(KEEP, self._value, str(self.fence), self._ms, int(self.proven))
        if word == "lost":
            self._lose("another instance took the pair over" if told[0] else "the lease ended while the store was away")
            return
        stamp, generation, claimed, claimant = told
        if int(claimed) and claimant != self._id:
            self._lose(f"another instance has a newer pair (generation {claimed})")
            return
        self._renewed(asked)
        self._changed(stamp, int(generation))

    def give_back(self) -> None:
        """Ends the lease: at once if the store can be reached, else when its time is up."""
        self._still()
        if self._value:
            with contextlib.suppress(PairStoreFailure):
                self._answer(GIVE_BACK, self._value)
        self._lose("it was given back")
        self._value = ""

    def _still(self) -> None:
        """Stops the heartbeat."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        self._heart = None

    def _beat_on(self, stop: threading.Event) -> None:
        while not stop.wait(self._seconds / BEATS) and not self.lost:
            if not self._pulse.beats:
                continue
            try:
                self.beat()
            except PairStoreFailure:
                pass  # `fault` has it
            except Exception as fault:  # a heartbeat that stops would look like a store that is away for ever
                self.fault = f"{self._link.shown}: a fault inside passoproxy ({type(fault).__name__})"
        if not stop.is_set() and self._value:  # lost: an instance that claims it need not wait for the end of its time
            with contextlib.suppress(PairStoreFailure):
                self._answer(GIVE_BACK, self._value)

    def _renewed(self, asked: float) -> None:
        with self._lock:
            self._until = max(self._until, asked + self._seconds * (1 - MARGIN_SHARE))

    def _lose(self, why: str) -> None:
        with self._lock:
            self.lost, self._until = self.lost or why, 0.0

    def _answer(self, script: str, *arguments: str | bytes | int) -> list[str]:
        try:
            answer = self._link.lua(script, self.names, *arguments)
        except PairStoreFailure as fault:
            self.fault = str(fault)
            raise
        self.fault = ""
        return [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in answer]
