"""Warnings before the pair dies: how loud they are, when each is told, and by when a person is needed.

Levels go by what is left of the shorter lifetime (contract §3, `alerts.runway`), never by counting failures. Whom they reach, and how, is
the business of `telemetry.alerts`.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, IntEnum

from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.units import duration, moment
from passoproxy.values import dataclass


class Level(IntEnum):
    """How loud a warning is. `word` is what people and hooks read."""

    NONE = 0
    LOG = 1
    NOTIFY = 2
    PAGE = 3

    @property
    def word(self) -> str:
        """The configuration's word for it."""
        return self.name.lower()


MOST_LEFT = {Level.LOG: 72 * 3600.0, Level.NOTIFY: 48 * 3600.0, Level.PAGE: 24 * 3600.0}
"""No level begins earlier than with so many seconds left: a pair that lives a year must not warn for half of it."""

LONGEST_GRACE = 5.0
GRACE_SHARE = 0.05
"""A renewal that is due, after a start or a suspend, has so many seconds, or this share of the lifetime, before a person is told."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The share of the shorter lifetime that is left when each level begins."""

    log: float = 0.55
    notify: float = 0.5
    page: float = 0.35

    def limits(self, lifetime: float) -> tuple[tuple[Level, float], ...]:
        """Each level with the seconds left at which it begins, the loudest first."""
        shares = ((Level.PAGE, self.page), (Level.NOTIFY, self.notify), (Level.LOG, self.log))
        return tuple((level, min(share * lifetime, MOST_LEFT[level])) for level, share in shares)


class Kind(Enum):
    """Why something is told."""

    RAISED = "raised"
    REPEATED = "repeated"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Telling:
    """What is to be told now. `level` is NONE on recovery."""

    kind: Kind
    level: Level


@dataclass(frozen=True, slots=True)
class Watch:
    """What was seen and told so far. `worst` is the loudest level told since the last recovery, `since` when the first one was told after it, in
    epoch seconds; other moments are steady seconds."""

    level: Level = Level.NONE
    worst: Level = Level.NONE
    told_at: float = 0.0
    since: float = 0.0
    overdue_since: float | None = None


@dataclass(frozen=True, slots=True)
class Alarmed:
    """What outlives a process of a Watch: the loudest level told since the last recovery, when it was told last, and `since` (epoch seconds)."""

    level: Level
    at: float
    since: float


@dataclass(frozen=True, slots=True)
class Look:
    """What one look came to. `again_in` is when time alone may change it, in seconds; None for never."""

    watch: Watch
    telling: Telling | None = None
    again_in: float | None = None


def remaining(shown: TokenSnapshot) -> tuple[float, float] | None:
    """Seconds left of the shorter lifetime, and that lifetime; None if none is known."""
    ends = [] if shown.access_until is None else [shown.access_until]
    if shown.runway_seconds is not None and shown.chain in ("healthy", "retrying"):
        ends.append(shown.as_of + shown.runway_seconds)
    if not ends or shown.obtained_at is None:
        return None
    return max(0.0, min(ends) - shown.as_of), min(ends) - shown.obtained_at


def level_of(shown: TokenSnapshot, thresholds: Thresholds) -> Level | None:
    """The level that the pair is at; None if there is nothing to warn of: a static token, or no pair that could die."""
    if shown.grant == "static":
        return None
    if shown.chain == "dead":
        return Level.PAGE
    if shown.access == "none":
        # without an error this is before the first login, or after a logout: no news to the person who did it
        return Level.PAGE if shown.last_error and shown.grant == "authorization_code" else None
    if (rest := remaining(shown)) is None:
        return Level.NONE
    left, lifetime = rest
    return next((level for level, limit in thresholds.limits(lifetime) if left <= limit), Level.NONE)


def deadline(shown: TokenSnapshot) -> float | None:
    """By when a person is needed, in epoch seconds: the end of the runway, or of what a dead pair still serves. None if it is not known."""
    if shown.runway_seconds is None:
        return None
    return shown.as_of + shown.runway_seconds if shown.runway_seconds > 0 else shown.access_until


def outlook(shown: TokenSnapshot, level: Level) -> str:
    """The runway and the level in a person's words, the same wherever they are shown."""
    if shown.runway_seconds is not None:
        said = f"runway {duration(shown.runway_seconds)}"
    else:
        said = "runway unknown" if shown.grant == "authorization_code" else "no person needed"
    if not level:
        return said
    by = deadline(shown)
    return f"{said}, alert {level.word}" + (f", a person is needed by {spoken(by)}" if by is not None else "")


def spoken(at: float) -> str:
    """A moment for people and hooks, ISO 8601 in UTC; '' for one that no calendar holds."""
    try:
        return moment(at)
    except (OverflowError, ValueError, OSError):
        return ""


def looked(watch: Watch, shown: TokenSnapshot, thresholds: Thresholds, repeat: float, now: float) -> Look:
    """One look at the pair. `repeat` is `alerts.repeat`, `now` steady seconds."""
    level = level_of(shown, thresholds)
    if level is None:
        return Look(replace(watch, level=Level.NONE, overdue_since=None))  # what was told stands until a pair is safe
    wait, overdue = _patience(watch, shown, level, now)
    if wait is not None:
        # in health what is left says nothing until a renewal is overdue; in its grace the alarm stays as it is
        level = Level.NONE if overdue is None else watch.level
    seen = replace(watch, level=level, overdue_since=overdue)
    telling = _telling(seen, repeat, now)
    if telling is not None:
        since = seen.since if seen.worst else shown.as_of
        seen = replace(seen, worst=max(seen.worst, level) if level else level, told_at=now, since=since)
    waits = [wait, _until_louder(shown, thresholds, level), seen.told_at + repeat - now if seen.worst else None]
    return Look(seen, telling, min((each for each in waits if each is not None), default=None))


def alarmed(watch: Watch, now: float, wall: float) -> Alarmed | None:
    """What is to be remembered of `watch`; None if nothing was told since the last recovery. `now` is steady, `wall` epoch seconds."""
    return Alarmed(watch.worst, wall - (now - watch.told_at), watch.since) if watch.worst else None


def resumed(watch: Watch, before: Alarmed | None, now: float, wall: float) -> Watch:
    """`watch` of one who goes on where another one, or an earlier process, was: what was told is not told again before its time."""
    if before is None:
        return watch
    # a moment in the future is from before the clock was set back: when it was is not known
    told_at = now - max(0.0, wall - before.at)
    return replace(watch, level=before.level, worst=before.level, told_at=told_at, since=before.since)


def _patience(watch: Watch, shown: TokenSnapshot, level: Level, now: float) -> tuple[float | None, float | None]:
    """For how long a low runway is no reason to warn, and since when the renewal is overdue."""
    if shown.chain != "healthy" or not level or (rest := remaining(shown)) is None:
        return None, None
    if shown.next_refresh_at is not None and shown.as_of < shown.next_refresh_at:
        return shown.next_refresh_at - shown.as_of, None
    since = now if watch.overdue_since is None else watch.overdue_since
    left = since + min(LONGEST_GRACE, GRACE_SHARE * rest[1]) - now
    return (left if left > 0 else None), since


def _telling(seen: Watch, repeat: float, now: float) -> Telling | None:
    if seen.level > seen.worst:
        return Telling(Kind.RAISED, seen.level)
    if not seen.level:
        return Telling(Kind.RECOVERED, seen.level) if seen.worst else None
    return Telling(Kind.REPEATED, seen.level) if now - seen.told_at >= repeat else None


def _until_louder(shown: TokenSnapshot, thresholds: Thresholds, level: Level) -> float | None:
    if shown.chain == "dead" or (rest := remaining(shown)) is None:
        return None
    left, lifetime = rest
    return min(
        (left - limit for each, limit in thresholds.limits(lifetime) if each > level and left > limit), default=None
    )
