"""Access lines, written off the hot path: a request costs one append; a thread of its own puts them into words and writes them.

A line is at most `DELAY` late. When standard error blocks, lines are dropped past `MAX_WAITING` and their number is told.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from passoproxy.core.events import RequestAnswered
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.rendering import Render

DELAY = 0.15
"""Seconds in which lines are gathered before they are written (contract §3: at most 0.2 s late)."""
MAX_WAITING = 50_000
"""Lines that wait at most."""
_REMEMBERED = 512


class AccessLines:
    """Takes answered requests and writes a line for each. `write` gets whole lines with their ends and may block.

    `compact` leaves out of the particulars what the sentence says already: for people, not for machines.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        render: Render,
        redactor: Redactor,
        *,
        compact: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.set_redactor(redactor)
        self._write, self._wall, self._render = write, wall, render
        self._line = self._compact_line if compact else self._full_line
        self._waiting: deque[tuple[float, RequestAnswered]] = deque()
        self._dropped = 0
        self._armed = False
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._thread: threading.Thread | None = None

    def set_redactor(self, redactor: Redactor) -> None:
        """Changes what is masked. Words and targets come again and again, so that what became of the last ones is remembered."""
        self._say = lru_cache(_REMEMBERED)(redactor.text)
        self._say_target = lru_cache(_REMEMBERED)(redactor.target)

    def add(self, event: RequestAnswered) -> None:
        """Remembers one request; never blocks."""
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append((self._wall(), event))
        if not self._armed:
            self._armed = True
            self._wake.set()

    def start(self) -> None:
        """Begins to write."""
        self._thread = threading.Thread(target=self._run, name="access-lines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what waits and ends the thread; returns within five seconds even where nobody reads standard error."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)
        else:
            self.flush()

    def flush(self) -> None:
        """Writes what waits, now and here."""
        with self._one_at_a_time:
            # Disarmed first: a request that comes from here on wakes the thread once too often, never too seldom.
            self._armed = False
            lines = [self._line(*self._waiting.popleft()) for _ in range(len(self._waiting))]
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                sentence = f"{dropped} access lines were dropped: standard error is too slow"
                lines.append(self._render(self._wall(), "warning", sentence, {}))
            if lines:
                self._write("\n".join(lines) + "\n")

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait()
            self._wake.clear()
            self._ending.wait(DELAY)
            self.flush()
        self.flush()

    def _compact_line(self, at: float, event: RequestAnswered) -> str:
        say = self._say
        method, cache = say(event.method)[:32], say(event.cache)
        sentence = (
            f"{method} {event.status} {cache:<5} {event.duration * 1000:7.1f} ms  {self._say_target(event.target)}"
        )
        outcome = "" if event.outcome == "complete" else say(event.outcome)
        details = {"client": say(event.client), "route": say(event.route), "code": say(event.code), "outcome": outcome}
        return self._render(at, "info", sentence, details)

    def _full_line(self, at: float, event: RequestAnswered) -> str:
        say = self._say
        details: dict[str, object] = {
            "client": say(event.client),
            "method": say(event.method)[:32],
            "target": self._say_target(event.target),
            "status": event.status,
            "route": say(event.route),
            "cache": say(event.cache),
            "cache_status": say(event.cache_status),
            "duration_ms": round(event.duration * 1000, 2),
            "sent_bytes": event.sent_bytes,
            "outcome": say(event.outcome),
            "code": say(event.code),
        }
        return self._render(at, "info", "request", details)
