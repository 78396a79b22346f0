"""A lease on the shared pair: taken, proven by the holder's own clock, kept by a heartbeat, given back. What is written under it is `redis`'s.

The holder's time counts from before each request to the store, so it ends before the store's own does. The heart is a thread, because a
keeper waits in calls that block; but it beats only while the loop shows a pulse: a daemon that hangs lets go like one that is dead.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from passoproxy.errors import PairStoreFailure, PairStoreOwned
from passoproxy.stores.pair.redis_scripts import GIVE_BACK, KEEP, TAKE, WRITE
from passoproxy.stores.redis_client import Keys, RedisLink

LEASE_SECONDS = 7.0
"""A dead holder's lease ends after this (contract §4: within 10 s)."""

MARGIN_SHARE = 0.2
"""The holder's own time is shorter by this share: clocks run apart, and a request takes its time."""

BEATS = 5
"""Heartbeats in one lease."""

PULSE_TOLERANCE = 2.5
"""Seconds that a loop may show no pulse before the heart stops."""

GRACE = 3.0
"""Seconds that a store which came back older is left to whoever knows more, by a holder of the newest generation that it knows."""

LONG_GRACE = 15.0
"""The same by one that does not hold the newest generation: its holder may be starting again."""


class Pulse:
    """Whether the loop lives. Before the first tick nobody can tell, and it counts as living."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: float | None = None

    def tick(self) -> None:
        """The loop lives now."""
        self._last = self._monotonic()

    def stop(self) -> None:
        """Nobody ticks any more, and that is in order."""
        self._last = None

    @property
    def beats(self) -> bool:
        """Whether it ticked lately."""
        return self._last is None or self._monotonic() - self._last < PULSE_TOLERANCE


@dataclass(frozen=True, slots=True)
class Known:
    """What a taker knows: the highest generation that it ever heard of, the one that it holds whole (0: none), the highest fence."""

    seen: int = 0
    held: int = 0
    fence: int = 0


class Lease:
    """One lease after the other. `changed` is called by the heart when it finds the store different from what was written last."""

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
        self._link, self._monotonic, self._seconds, self._changed = link, monotonic, seconds, changed
        self._pulse = pulse or Pulse(monotonic)
        self._names = (keys.lease, keys.fence, keys.pair, keys.claim, keys.news)
        self._id = secrets.token_hex(8)
        self._name = f"process {os.getpid()} on {socket.gethostname()[:100]}"
        self._lock = threading.Lock()
        self._value = ""
        self._until = 0.0
        self._older_since: float | None = None
        self._heart: threading.Thread | None = None
        self._stop = threading.Event()
        self.fence = 0
        self.lost = "no lease was taken"
        """Why the lease is over; '' while it is held, be it unproven."""
        self.fault = ""
        """Why the store could not be used when it was asked last; '' where it could."""

    def take(self, known: Known) -> int:
        """Takes the lease and lets the heart beat; gives the store's generation. Raises PairStoreOwned where it is not to be had now,
        PairStoreFailure where the store is away."""
        self._still()
        asked = self._monotonic()
        waited = asked - self._older_since if self._older_since is not None else 0.0
        patient = self._older_since is not None and waited >= (GRACE if known.held >= known.seen else LONG_GRACE)
        arguments = (self._id, self._name, self._ms, known.fence, known.seen, known.held, int(patient))
        word, told, generation = self._answer(TAKE, *arguments)
        is_older = int(generation) < known.seen
        self._older_since = (self._older_since or asked) if is_older else None
        match word:
            case "held":
                raise PairStoreOwned(
                    f"{self._link.shown}: the pair is renewed by {told.split('|', 2)[-1]}; a command needs a daemon, there or here"
                )
            case "claimed":
                raise PairStoreOwned(f"{self._link.shown}: another instance has a newer pair and is about to take over")
            case "older":
                raise PairStoreOwned(
                    f"{self._link.shown}: holds an older pair (generation {generation}) than was seen before"
                    f" ({known.seen}); whoever has it is given time to bring it back"
                )
        with self._lock:
            self.fence, self.lost = int(told), ""
            self._value = f"{told}|{self._id}|{self._name}"
            self._until = asked + self._seconds * (1 - MARGIN_SHARE)
        self._older_since = None
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, args=(self._stop,), name="pair lease", daemon=True)
        self._heart.start()
        return int(generation)

    @property
    def proven(self) -> bool:
        """Whether nobody else can have the lease now, by the holder's own clock. No I/O."""
        return not self.lost and self._monotonic() < self._until

    def write(self, generation: int, fields: Mapping[str, bytes]) -> None:
        """Writes fields of the pair (an empty one is removed) and renews the lease. Raises PairStoreFailure where either is refused."""
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
        """One heartbeat. Raises PairStoreFailure where the store is away."""
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
        """Ends the lease, at once where the store can be reached, else when its time is up."""
        self._still()
        if self._value:
            with contextlib.suppress(PairStoreFailure):
                self._answer(GIVE_BACK, self._value)
        self._lose("it was given back")
        self._value = ""

    def _still(self) -> None:
        """Stops the heart."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        self._heart = None

    def _beat_on(self, stop: threading.Event) -> None:
        pause = self._seconds / BEATS
        while not stop.wait(pause) and not self.lost:
            if not self._pulse.beats:
                continue
            try:
                self.beat()
            except PairStoreFailure:
                pass  # `fault` has it
            except Exception as fault:  # a heart that stops would look like a store that is away for ever
                self.fault = f"{self._link.shown}: a fault inside passoproxy ({type(fault).__name__})"
        if not stop.is_set() and self._value:
            # whoever claims it need not wait for the end of its time
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
            answer = self._link.lua(script, self._names, *arguments)
        except PairStoreFailure as fault:
            self.fault = str(fault)
            raise
        self.fault = ""
        return [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in answer]

    @property
    def _ms(self) -> int:
        return int(self._seconds * 1000)
