"""How a log line looks: JSON for machines, text for people. What it says is decided elsewhere; secrets are gone before it comes here.

Whatever a client sent appears escaped: no control character, no line break of its own, no character that turns the writing direction.

Access lines, written off the hot path: a request costs one append; a thread of its own puts them into words and writes them.

A line is at most `DELAY` late. When standard error blocks, lines are dropped past `MAX_WAITING` and their number is told.

The log on standard error: structlog over the standard library's logging, redaction last before a line is made.

Lines of other libraries take the same way. Nothing here is configured globally but the root logger's one handler, between `open` and
`close`. How a line looks is in `rendering`, what it says in `wording`, access lines in `access`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, TextIO, cast

import structlog
from structlog.stdlib import ProcessorFormatter

from passoproxy.core.events import Event, RequestAnswered
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.messages import say

Values = Mapping[str, object]
Render = Callable[[float, str, str, Values], str]
"""(moment as epoch seconds, level, sentence, particulars) to one line without its line end."""

# C0, DEL, C1, line and paragraph separators, direction marks, and the surrogates in which undecodable bytes travel.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NEEDS_QUOTES: Final = re.compile(r'[\s"=]')
_COLOURS: Final = {
    "debug": "\x1b[2m",
    "info": "\x1b[36m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"
_SHORT: Final = {"warning": "warn", "critical": "crit"}


def escaped(text: str) -> str:
    """`text` with everything unprintable written out, undecodable bytes as `\\xNN`."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def timestamp(at: float) -> str:
    """Epoch seconds as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def as_json(at: float, level: str, sentence: str, values: Values) -> str:
    """One JSON object: `time`, `level`, `event`, then the particulars, which cannot take the place of these."""
    line: dict[str, object] = {"time": timestamp(at), "level": level, "event": escaped(sentence)}
    for name, value in values.items():
        line.setdefault(name, _plain(value))
    if trace := values.get("exception"):
        line["exception"] = "\n".join(map(escaped, str(trace).split("\n")))
    return json.dumps(line, ensure_ascii=False)


def as_text(at: float, level: str, sentence: str, values: Values) -> str:
    """`2026-01-31T12:00:00.000Z  warn  the sentence  name=value`; a traceback follows indented, so that no line of it can pass for another."""
    return _text(at, level, sentence, values, "", "", "")


def as_coloured_text(at: float, level: str, sentence: str, values: Values) -> str:
    """The same for a terminal."""
    return _text(at, level, sentence, values, _COLOURS.get(level, ""), _DIM, _PLAIN)


def _text(at: float, level: str, sentence: str, values: Values, colour: str, dim: str, plain: str) -> str:
    named = " ".join(
        f"{name}={_quoted(value)}" for name, value in values.items() if name != "exception" and value not in ("", None)
    )
    line = f"{dim}{timestamp(at)}{plain}  {colour}{_SHORT.get(level, level):<6}{plain}  {escaped(sentence)}"
    if named:
        line += f"  {dim}{named}{plain}"
    if trace := values.get("exception"):
        line += "".join(f"\n    {escaped(part)}" for part in str(trace).split("\n"))
    return line


def _quoted(value: object) -> str:
    text = escaped(str(value))
    return json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return escaped(value if isinstance(value, str) else str(value))


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


Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json"]
_EventDict = MutableMapping[str, object]

_NAME = "passoproxy"
_BURST, _WINDOW = 5, 10.0
"""So many lines of one kind in so many seconds; what comes on top is counted."""


class Logs:
    """Writes the log. `open` begins, `close` writes what waits and gives the root logger back."""

    def __init__(
        self,
        redactor: Redactor,
        *,
        level: Level = "info",
        format: Format = "auto",
        access: bool = True,
        stream: TextIO | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        stream = sys.stderr if stream is None else stream
        render = _renderer(format, stream)
        self.access = access
        self.level: Level = level
        self._redactor = redactor
        self._access_lines = AccessLines(_writer(stream), render, redactor, compact=render is not as_json, wall=wall)
        self._handler = _QuietHandler(stream)
        self._handler.setFormatter(
            ProcessorFormatter(
                foreign_pre_chain=[structlog.stdlib.add_logger_name, _named_level],
                processors=[_moment, structlog.processors.format_exc_info, self._redacted, _rendered(render)],
            )
        )
        self.logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            logging.getLogger(_NAME),
            processors=[structlog.stdlib.filter_by_level, _named_level, ProcessorFormatter.wrap_for_formatter],
            wrapper_class=structlog.stdlib.BoundLogger,
        )

    def open(self) -> None:
        """Takes the root logger over, the lines of other libraries with it."""
        logging.getLogger().addHandler(self._handler)
        logging.captureWarnings(True)
        self.set_level(self.level)
        self._access_lines.start()

    def close(self) -> None:
        """Writes what waits and lets the root logger go."""
        self._access_lines.close()
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(self._handler)

    def set_level(self, level: Level) -> None:
        """Changes the level at once. Other libraries speak from `warning` on, and all of it only at `debug`."""
        self.level = level
        logging.getLogger(_NAME).setLevel(level.upper())
        logging.getLogger().setLevel(logging.DEBUG if level == "debug" else logging.WARNING)

    def set_redactor(self, redactor: Redactor) -> None:
        """Changes what is masked from the next line on."""
        self._redactor = redactor
        self._access_lines.set_redactor(redactor)

    def answered(self, event: RequestAnswered) -> None:
        """Writes an access line soon, where they are wanted, whatever the level."""
        if self.access:
            self._access_lines.add(event)

    def _redacted(self, _logger: object, _method: str, line: _EventDict) -> _EventDict:
        return {name: self._aloud(name, value) for name, value in line.items()}

    def _aloud(self, name: str, value: object) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if name == "target" and isinstance(value, str):
            return self._redactor.target(value)
        if isinstance(value, Mapping):
            return {str(key): self._redactor.field(str(key), str(inner)) for key, inner in value.items()}
        return self._redactor.text(str(value))


class LogObserver:
    """Writes every event down. Of lines that come by the thousand a few are written in each ten seconds, the rest counted (`more`)."""

    def __init__(self, logs: Logs, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._logs, self._monotonic = logs, monotonic
        self._windows: dict[str, _Window] = {}

    def __call__(self, event: Event) -> None:
        if type(event) is RequestAnswered:
            self._logs.answered(event)
            return
        said = say(event)
        more = self._held_back(said.throttle) if said.throttle else 0
        if more is not None:
            details = said.details | {"more": more} if more else said.details
            # Not the wrapper's `log(level, …)`: the methods by name are what structlog filters on.
            getattr(self._logs.logger, said.level)(said.sentence, **details)

    def _held_back(self, kind: str) -> int | None:
        """None to hold this line back, else how many were held back since the last one written."""
        now = self._monotonic()
        window = self._windows.get(kind)
        if window is None or now - window.began >= _WINDOW:
            more = max(0, window.count - _BURST) if window else 0
            self._windows[kind] = _Window(now)
            return more
        window.count += 1
        return 0 if window.count <= _BURST else None


class _Window:
    __slots__ = ("began", "count")

    def __init__(self, began: float) -> None:
        self.began, self.count = began, 1


class _QuietHandler(logging.StreamHandler[TextIO]):
    """A log that cannot be written is no reason to fail, nor to write about it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (stdlib name)
        del record


def _writer(stream: TextIO) -> Callable[[str], None]:
    def write(lines: str) -> None:
        try:
            stream.write(lines)
            stream.flush()
        except (OSError, ValueError):
            return  # standard error is gone: the daemon lives on

    return write


def _renderer(format: Format, stream: TextIO) -> Render:
    terminal = stream.isatty()
    if format == "json" or (format == "auto" and not terminal):
        return as_json
    return as_coloured_text if terminal and not os.environ.get("NO_COLOR") else as_text


def _named_level(_logger: object, method: str, line: _EventDict) -> _EventDict:
    record = line.get("_record")
    line["level"] = record.levelname.lower() if isinstance(record, logging.LogRecord) else method
    return line


def _moment(_logger: object, _method: str, line: _EventDict) -> _EventDict:
    record = line.pop("_record")
    line.pop("_from_structlog", None)
    line["time"] = getattr(record, "created", 0.0)
    return line


def _rendered(render: Render) -> Callable[[object, str, _EventDict], str]:
    def rendered(_logger: object, _method: str, line: _EventDict) -> str:
        at, level, sentence = line.pop("time"), line.pop("level"), line.pop("event")
        return render(cast("float", at), str(level), str(sentence), line)

    return rendered
