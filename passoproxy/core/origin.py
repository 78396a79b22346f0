"""What the origin's answers, and their absence, say of it: whether it is away, wants a pause, or may be asked as usual (contract §5).

    answering ──three failed connections in a row, or no head on two paths in a row──▶ away ──a head──▶ answering
    a path: answering ──no head on it three times in a row──▶ away ──a head on it──▶ answering
    answering ──429──▶ paused ──its time is up──▶ reopening ──an answer that is no 429 and no 5xx──▶ answering

A machine without a clock: `now` is in seconds of a clock that does not step. What is told to it are values, so that processes that share the
origin can tell one another. Who waits meanwhile, and for how long, is the business of `proxy.limiter`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, assert_never

from passoproxy.values import dataclass

MOST_FAILED_CONNECTIONS = 3
MOST_SILENT_PATHS = 2
MOST_SILENCES = 3
"""A path is away after so many requests in a row that got no head."""

ASK_EVERY = 1.0
"""Seconds between two requests that ask whether it is still away."""

LONGEST_PAUSE = 60.0
MOST_DOUBLINGS = 16
"""Of a pause whose length the origin does not say."""

LONGEST_RETRY_AFTER = 86400.0
"""A longer pause that it asks for counts as one of so many seconds."""

MOST_PATHS = 1000
"""Paths that are counted; of more, the one that was silent longest ago is forgotten."""


_NOW = float("inf")
"""For `began`: later than all that is known, as where another process judged it already."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request got no head: `code` and `detail` are those of its refusal. `path` is None where no connection stood."""

    path: str | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A head came on `path`, to a request that was sent at `began`. `is_well`: it is no 429 and no 5xx."""

    path: str
    is_well: bool = True
    began: float = _NOW


@dataclass(frozen=True, slots=True)
class Refused:
    """A 429 came to a request that was sent at `began`; `seconds` is the pause that the origin asked for, None where it said nothing."""

    seconds: float | None
    began: float = _NOW


@dataclass(frozen=True, slots=True)
class QuotaTold:
    """Less than a tenth of a quota is left, for so many seconds; 0: more is."""

    seconds: float


@dataclass(frozen=True, slots=True)
class BudgetSpent:
    """`upstream.daily_budget` is used up for so many seconds; 0: it is not."""

    seconds: float


Told = Failed | Answered | Refused | QuotaTold | BudgetSpent


def in_words(state: str, *, asked: bool) -> str:
    """A state of the origin, as `/api/status` names it, for people; `asked`: it was asked at all since the start."""
    unknown = "not asked lately" if asked else "not asked yet"
    return {"silent": unknown, "cooling_down": "cooling down"}.get(state, state)


def document_of(told: Told) -> dict[str, Any]:
    """Plain data for another process."""
    return {"what": type(told).__name__, **{name: value for name, value in asdict(told).items() if name != "began"}}


def told_of(document: Mapping[str, Any]) -> Told:
    """The reverse. Raises KeyError or TypeError for what is none."""
    members = dict(document)
    kinds = {kind.__name__: kind for kind in (Failed, Answered, Refused, QuotaTold, BudgetSpent)}
    return kinds[members.pop("what")](**members)


@dataclass(slots=True)
class _Silence:
    """A path's requests without a head, in a row."""

    count: int
    last: Failed
    at: float


class Health:
    """The machine. `first_pause` is that after a 429 which does not say how long, doubled by each that follows."""

    def __init__(self, first_pause: float = 1.0) -> None:
        self._first_pause = first_pause
        self._unconnected = 0
        self._silent: set[str] = set()
        self._away: Failed | None = None
        self._asked_at = float("-inf")
        self._paths: dict[str, _Silence] = {}
        self._away_paths: set[str] = set()
        """Those of `_paths` that are away alone."""
        self._until = self._refused_at = self._rests_until = self._budget_until = float("-inf")
        self._refusals = 0
        self.is_calm = True
        """Whether it may be asked for everything, as always."""
        self.is_blank = True
        """Whether nothing is counted that an ordinary answer would change."""

    # ---- what is so ----------------------------------------------------------------------------------------------------

    def pause_left(self, now: float) -> float:
        """Seconds until the pause ends that it asked for; 0 or less where none is."""
        return self._until - now

    def away(self, path: str) -> Failed | None:
        """The last failure, where the origin is away, or `path` alone is; None where it may be asked for."""
        if self._away is not None:
            return self._away
        return self._paths[path].last if path in self._away_paths else None

    @property
    def away_because(self) -> str:
        """Why the whole origin is taken for away; '' where it is not."""
        return "" if self._away is None else self._away.detail

    @property
    def away_paths(self) -> dict[str, str]:
        """The paths that alone are away, each with why."""
        return {path: self._paths[path].last.detail for path in self._away_paths}

    @property
    def is_cooling(self) -> bool:
        """Whether it has not answered well since it asked for a pause."""
        return self._refusals > 0

    @property
    def goes_one_at_a_time(self) -> bool:
        """Whether requests begin one at a time: it is away, or has not answered well since its last 429."""
        return self._away is not None or self._refusals > 0

    def due_in(self, path: str, now: float) -> float:
        """Seconds until a request for `path` may be sent, as far as this machine knows; 0 or less for now."""
        since = self._asked_at if self._away is not None else float("-inf")
        if path in self._away_paths:
            since = max(since, self._paths[path].at)
        return max(since + ASK_EVERY - now, self.pause_left(now))

    def background_rests(self, now: float) -> float:
        """Seconds for which background work rests, because of a pause or a low quota; 0 or less where it may go on."""
        return max(self.pause_left(now), self._rests_until - now)

    def budget_rests(self, now: float) -> float:
        """Seconds for which background work rests because the daily budget is used up; 0 or less where it may go on."""
        return self._budget_until - now

    # ---- what happens --------------------------------------------------------------------------------------------------

    def asks(self, path: str, now: float) -> None:
        """A request asks whether an origin, or a path, that is away is still so."""
        self._asked_at = now
        if path in self._paths:
            self._paths[path].at = now

    def hear(self, told: Told, now: float) -> Told | None:
        """Takes in what happened; what processes that share the origin have to know of it, None for nothing."""
        for_others = self._heard(told, now)
        self.is_calm = not (self._away or self._away_paths or self._refusals)
        self.is_blank = self.is_calm and not (self._paths or self._unconnected)
        return for_others

    def _heard(self, told: Told, now: float) -> Told | None:
        match told:
            case Failed():
                self._failed(told, now)
                return told
            case Answered():
                return replace(told, began=_NOW) if self._answered(told) else None
            case Refused():
                return Refused(self.pause_left(now)) if self._refused(told, now) else None
            case QuotaTold(seconds):
                rested, self._rests_until = self._rests_until > now, now + seconds
                return told if rested or seconds > 0 else None
            case BudgetSpent(seconds):
                self._budget_until = now + seconds
                return told
            case _:
                assert_never(told)

    def story(self, now: float) -> Iterator[Told]:
        """What brings a new machine to where this one is, as far as that matters."""
        for silence in self._paths.values():
            yield from [silence.last] * min(silence.count, MOST_SILENCES)
            yield Answered("")  # so that two silent paths do not count as the whole origin
        if self._away is not None:
            yield from [Failed(None, self._away.code, self._away.detail)] * MOST_FAILED_CONNECTIONS
        if self._refusals:
            yield Refused(max(0.0, self.pause_left(now)))
        if self._rests_until > now:
            yield QuotaTold(self._rests_until - now)
        if self._budget_until > now:
            yield BudgetSpent(self._budget_until - now)

    def _failed(self, told: Failed, now: float) -> None:
        if told.path is None:
            self._unconnected += 1
        else:
            if len(self._silent) < MOST_SILENT_PATHS:
                self._silent.add(told.path)
            before = self._paths.pop(told.path, None)
            self._paths[told.path] = _Silence(before.count + 1 if before else 1, told, now)
            if self._paths[told.path].count >= MOST_SILENCES:
                self._away_paths.add(told.path)
            if len(self._paths) > MOST_PATHS:
                self._forget(next(iter(self._paths)))
        if self._unconnected >= MOST_FAILED_CONNECTIONS or len(self._silent) >= MOST_SILENT_PATHS:
            self._away, self._asked_at = told, now

    def _forget(self, path: str) -> None:
        self._paths.pop(path, None)
        self._away_paths.discard(path)

    def _answered(self, told: Answered) -> bool:
        if self.is_blank:
            return False
        # What was under way when the pause began says nothing of what may follow it.
        reopens = told.is_well and self._refusals > 0 and told.began > self._refused_at
        matters = bool(reopens or self._unconnected or self._silent or told.path in self._paths)
        self._unconnected, self._away = 0, None
        self._silent.clear()
        self._forget(told.path)
        if reopens:
            self._refusals = 0
        return matters

    def _refused(self, told: Refused, now: float) -> bool:
        # One that was under way when the pause began is the same refusal: it may make the pause longer, and does not count.
        is_new, seconds = told.began > self._refused_at, told.seconds
        if seconds is None:
            if not is_new:
                return False
            seconds = min(self._first_pause * 2.0 ** min(self._refusals, MOST_DOUBLINGS), LONGEST_PAUSE)
        self._refusals += is_new
        self._refused_at = now
        self._until = max(self._until, now + seconds)
        return True
