"""The log on standard error: structlog over the standard library's logging, redaction last before a line is made.

Lines of other libraries take the same way. Nothing here is configured globally but the root logger's one handler, between `open` and
`close`. How a line looks is in `rendering`, what it says in `wording`, access lines in `access`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Literal, TextIO, cast

import structlog
from structlog.stdlib import ProcessorFormatter

from passoproxy.core.events import Event, RequestAnswered
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.access import AccessLines
from passoproxy.telemetry.rendering import Render, as_coloured_text, as_json, as_text
from passoproxy.telemetry.wording import say

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
