"""Soft purges: moments after which what was asked for before is stale, though it may still serve as such (contract §7).

Nothing stored is rewritten. A soft purge is a selector with a moment, and the terms of an entry are cut where one counts against it; so a
million entries go stale at the cost of one. Stores keep them; `control` asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.values import dataclass

MOST_KEPT = 1000
"""Beyond it the older half becomes one that means everything: what was purged stays so, and some more has to be validated."""


@dataclass(frozen=True, slots=True)
class SoftPurge:
    """Whatever `selector` means and was asked for at or before `at` (epoch seconds) is not fresh any more, from then on.

    What was asked for up to `leeway` seconds later is meant too, where other clocks than the one that told `at` say when that was.
    """

    selector: Selector
    at: float
    leeway: float = 0.0


class SoftPurges:
    """The soft purges that are in force, the oldest first. Immutable."""

    __slots__ = ("_by_name", "_of_all", "_prefixed", "_prefixes", "kept")

    def __init__(self, kept: Iterable[SoftPurge] = ()) -> None:
        self.kept = tuple(sorted(kept, key=lambda purge: purge.at))
        self._of_all: list[SoftPurge] = []
        self._prefixed: list[SoftPurge] = []
        self._by_name: dict[tuple[str, str], list[SoftPurge]] = {}
        for purge in self.kept:
            self._file(purge)
        self._prefixes = tuple({_start(purge.selector) for purge in self._prefixed})

    def __bool__(self) -> bool:
        return bool(self.kept)

    def having(self, purge: SoftPurge, most: int = MOST_KEPT) -> SoftPurges:
        """These and one more, at most `most` of them."""
        kept = (*self.kept, purge)
        if len(kept) > most:
            old, kept = kept[: len(kept) // 2], kept[len(kept) // 2 :]
            leeway = max(each.leeway for each in old)
            kept = (SoftPurge(Selector(), max(each.at for each in old), leeway), *kept)
        return SoftPurges(kept)

    def ended(self, entry: Entry) -> float | None:
        """When the freshness of `entry` was ended: by the first soft purge that it was not asked for after. None where by none."""
        found = [purge.at for purge in self._meant(entry) if entry.request_time <= purge.at + purge.leeway]
        return min(found) if found else None

    def _meant(self, entry: Entry) -> Iterable[SoftPurge]:
        yield from self._of_all
        named = (
            ("key", entry.key),
            ("target", entry.target),
            ("route", entry.route),
            *(("tag", t) for t in entry.tags),
        )
        for name in named:
            for purge in self._by_name.get(name, ()):
                if purge.selector.matches(entry):
                    yield purge
        if entry.target.startswith(self._prefixes):
            yield from (purge for purge in self._prefixed if purge.selector.matches(entry))

    def _file(self, purge: SoftPurge) -> None:
        selector = purge.selector
        for kind in ("key", "target", "route", "tag"):
            if (text := getattr(selector, kind)) is not None:
                self._by_name.setdefault((kind, text), []).append(purge)
                return
        if selector == Selector():
            self._of_all.append(purge)
        else:
            self._prefixed.append(purge)


def _start(selector: Selector) -> str:
    # A selector of a partition alone begins with nothing, and so with everything.
    return (selector.prefix or "").removesuffix("*")
