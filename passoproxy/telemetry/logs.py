"""The log on standard error, over the standard library's logging; secrets are masked last, when a line is made.

A line has a time, a level, the stable name of its event, a message and values: as JSON for machines, as text for people. What clients sent
is escaped: no control character, no line break, no character that turns the writing direction. Lines of other libraries take the same way.

A thread writes access lines, at most `DELAY` late, and the lines of events too while standard error blocks: the daemon never waits for the reader
of its log. Lines beyond `MAX_WAITING` are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import select
import stat
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, TextIO

from passoproxy.core.events import TTL, Answered, Event, Repeated, RequestAnswered, event_of
from passoproxy.core.http.trace_context import trace_id, traceparent_in
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.messages import fields_of, line_of, message_of, named_in

Values = Mapping[str, object]
Render = Callable[[float, str, str, str, Values], str]
"""(moment as epoch seconds, level, event, message, values) to one line without its line end."""

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


def as_json(at: float, level: str, event: str, message: str, values: Values) -> str:
    """One JSON object: `time`, `level`, `event`, `message` if there is one, then the values, which cannot take the place of these."""
    line: dict[str, object] = {"time": timestamp(at), "level": level, "event": escaped(event)}
    if message:
        line["message"] = escaped(message)
    for name, value in values.items():
        line.setdefault(name, _plain(value))
    if trace := values.get("exception"):
        line["exception"] = "\n".join(map(escaped, str(trace).split("\n")))
    return json.dumps(line, ensure_ascii=False)


def as_text(at: float, level: str, event: str, message: str, values: Values) -> str:
    """`2026-01-31T12:00:00.000Z  warn    the message  event=name name=value`; a traceback follows, indented so that none of it can pass for a line."""
    return _text(at, level, event, message, values, "", "", "")


def as_coloured_text(at: float, level: str, event: str, message: str, values: Values) -> str:
    """The same for a terminal."""
    return _text(at, level, event, message, values, _COLOURS.get(level, ""), _DIM, _PLAIN)


def _text(at: float, level: str, event: str, message: str, values: Values, colour: str, dim: str, plain: str) -> str:
    named = "".join(
        f" {name}={_quoted(value)}" for name, value in values.items() if name != "exception" and value not in ("", None)
    )
    line = (
        f"{dim}{timestamp(at)}{plain}  {colour}{_SHORT.get(level, level):<6}{plain}  {escaped(message)}  "
        f"{dim}event={_quoted(event)}{named}{plain}"
    )
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


DELAY = 0.08
"""Seconds in which lines are gathered before they are written (contract §3: at most 0.2 s late, with what `batch` waits)."""
MAX_WAITING = 50_000
"""Access lines that wait at most."""
RESERVED = 1_000
"""So many lines of events more."""
MOST_CHARACTERS = 32 * 1024 * 1024
"""Characters of lines that wait, beyond which no more are taken: long targets make long lines."""
_REMEMBERED = 2048
_LONGEST_REMEMBERED = 1024


def remembering(work: Callable[[str], str]) -> Callable[[str], str]:
    """`work`, with the last results for short texts remembered: how long they are is up to clients."""
    remembered = lru_cache(_REMEMBERED)(work)
    return lambda text: (remembered if len(text) <= _LONGEST_REMEMBERED else work)(text)


class AccessLines:
    """Takes answered requests and writes a line for each. `write` gets whole lines with their ends and may block; `takes` tells whether it would
    not, for this text and now.

    A line is made where it is added, since a second thread that computes would stop the loop for milliseconds; the thread only writes.
    `render` makes lines for people; None stands for JSON, as `as_json` writes it.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        redactor: Redactor,
        render: Render | None = None,
        *,
        takes: Callable[[str], bool] = lambda text: True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.set_redactor(redactor)
        self._write, self._takes, self._wall, self._render = write, takes, wall, render
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._added = self._taken = 0  # characters; each is written by one thread alone
        self._second, self._begun = -1, ""
        self._armed = False
        self._late = False  # lines of events wait
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._thread: threading.Thread | None = None

    def set_redactor(self, redactor: Redactor) -> None:
        """Changes what is masked. The same words and targets come again and again, so the last results are cached."""
        self._say, self._say_target = remembering(redactor.text), remembering(redactor.target)
        self._word = remembering(lambda text: _in_json(redactor.text(text)))
        self._target = remembering(lambda text: _in_json(redactor.target(text)))

    def answered(self, batch: Sequence[Answered], made: str) -> None:
        """Takes a batch, with `request_ids` for it; never blocks."""
        self._put(self.lines(batch, made))

    def lines(self, batch: Sequence[Answered], made: str) -> list[str]:
        """The lines of a batch, without their ends."""
        if self._render is not None:
            names = (made[at : at + 32] for at in range(0, len(made), 32))
            return [
                self._for_people(each[1], event_of(each), self._shown_target(each[0]), name)
                for each, name in zip(batch, names, strict=True)
            ]
        lines, word, last, client = list[str](), self._word, "", '""'
        for number, (told, at, address, ttl, duration, traced) in enumerate(batch):
            name = made[32 * number : 32 * number + 32]
            if isinstance(told, RequestAnswered):
                lines.append(self._json(at, told, name))
                continue
            line = told.line
            if line is None or line[0] is not word:
                told.line = line = self._constant(told.event)
            if traced:
                name = trace_id(traceparent_in(traced)) or name
            if (who := told.event.client or address) != last:
                last, client = who, word(who)
            second = int(at)
            if second != self._second:
                self._turn(second)
            begun, millisecond = self._begun, _MILLISECONDS[int((at - second) * 1000)]
            lines.append(
                f"{begun}{millisecond}{name}{_CLIENT}{client}{line[1]}{ttl}{line[2]}{duration * 1000:.2f}{line[3]}"
            )
        return lines

    def _constant(self, event: RequestAnswered) -> tuple[object, str, str, str]:
        """What stands in the lines of all hits of one answer: between client, ttl and duration, and behind them."""
        before, _, after = event.cache_status.partition(TTL)
        until_took, rest = self._around(event, f"{self._word(before)[:-1]}{TTL}{self._word(after)[1:]}")
        until_ttl, _, until_took = until_took.partition(TTL)
        return self._word, until_ttl, until_took, rest

    def event(self, line: str) -> None:
        """Writes the line of an event: now, or where that would block, behind those that wait."""
        if not self._late and self._one_at_a_time.acquire(blocking=False):
            try:
                if self._takes(line):
                    self._write(line + "\n")
                    return
            finally:
                self._one_at_a_time.release()
        self._late = True
        self._put([line], MAX_WAITING + RESERVED)

    def _put(self, lines: list[str], most: int | None = None) -> None:
        most = MAX_WAITING if most is None else most
        room = max(0, most - len(self._waiting)) if self._added - self._taken < MOST_CHARACTERS else 0
        kept = lines[:room]
        self._added += sum(map(len, kept))
        self._waiting.extend(kept)
        self._dropped += len(lines) - len(kept)
        if not self._armed:
            self._armed = True
            self._wake.set()

    def start(self) -> None:
        """Begins to write."""
        self._thread = threading.Thread(target=self._run, name="access-lines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what waits and ends the thread; returns within five seconds, even if standard error is not read."""
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
            self._armed = self._late = False
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._taken += sum(map(len, lines))
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                message = f"{dropped} lines were dropped: standard error is too slow"
                render = self._render or as_json
                lines.append(render(self._wall(), "warning", "access_lines_dropped", message, {"dropped": dropped}))
            if lines:
                self._write("\n".join(lines) + "\n")

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait()
            self._wake.clear()
            self._ending.wait(DELAY)
            self.flush()
        self.flush()

    def _json(self, at: float, event: RequestAnswered, made: str) -> str:
        """As `as_json` would write it, in a fraction of the time."""
        if int(at) != self._second:
            self._turn(int(at))
        before, after = self._around(event, self._word(event.cache_status))
        begun = f"{self._begun}{_MILLISECONDS[int((at - int(at)) * 1000)]}{event.request_id or made}"
        return f"{begun}{_CLIENT}{self._word(event.client)}{before}{event.duration * 1000:.2f}{after}"

    def _turn(self, second: int) -> None:
        self._second, self._begun = second, f'{{"time": "{timestamp(second)[:-4]}'

    def _around(self, event: RequestAnswered, cache_status: str) -> tuple[str, str]:
        """What stands between client and duration, and behind it. `cache_status` is in JSON already."""
        word = self._word
        method = word(event.method) if len(event.method) <= 32 else _in_json(self._say(event.method)[:32])
        return (
            f', "method": {method}, "target": {self._target(event.target)}, "status": {event.status}, "route": {word(event.route)}, '
            f'"cache": {word(event.cache)}, "reason": {word(reason_of(event))}, "cache_status": {cache_status}, "duration_ms": ',
            f', "origin_ms": {round(event.origin_seconds * 1000, 2)}, "queue_ms": {round(event.queue_seconds * 1000, 2)}, '
            f'"sent_bytes": {event.sent_bytes}, "outcome": {word(event.outcome)}, "code": {word(event.code)}}}',
        )

    def _shown_target(self, told: Repeated | RequestAnswered) -> str:
        """The target as people see it; a repeated one is masked once."""
        say = self._say_target
        if isinstance(told, RequestAnswered):
            return say(told.target)
        line = told.line
        if line is None or line[0] is not say:
            told.line = line = say, say(told.event.target), "", ""
        return line[1]

    def _for_people(self, at: float, event: RequestAnswered, target: str, made: str) -> str:
        say = self._say
        values: dict[str, object] = {
            "client": say(event.client),
            "route": say(event.route),
            "reason": say(reason_of(event)),
            "origin_ms": round(event.origin_seconds * 1000, 2),
            "queue_ms": round(event.queue_seconds * 1000, 2),
            "outcome": say(event.outcome),
            "code": say(event.code),
            "request_id": event.request_id or made,
        }
        told = {name: value for name, value in values.items() if value not in (0.0, "complete")}
        took = f"{say(event.method)[:32]} {event.status} {say(event.cache):<5} {event.duration * 1000:7.1f} ms"
        assert self._render is not None
        return self._render(at, "info", "request", f"{took}  {target}", told)


def _in_json(text: str) -> str:
    return json.dumps(escaped(text), ensure_ascii=False)


_MILLISECONDS: Final = tuple(
    f'{each:03d}Z", "level": "info", "event": "request", "request_id": "' for each in range(1000)
)
_CLIENT: Final = '", "client": '


def request_ids(count: int) -> str:
    """New names for so many requests, 32 hexadecimal digits each."""
    return f"{random.getrandbits(128 * count):0{32 * count}x}"


def reason_of(event: RequestAnswered) -> str:
    """Why the cache decided so: the code of a refusal, else `detail` or `fwd` of our Cache-Status member (RFC 9211), else ''."""
    return event.code or _reason_told(event.cache_status)


@remembering
def _reason_told(cache_status: str) -> str:
    told = dict(part.strip().partition("=")[::2] for part in cache_status.rpartition(",")[2].split(";")[1:])
    return told.get("detail") or told.get("fwd", "")


Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json"]
_NAME = "passoproxy"
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
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
        self._for_people = render is not as_json
        self.access = access
        self.level: Level = level
        self._redactor = redactor
        lines_render = render if self._for_people else None
        output = _Output(stream)
        self.access_lines = AccessLines(output.write, redactor, lines_render, takes=output.takes, wall=wall)
        self.tap: Callable[[str], None] | None = None
        """Gets the line of each event as JSON too."""
        self._render = render
        self._logger = logging.getLogger(_NAME)
        self._handler = _Handler(self.access_lines.event, self._line)

    def open(self) -> None:
        """Takes the root logger over, the lines of other libraries with it."""
        logging.getLogger().addHandler(self._handler)
        logging.captureWarnings(True)
        self.set_level(self.level)
        self.access_lines.start()

    def close(self) -> None:
        """Writes what waits and lets the root logger go."""
        self.access_lines.close()
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
        self.access_lines.set_redactor(redactor)

    def answered(self, batch: Sequence[Answered], made: str) -> None:
        """Writes the lines of answered requests, if there are to be any; `made` as in `AccessLines`."""
        if self.access:
            self.access_lines.answered(batch, made)

    def write(self, event: Event, more: int = 0) -> None:
        """Writes the line of an event. `more` lines like it were held back."""
        line, values = line_of(event), fields_of(event)
        message = message_of(line, values)
        if more:
            values["more"] = more
        named = named_in(line) if self._for_people else ()
        extra = {"event_name": line.event, "values": values, "named": named}
        self._logger.log(_LEVELS[line.level], message, extra=extra)

    def is_written(self, level: str) -> bool:
        """Whether lines of `level` are written now."""
        return self._logger.isEnabledFor(_LEVELS[level])

    def _line(self, record: logging.LogRecord) -> str:
        """A record as a line, with secrets masked. One of another library has no event of ours. For people, values that the message tells are
        not repeated."""
        say, level, message = self._redactor.text, record.levelname.lower(), record.getMessage()
        if event := getattr(record, "event_name", ""):
            values = {name: self._masked(name, value) for name, value in record.__dict__["values"].items()}
            if self.tap is not None:
                self.tap(as_json(record.created, level, say(event), say(message), values))
            for name in record.__dict__["named"]:
                values.pop(name, None)
        else:
            event, values = "library", {"logger": say(record.name)}
        if record.exc_info:
            values["exception"] = say("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return self._render(record.created, level, say(event), say(message), values)

    def _masked(self, name: str, value: object) -> object:
        if isinstance(value, int | float):
            return value
        return self._redactor.target(str(value)) if name == "target" else self._redactor.text(str(value))


class LogObserver:
    """Writes every event down but answered requests, which come in batches (`Logs.answered`). Of lines that come by the thousand a few are
    written in each ten seconds, the rest counted (`more`).
    """

    def __init__(self, logs: Logs, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._logs, self._monotonic = logs, monotonic
        self._windows: dict[str, _Window] = {}

    def __call__(self, event: Event) -> None:
        line = line_of(event)
        if not self._logs.is_written(line.level):
            return
        more = self._held_back(line.throttle) if line.throttle else 0
        if more is not None:
            self._logs.write(event, more)

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


class _Handler(logging.Handler):
    """Lines of `line`. A log that cannot be written is no reason to fail, nor to write about it."""

    def __init__(self, write: Callable[[str], None], line: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self._write, self._line = write, line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self._line(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (stdlib name)
        del record


class _Output:
    """A stream's descriptor, if it has one: a thread that blocks in the stream itself keeps its lock, and then the process cannot end in order."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._descriptor, self._at_once = stream, -1, sys.maxsize
        try:
            stream.flush()
            self._descriptor = stream.fileno()
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                self._at_once = select.PIPE_BUF
        except (OSError, ValueError):
            pass  # one in memory

    def write(self, lines: str) -> None:
        try:
            if self._descriptor < 0:
                self._stream.write(lines)
                self._stream.flush()
                return
            left = memoryview(lines.encode("utf-8", "backslashreplace"))
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # a process that shares it wanted it so
                    self._polled(None)
        except (OSError, ValueError):
            return  # standard error is gone: the daemon lives on

    def takes(self, line: str) -> bool:
        """Whether `line` and its end can be written without waiting. pipe(7): where a write is possible, one of PIPE_BUF bytes is."""
        if self._descriptor < 0:
            return True
        if 4 * (len(line) + 1) > self._at_once and len(line.encode("utf-8", "backslashreplace")) >= self._at_once:
            return False
        return self._polled(0)

    def _polled(self, timeout: int | None) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(timeout))


def _renderer(format: Format, stream: TextIO) -> Render:
    terminal = stream.isatty()
    if format == "json" or (format == "auto" and not terminal):
        return as_json
    return as_coloured_text if terminal and not os.environ.get("NO_COLOR") else as_text
