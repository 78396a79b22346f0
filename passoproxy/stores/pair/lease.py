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
from pathlib import Path

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

SCRIPT = Path(__file__).with_name("lease.lua").read_text(encoding="utf-8")
"""Every step at the shared store, in one script; the first argument names the step."""


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
        word, told, generation = self._answer("take", *arguments)
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
        word, *_ = self._answer("write", self._value, str(self.fence), self._ms, generation, *pairs)
        if word != "written":
            self._lose("another instance took the pair over")
            raise PairStoreFailure(f"{self._link.shown}: {self.lost}; nothing was written")
        self._renewed(asked)

    def beat(self) -> None:
        """One heartbeat. Raises PairStoreFailure if the store is away."""
        asked = self._monotonic()
        word, *told = self._answer("keep", self._value, str(self.fence), self._ms, int(self.proven))
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
                self._answer("give_back", self._value)
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
                self._answer("give_back", self._value)

    def _renewed(self, asked: float) -> None:
        with self._lock:
            self._until = max(self._until, asked + self._seconds * (1 - MARGIN_SHARE))

    def _lose(self, why: str) -> None:
        with self._lock:
            self.lost, self._until = self.lost or why, 0.0

    def _answer(self, *arguments: str | bytes | int) -> list[str]:
        try:
            answer = self._link.lua(SCRIPT, self.names, *arguments)
        except PairStoreFailure as fault:
            self.fault = str(fault)
            raise
        self.fault = ""
        return [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in answer]
