"""One instance's part of `upstream.max_concurrency`, which is that of all instances of one store (docs/fleet.md).

A machine without a clock: it has its pool of places lend what the store gave, says when the store is to be asked and what, and takes in the
answer. Places are held for a lease. An instance keeps what it uses, and for a second what it used; what it keeps beyond its part it gives
back at once if others are short. If the store is away it waits until the leases of all have ended, and then uses its share.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from passoproxy.core.events import Warned
from passoproxy.ports import Observer
from passoproxy.proxy.places import Grants, PlacePool
from passoproxy.values import dataclass

LEASE_SECONDS = 4.0
"""What an instance that died held is free after this, and in use again a second later at most."""

OWN_SHARE = 0.8
"""Of the lease, counted from before the question: until then requests begin. Clocks run apart."""

TICK_SECONDS = 1.0
"""Between two questions of an instance that holds places, or waits for some."""

PRESENCE_SECONDS = 3.0
"""The same of an idle one: it counts as there."""

AGAIN_SECONDS = 0.5
"""Between two tries while the store is away."""


@dataclass(frozen=True, slots=True)
class Question:
    """What this instance holds at most from now on, what it could use, and how many instances were seen last.

    `word` is `new` if it was never answered, `alone` if it uses its share without the store's knowledge, `gone` at its end.
    """

    held: int
    wants: int
    limit: int
    instances: int
    word: str = ""


@dataclass(frozen=True, slots=True)
class Lent:
    """The store's answer: what the instance holds, what it should keep of it since others are short, how many instances there are."""

    held: int
    keep: int
    instances: int


class FleetPlaces:
    """`pool` are the instance's own places, `spread` carries out its grants; `renewed` hears until when what was lent may be used.
    `patience` is how long a request may wait for a place (seconds).

    Times are seconds of a clock that does not step.
    """

    def __init__(
        self,
        pool: PlacePool,
        spread: Callable[[Grants], None],
        limit: int,
        patience: float,
        observer: Observer,
        renewed: Callable[[float], None] = lambda until: None,
    ) -> None:
        self._pool, self._spread, self._observer, self._renewed = pool, spread, observer, renewed
        self.limit, self.patience = limit, patience
        self.instances = 1
        self.is_alone = False
        """Whether the store is away and the share is used."""
        self.until = -math.inf
        """When what was lent is not ours any more."""
        self._held = self._most = 0
        """What the store knows that we hold, and what the pool may lend: no more than that."""
        self._asked = self._peak = 0
        self._is_pressed = False
        self._away_since: float | None = None

    def shown(self) -> dict[str, object]:
        """Its state for `/api/status`."""
        return {"limit": self.limit, "held": self.held, "instances": self.instances, "alone": self.is_alone}

    @property
    def held(self) -> int:
        """How many may be under way at this instance."""
        return max(self._most, self._pool.held)

    @property
    def is_away(self) -> bool:
        """Whether the store did not answer when it was asked last."""
        return self._away_since is not None

    @property
    def is_busy(self) -> bool:
        """Whether it holds places, or wants some."""
        return self._held > 0 or self._wanted > 0

    @property
    def _wanted(self) -> int:
        return min(self.limit, self._pool.wanted)

    @property
    def _share(self) -> int:
        """Without an answer of the store ever, how many others there are is not known: then it is one."""
        return 1 if self.until == -math.inf else max(1, self.limit // self.instances)

    def look(self) -> bool:
        """After a change in the pool: whether the store is to be asked now."""
        wanted = self._wanted
        self._peak = max(self._peak, wanted)
        if self.is_away:
            return False
        # Once it is queued for one place, it is told of each that it gets.
        return self._asked <= self._held < wanted or (self._is_pressed and self.held < self._held)

    def question(self, now: float) -> Question:
        """What to ask; an answer has to be told to `answered` or `failed`."""
        self.pass_time(now)
        if not self.is_alone:
            if not self._is_pressed:
                self._lend(min(self._most, max(self._peak, self._wanted)))
            self._peak = self._wanted
        self._held, self._asked = self.held, self._wanted
        word = "alone" if self.is_alone else "new" if self.until == -math.inf else ""
        return Question(self._held, self._asked, self.limit, self.instances, word)

    def answered(self, lent: Lent, asked_at: float, now: float) -> None:
        """The answer to a question of `asked_at`."""
        if self.is_alone:
            said = "store.url is back: upstream.max_concurrency holds for all instances together again"
            self._observer(Warned("places_shared_out", said, over=True))
        self._away_since, self.is_alone = None, False
        self._held, self.instances = lent.held, max(1, lent.instances)
        self.until = asked_at + LEASE_SECONDS * OWN_SHARE
        self._is_pressed = lent.keep < lent.held
        self._renewed(self.until)
        if now >= self.until:  # it slept meanwhile
            self.pass_time(now)
            return
        self._lend(lent.held)
        self._lend(lent.keep)  # what was begun with goes on; the next one is another instance's

    def failed(self, now: float) -> None:
        """The store did not answer."""
        if self._away_since is None:
            self._away_since = now
        self.pass_time(now)

    def pass_time(self, now: float) -> None:
        """Takes in that it is later."""
        if self.is_alone:
            self._lend(self._share)
            return
        is_over = now >= self.until
        if is_over and self._most:
            self._lend(0)
        if self._away_since is not None and now >= self._alone_at and (is_over or self._most <= self._share):
            self.is_alone, self._is_pressed = True, False
            seen = "it never answered" if self.until == -math.inf else f"{self.instances} instances were seen last"
            text = (
                f"store.url is away: this instance keeps to {self._share} of {self.limit} requests at once at the origin "
                f"(upstream.max_concurrency; {seen})"
            )
            self._observer(Warned("places_shared_out", text))
            self._renewed(math.inf)
            self._lend(self._share)

    @property
    def _alone_at(self) -> float:
        """By then no other instance uses what it was lent before the store was gone, as far as a request can wait for that."""
        assert self._away_since is not None
        return self._away_since + min(LEASE_SECONDS, self.patience / 2)

    def due_in(self) -> float:
        """Seconds until the store is to be asked again, if nothing happens and it is not away."""
        return TICK_SECONDS if self.is_busy or self._asked else PRESENCE_SECONDS

    def _lend(self, most: int) -> None:
        if most != self._most:
            self._most = most
            self._spread(self._pool.set_most(most))
