"""What this process knows of a cache that it shares by Redis, without asking: the epoch, the purges in force, and what others changed.

It is brought up to date by the stream of changes (`redis_listening`), and by every answer that shows that something is not yet known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purges import SoftPurges
from passoproxy.stores.entries.shared_page import ANYTHING, PURGED, SOFTENED

SLOTS = 512
NO_SOFT_PURGES = SoftPurges()


@dataclass(frozen=True, slots=True)
class Known:
    """How the shared cache is, as of one moment. `undone` are the purges in force that are not carried out, with their numbers; `soft` the
    soft purges, which have changed `softs` times.
    """

    epoch: str
    purges: int
    undone: tuple[tuple[int, Selector], ...] = ()
    softs: int = 0
    soft: SoftPurges = NO_SOFT_PURGES

    def is_as(self, epoch: str, purges: int, undone: Sequence[int], softs: int) -> bool:
        """Whether nothing is new in these."""
        numbers = [number for number, _ in self.undone]
        return (self.epoch, self.purges, self.softs) == (epoch, purges, softs) and numbers == list(undone)

    def is_before(self, other: Known) -> bool:
        """Whether this is an earlier state of the same epoch."""
        return self.epoch == other.epoch and (self.purges, self.softs) < (other.purges, other.softs)

    def is_purged(self, entry: Entry, stamp: int) -> bool:
        """Whether an entry that was stored after purge number `stamp` is gone, although it lies there still."""
        return any(stamp < number and selector.matches(entry) for number, selector in self.undone)


class View:
    """Numbers that grow, as `slow.SlowStore` tells them, and the last `SLOTS` marks of others."""

    def __init__(self) -> None:
        self.known: Known | None = None
        self._may_go_back = False
        self.generation = 0
        self.events = 0
        self.purges = 0
        self._marks: list[int] = [ANYTHING] * SLOTS

    def learn(self, known: Known) -> None:
        """How it is now. Another epoch means that anything may have changed."""
        before = self.known
        if before is not None and not self._may_go_back and known.is_before(before):
            return  # an answer that a later one has overtaken
        self.known, self._may_go_back = known, False
        if known.soft is not (NO_SOFT_PURGES if before is None else before.soft):
            self.hear([SOFTENED])
        if before is None:
            return
        if before.epoch != known.epoch:
            self.hear([ANYTHING, PURGED])
        if (before.epoch, before.purges) != (known.epoch, known.purges):
            self.purges += 1

    def set_back(self) -> None:
        """The store came back older than it was: what it says next counts, whatever was known."""
        self._may_go_back = True

    def hear(self, marks: Sequence[int], *, changed: bool = True) -> None:
        """Others have changed what these marks stand for."""
        for mark in marks:
            self.events += 1
            self._marks[self.events % SLOTS] = mark
        self.generation += changed

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """See `slow.SlowStore`."""
        if self.events - seen >= SLOTS:
            return self.events, None
        marks = [self._marks[at % SLOTS] for at in range(seen + 1, self.events + 1)]
        return self.events, None if ANYTHING in marks else marks
