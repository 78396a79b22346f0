"""What happened lately, for the status page and `/api/status`: the last requests and errors, warnings that stand, rates, the origin's state.

In memory, bounded, redacted when it is shown. A worker's is `taken` as plain data and added to that of the parent process.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, get_args

from passoproxy.core.events import (
    Answered,
    Event,
    OriginAnswered,
    OriginFailed,
    RefreshFailed,
    RequestAnswered,
    RequestRejected,
    TokenRefreshed,
    Warned,
)
from passoproxy.core.events import event_of as answered_event
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.logs import remembering
from passoproxy.telemetry.messages import fields_of, line_of, message_of

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
_WORDS: Final = ("hit", "stale", "miss", "pass", "error")
_SECONDS = 10
"""The window of `per_second`."""
_SLICE = 10.0
_SLICES = 30
"""The origin's outcomes are counted in so many slices of so many seconds: five minutes."""
_LEAST_OUTCOMES = 10
"""With fewer outcomes the origin is not called failing (contract §5)."""
_LOUD = frozenset(("warning", "error"))
_MOST_WARNINGS = 100
_MOST_SHOWN = 160
"""Characters of a text that are shown: masking costs the loop half a microsecond each."""
_MOST_KINDS = 25
"""Of errors; and so many refreshes are remembered."""

Lately = dict[str, Any]
"""What a process remembers, as plain data."""


def plain(event: Event) -> tuple[str, dict[str, Any]]:
    """The event's name and its members, as plain data for another process."""
    return type(event).__name__, asdict(event)


def event_of(name: str, members: dict[str, Any]) -> Event:
    """The reverse. Raises KeyError or TypeError if it is no event."""
    return _KINDS[name](**members)


def _name(made: str, place: int) -> str:
    return made[32 * place : 32 * place + 32]


@dataclass(slots=True)
class _Errors:
    """Errors of one kind, with one sentence: the moments of the first and the last, how many, and the last one."""

    first: float
    last: float
    count: int
    event: Event


class Recent:
    """An observer that remembers the last `keep` requests, and the last refreshes and kinds of errors."""

    def __init__(self, redactor: Redactor, *, keep: int = 50, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self.set_redactor(redactor)
        self.before_reading: Callable[[], None] = lambda: None
        """Has what waits to be remembered remembered."""
        self._keep = keep
        self._requests: deque[tuple[Answered, str, int]] = deque(maxlen=keep)
        """Each with the names of its batch and its place there: its access line has that name unless the client gave one."""
        self._refreshes: deque[tuple[float, TokenRefreshed | RefreshFailed]] = deque(maxlen=_MOST_KINDS)
        self._errors: dict[str, _Errors] = {}
        """By their sentence; the one that came last stands last."""
        self._warnings: dict[tuple[str, str], tuple[float, Warned]] = {}
        self._counts: Counter[str] = Counter()
        """Requests by cache word, `broken` and `refused` ones; `answers` and `failures` of the origin."""
        self._seconds: Counter[int] = Counter()
        """Requests by second."""
        self._slices: dict[str, Counter[int]] = {name: Counter() for name in ("outcomes", "heads", "troubles")}
        """What came of requests to the origin, by slice of time."""
        self._origin: Lately = {"failures_in_a_row": 0, "last": None, "last_failure": None}

    def set_redactor(self, redactor: Redactor) -> None:
        """Changes what is masked from now on."""
        self.redactor = redactor
        self._word = remembering(lambda text: redactor.text(text, _MOST_SHOWN))
        self._target = remembering(lambda text: redactor.target(text, _MOST_SHOWN))

    def __call__(self, event: Event) -> None:
        now = self._wall()
        if type(event) is RequestAnswered:
            self.answered([(event, now, event.client, 0, event.duration, b"")])
            return
        if type(event) is OriginAnswered or type(event) is OriginFailed:
            self._on_origin(now, event)
        elif type(event) is RequestRejected:
            self._counts["refused"] += not event.listener
        elif type(event) is Warned:
            self._warn(now, event)
        elif type(event) is TokenRefreshed or type(event) is RefreshFailed:
            self._refreshes.append((now, event))
        if line_of(event).level in _LOUD and type(event) is not Warned:
            self._on_error(_Errors(now, now, 1, event))

    def _on_error(self, told: _Errors) -> None:
        said = message_of(line_of(told.event), fields_of(told.event))
        if (known := self._errors.pop(said, None)) is not None:
            latest = max(known, told, key=lambda each: each.last)
            told = _Errors(min(known.first, told.first), latest.last, known.count + told.count, latest.event)
        elif len(self._errors) >= _MOST_KINDS:
            del self._errors[next(iter(self._errors))]
        self._errors[said] = told

    def answered(self, batch: Sequence[Answered], made: str = "") -> None:
        """Remembers a batch; `made` holds the name of each in 32 characters."""
        kept = batch[-self._keep :]
        places = itertools.count(len(batch) - len(kept))
        self._requests.extend(zip(kept, itertools.repeat(made), places, strict=False))
        if (second := int(batch[0][1])) == int(batch[-1][1]):
            self._seconds[second] += len(batch)
        else:
            self._seconds.update(int(each[1]) for each in batch)
        self._counts["hit"] += len(batch)
        for told in [each[0] for each in batch if isinstance(each[0], RequestAnswered)]:
            self._counts["hit"] -= 1
            self._counts[told.cache] += 1
            self._counts["broken"] += told.outcome == "broken"
        if len(self._seconds) > 2 * _SECONDS:
            self._forget(self._wall())

    def _on_origin(self, now: float, event: OriginAnswered | OriginFailed) -> None:
        origin, slice = self._origin, int(now // _SLICE)
        if isinstance(event, OriginAnswered):
            self._counts["answers"] += 1
            self._slices["heads"][slice] += 1
            origin["last"] = (now, event.status, event.duration)
            trouble = f"answered {event.status}" if event.status >= 500 else ""
        else:
            trouble = event.detail or event.code
        self._slices["outcomes"][slice] += 1
        origin["failures_in_a_row"] = origin["failures_in_a_row"] + 1 if trouble else 0
        if trouble:
            self._counts["failures"] += 1
            self._slices["troubles"][slice] += 1
            origin["last_failure"] = (now, trouble)
        if len(self._slices["outcomes"]) > 2 * _SLICES:
            self._forget(now)

    def _warn(self, at: float, told: Warned) -> None:
        name = (told.code, told.about)
        if name in self._warnings or len(self._warnings) < _MOST_WARNINGS:
            self._warnings[name] = (at, told)

    def _forget(self, now: float) -> None:
        """Drops counts that are too old, and those that a clock which stepped back left ahead."""
        for counted, last, kept in (
            (self._seconds, int(now), _SECONDS),
            *((each, int(now // _SLICE), _SLICES) for each in self._slices.values()),
        ):
            for at in [at for at in counted if not last - kept <= at <= last + kept]:
                del counted[at]

    # ---- between processes -------------------------------------------------------------------------------------------

    def taken(self) -> Lately:
        """What was remembered since the last time, for another process's `add`; it is forgotten here."""
        self.before_reading()
        is_heard = self._counts["answers"] or self._counts["failures"]
        taken: Lately = {
            "requests": [
                [held[1], asdict(replace(answered_event(held), trace=None)), _name(made, place)]
                for held, made, place in self._requests
            ],
            "errors": [[each.first, each.last, each.count, *plain(each.event)] for each in self._errors.values()],
            "warnings": [[at, asdict(told)] for at, told in self._warnings.values()],
            "counts": dict(self._counts),
            "seconds": list(self._seconds.items()),
            "slices": {name: list(counted.items()) for name, counted in self._slices.items()},
            "origin": dict(self._origin) if is_heard else None,
        }
        self._requests.clear()
        self._errors.clear()
        self._warnings.clear()
        self._counts.clear()
        for counted in (self._seconds, *self._slices.values()):
            counted.clear()
        return taken

    def add(self, taken: Lately) -> None:
        """Remembers what another process remembered, as if it had happened here."""
        for at, event, name in taken["requests"]:
            self._requests.append(((RequestAnswered(**event), at, "", 0, 0.0, b""), name, 0))
        for first, last, count, name, members in taken["errors"]:
            self._on_error(_Errors(first, last, count, event_of(name, members)))
        for at, told in taken["warnings"]:
            warned = Warned(**told)
            known = self._warnings.get((warned.code, warned.about))
            if known is None or known[0] < at:
                self._warn(at, warned)
        self._counts.update(taken["counts"])
        self._seconds.update(dict(taken["seconds"]))
        for name, counted in taken["slices"].items():
            self._slices[name].update(dict(counted))
        self._forget(self._wall())
        if taken["origin"] is not None:
            self._origin |= {name: value for name, value in taken["origin"].items() if value is not None}

    # ---- shown -------------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, object]:
        """`requests`, `refreshes`, `recent_errors` and `warnings` as `/api/status` shows them; the newest first, moments in epoch seconds."""
        self.before_reading()
        say = self.redactor.text
        return {
            "requests": self._traffic(),
            "refreshes": [self._refresh(at, event) for at, event in reversed(self._refreshes)],
            "recent_errors": [self._error(each) for each in reversed(self._errors.values())],
            "warnings": [
                {"code": say(told.code), "detail": say(told.detail), "at": at}
                for at, told in self._warnings.values()
                if not told.over
            ],
        }

    def warned(self, code: str) -> str:
        """The text of a warning that stands; '' if none of this code does."""
        stands = (told for _, told in self._warnings.values() if told.code == code and not told.over)
        return next((self.redactor.text(told.detail) for told in stands), "")

    def origin(self) -> dict[str, object]:
        """`origin` of `/api/status`, as far as its answers tell."""
        at, status, took = self._origin["last"] or (None, None, None)
        failed_at, failure = self._origin["last_failure"] or (None, "")
        return {
            "state": self._state(),
            "answers": self._counts["answers"],
            "failures": self._counts["failures"],
            "failures_in_a_row": self._origin["failures_in_a_row"],
            "last_answer_at": at,
            "last_status": status,
            "last_duration_seconds": took,
            "last_failure_at": failed_at,
            "last_failure": self.redactor.text(failure),
        }

    def _state(self) -> str:
        """`silent` if the origin was not asked in the last minutes, else `answering` or `failing`."""
        last = int(self._wall() // _SLICE) + 1  # clocks of processes are read at different moments
        outcomes, heads, troubles = (
            sum(counted[slice] for slice in range(last - _SLICES + 1, last + 1)) for counted in self._slices.values()
        )
        if not outcomes:
            return "silent"
        return "failing" if not heads or (outcomes >= _LEAST_OUTCOMES and 2 * troubles >= outcomes) else "answering"

    def _traffic(self) -> dict[str, object]:
        by_cache = {word: self._counts[word] for word in _WORDS}
        cached, now = by_cache["hit"] + by_cache["stale"], int(self._wall())
        lately = sum(self._seconds[second] for second in range(now - _SECONDS, now))  # the present one is not over
        asked = cached + by_cache["miss"]
        return {
            "total": sum(by_cache.values()),
            "by_cache": by_cache,
            "hit_ratio": cached / asked if asked else None,
            "per_second": lately / _SECONDS,
            "broken": self._counts["broken"],
            "refused": self._counts["refused"],
            "recent": [
                self._request(held[1], answered_event(held), _name(made, place))
                for held, made, place in reversed(self._requests)
            ],
        }

    def asked(self, name: str) -> tuple[str, str] | None:
        """Method and target of the remembered request with this `request_id`."""
        self.before_reading()
        for held, made, place in reversed(self._requests):
            event = answered_event(held)
            if (event.request_id or _name(made, place)) == name:
                return event.method, event.target
        return None

    def _request(self, at: float, event: RequestAnswered, name: str) -> dict[str, object]:
        say = self._word
        return {
            "at": at,
            "request_id": say(event.request_id or name),
            "client": say(event.client),
            "method": self.redactor.text(event.method, 32),
            "target": self._target(event.target),
            "status": event.status,
            "route": say(event.route),
            "cache": say(event.cache),
            "duration_seconds": event.duration,
            "outcome": say(event.outcome),
            "code": say(event.code),
        }

    def _refresh(self, at: float, event: TokenRefreshed | RefreshFailed) -> dict[str, object]:
        shown: dict[str, object] = {"at": at, "duration_seconds": event.duration}
        say = self._word
        if isinstance(event, TokenRefreshed):
            return {**shown, "renewed": True, "outcome": say(event.grant), "detail": ""}
        return {**shown, "renewed": False, "outcome": say(event.outcome), "detail": say(event.reason)}

    def _error(self, told: _Errors) -> dict[str, object]:
        event = told.event
        line, fields = line_of(event), fields_of(event)
        return {
            "at": told.last,
            "first_at": told.first,
            "count": told.count,
            "listener": self._word(str(fields.get("listener", ""))),
            "level": line.level,
            "what": self._word(message_of(line, fields)),
            "target": self._target(str(fields.get("target", ""))),
        }
