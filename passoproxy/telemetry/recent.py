"""Events as plain data and back, for what goes from one process to another.

What happened lately, for the status page and `/api/status`: the last requests and errors, rates, and how the origin does.

Redacted when it is shown; kept in memory, bounded, and gone with the process.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, get_args

from passoproxy.core.events import Event, OriginAnswered, OriginFailed, RequestAnswered, RequestRejected, Warned
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.messages import fields_of, line_of, message_of

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def plain(event: Event) -> tuple[str, dict[str, Any]]:
    """The event's name and its members."""
    return type(event).__name__, asdict(event)


def event_of(name: str, members: dict[str, Any]) -> Event:
    """The reverse. Raises KeyError or TypeError for what is none."""
    return _KINDS[name](**members)


_SECONDS = 60
"""The window of rates, and the number of points in `per_second_lately`."""
_SLICE = 10.0
_SLICES = 30
"""What was heard of the origin is counted for so many slices of so many seconds: five minutes."""
_LEAST_OUTCOMES = 10
"""Of fewer nobody can say that the origin fails (contract §5)."""
_LOUD = frozenset(("warning", "error"))
_MOST_WARNINGS = 100

Lately = dict[str, Any]
"""What a process remembers, as plain data."""


class Recent:
    """An observer that remembers the last `keep` requests and errors."""

    def __init__(self, redactor: Redactor, *, keep: int = 50, wall: Callable[[], float] = time.time) -> None:
        self.redactor = redactor
        self._wall = wall
        self._requests: deque[tuple[float, RequestAnswered]] = deque(maxlen=keep)
        self._errors: deque[tuple[float, Event]] = deque(maxlen=keep)
        self._warnings: dict[tuple[str, str], tuple[float, Warned]] = {}
        self._by_cache: Counter[str] = Counter()
        self._broken = self._refused = 0
        self._rate = _Rate()
        self._origin = _Origin()

    def __call__(self, event: Event) -> None:
        now = self._wall()
        if type(event) is RequestAnswered:
            self._requests.append((now, event))
            self._by_cache[event.cache] += 1
            self._rate.count(int(now))
            self._broken += event.outcome == "broken"
            return
        if type(event) is OriginAnswered or type(event) is OriginFailed:
            self._origin.tell(now, event)
        elif type(event) is RequestRejected:
            self._refused += 1
        elif type(event) is Warned:
            self._warn(now, event)
        if line_of(event).level in _LOUD and type(event) is not Warned:
            self._errors.append((now, event))

    def taken(self) -> Lately:
        """What was remembered since the last time, as plain data for another process's `add`; it is forgotten here."""
        taken: Lately = {
            "requests": [[at, asdict(event)] for at, event in self._requests],
            "errors": [[at, *plain(event)] for at, event in self._errors],
            "warnings": [[at, asdict(told)] for at, told in self._warnings.values()],
            "by_cache": dict(self._by_cache),
            "broken": self._broken,
            "refused": self._refused,
            "rate": self._rate.taken(int(self._wall())),
            "origin": self._origin.taken(),
        }
        self._requests.clear()
        self._errors.clear()
        self._warnings.clear()
        self._by_cache.clear()
        self._broken = self._refused = 0
        return taken

    def add(self, taken: Lately) -> None:
        """Remembers what another process remembered, as if it had happened here."""
        self._requests.extend((at, RequestAnswered(**event)) for at, event in taken["requests"])
        self._errors.extend((at, event_of(name, members)) for at, name, members in taken["errors"])
        for at, told in taken["warnings"]:
            warned = Warned(**told)
            known = self._warnings.get((warned.code, warned.about))
            if known is None or known[0] < at:
                self._warn(at, warned)
        self._by_cache.update(taken["by_cache"])
        self._broken += taken["broken"]
        self._refused += taken["refused"]
        self._rate.add(taken["rate"])
        self._origin.add(taken["origin"])

    def _warn(self, at: float, told: Warned) -> None:
        name = (told.code, told.about)
        if name in self._warnings or len(self._warnings) < _MOST_WARNINGS:
            self._warnings[name] = (at, told)

    def summary(self) -> dict[str, object]:
        """`requests`, `recent_errors` and `warnings` as `/api/status` shows them; the newest first, moments in epoch seconds."""
        return {
            "requests": self._traffic(),
            "recent_errors": [self._error(at, event) for at, event in reversed(self._errors)],
            "warnings": [
                {"code": self.redactor.text(told.code), "detail": self.redactor.text(told.detail), "at": at}
                for at, told in self._warnings.values()
                if not told.over
            ],
        }

    def origin(self) -> dict[str, object]:
        """`origin` of `/api/status`, as far as it was heard of."""
        return self._origin.shown(self.redactor, self._wall())

    def warned(self, code: str) -> str:
        """The words of a warning that stands; '' where none of this code does."""
        stands = (told for _, told in self._warnings.values() if told.code == code and not told.over)
        return next((self.redactor.text(told.detail) for told in stands), "")

    def _traffic(self) -> dict[str, object]:
        total = sum(self._by_cache.values())
        cached = self._by_cache["hit"] + self._by_cache["stale"]
        lately = self._rate.lately(int(self._wall()))
        asked = cached + self._by_cache["miss"]
        return {
            "total": total,
            "by_cache": {word: self._by_cache[word] for word in ("hit", "stale", "miss", "pass", "error")},
            "hit_ratio": cached / asked if asked else None,
            "per_second": sum(lately[-10:]) / 10,
            "per_minute": sum(lately),
            "per_second_lately": lately,
            "broken": self._broken,
            "refused": self._refused,
            "recent": [self._request(at, event) for at, event in reversed(self._requests)],
        }

    def _request(self, at: float, event: RequestAnswered) -> dict[str, object]:
        say = self.redactor.text
        return {
            "at": at,
            "client": say(event.client),
            "method": say(event.method)[:32],
            "target": self.redactor.target(event.target),
            "status": event.status,
            "route": say(event.route),
            "cache": say(event.cache),
            "duration_seconds": event.duration,
            "outcome": say(event.outcome),
            "code": say(event.code),
        }

    def _error(self, at: float, event: Event) -> dict[str, object]:
        line, fields = line_of(event), fields_of(event)
        return {
            "at": at,
            "level": line.level,
            "what": self.redactor.text(message_of(line, fields)),
            "target": self.redactor.target(str(fields.get("target", ""))),
        }


class _Rate:
    """Requests in each of the last seconds."""

    def __init__(self) -> None:
        self._counts = [0] * _SECONDS
        self._second = 0

    def count(self, second: int) -> None:
        if second != self._second:
            self._move(second)
        self._counts[second % _SECONDS] += 1

    def taken(self, second: int) -> list[tuple[int, int]]:
        """Seconds of the last minute with their counts, which begin anew."""
        self._move(second)
        seconds = range(second - _SECONDS + 1, second + 1)
        taken = [(each, self._counts[each % _SECONDS]) for each in seconds if self._counts[each % _SECONDS]]
        self._counts = [0] * _SECONDS
        return taken

    def add(self, taken: Iterable[tuple[int, int]]) -> None:
        """Those of another process, whose seconds may lie a little behind ours."""
        for second, count in taken:
            if second > self._second:
                self._move(second)
            if second > self._second - _SECONDS:
                self._counts[second % _SECONDS] += count

    def lately(self, second: int) -> list[int]:
        """The last minute, the oldest second first; the present one, which is not over, is not in it."""
        self._move(second)
        return [self._counts[(second + step) % _SECONDS] for step in range(1, _SECONDS)]

    def _move(self, second: int) -> None:
        gone = second - self._second
        if not gone:
            return
        # A clock that stepped back, or a minute of silence, begins anew.
        for step in range(1, _SECONDS + 1) if not 0 < gone <= _SECONDS else range(1, gone + 1):
            self._counts[(self._second + step) % _SECONDS] = 0
        self._second = second


class _Origin:
    """What the last minutes say of the origin: `silent` where it was not asked or never answered, `answering`, or `failing`."""

    def __init__(self) -> None:
        self._answers = self._failures = self._failures_in_a_row = 0
        self._last: tuple[float, OriginAnswered] | None = None
        self._last_failure: tuple[float, str] | None = None
        self._lately: dict[int, tuple[int, int, int]] = {}
        """By the number of a slice of time: outcomes, heads among them, and troubles."""

    def tell(self, now: float, event: OriginAnswered | OriginFailed) -> None:
        if isinstance(event, OriginAnswered):
            self._answers += 1
            self._last = (now, event)
            trouble = f"answered {event.status}" if event.status >= 500 else ""
        else:
            trouble = event.detail or event.code
        if trouble:
            self._failures += 1
            self._failures_in_a_row += 1
            self._last_failure = (now, trouble)
        else:
            self._failures_in_a_row = 0
        self._count(int(now // _SLICE), (1, int(isinstance(event, OriginAnswered)), int(bool(trouble))))

    def taken(self) -> Lately | None:
        """What was told since the last time; None where nothing was."""
        if not self._answers and not self._failures:
            return None
        taken: Lately = {
            "answers": self._answers,
            "failures": self._failures,
            "failures_in_a_row": self._failures_in_a_row,
            "last": self._last and (self._last[0], asdict(self._last[1])),
            "last_failure": self._last_failure,
            "lately": list(self._lately.items()),
        }
        self._answers = self._failures = 0
        self._lately.clear()
        return taken

    def add(self, taken: Lately | None) -> None:
        """What another process was told."""
        if taken is None:
            return
        self._answers += taken["answers"]
        self._failures += taken["failures"]
        self._failures_in_a_row = taken["failures_in_a_row"]
        if taken["last"] is not None:
            self._last = (taken["last"][0], OriginAnswered(**taken["last"][1]))
        if taken["last_failure"] is not None:
            self._last_failure = (taken["last_failure"][0], taken["last_failure"][1])
        for slice, counts in taken["lately"]:
            self._count(slice, counts)

    def _count(self, slice: int, counts: tuple[int, int, int]) -> None:
        before = self._lately.pop(slice, (0, 0, 0))
        self._lately[slice] = (before[0] + counts[0], before[1] + counts[1], before[2] + counts[2])
        if len(self._lately) > 2 * _SLICES:  # a clock that stepped back leaves some that are ahead
            del self._lately[next(iter(self._lately))]

    def state(self, now: float) -> str:
        last = int(now // _SLICE) + 1  # clocks of processes are read at different moments
        counts = [each for slice, each in self._lately.items() if last - _SLICES < slice <= last]
        outcomes, heads, troubles = (sum(column) for column in zip((0, 0, 0), *counts, strict=True))
        if not outcomes:
            return "silent"
        is_failing = outcomes >= _LEAST_OUTCOMES and 2 * troubles >= outcomes
        return "failing" if is_failing or not heads else "answering"

    def shown(self, redactor: Redactor, now: float) -> dict[str, object]:
        at, answer = self._last or (None, None)
        failed_at, failure = self._last_failure or (None, "")
        return {
            "state": self.state(now),
            "answers": self._answers,
            "failures": self._failures,
            "failures_in_a_row": self._failures_in_a_row,
            "last_answer_at": at,
            "last_status": answer.status if answer else None,
            "last_duration_seconds": answer.duration if answer else None,
            "last_failure_at": failed_at,
            "last_failure": redactor.text(failure),
        }
