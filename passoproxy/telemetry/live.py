"""Lines of the log for those who watch them now (`passoproxy tail`), as JSON, also where the log itself is text or has no access lines."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

from passoproxy.errors import BadRequest

MOST_WAITING = 2000
"""Lines that wait for one watcher; what comes on top is dropped and counted."""

BEAT_SECONDS = 3.0
"""A watcher is told at least so often that its daemon lives."""

DROPPED = "lines_dropped"

Line = str
"""One JSON object, as `logs.as_json` makes it."""

Asked = tuple[str, str]
"""Method and target of a request, as it came."""

MOST_ASKED = 500
LONGEST_ASKED = 8192
"""So many requests of lines are remembered, with a target of at most so many characters."""

_ID = '"request_id": "'


class Live:
    """Gives each line to all watchers. Costs nothing while nobody watches: `wanted` is what makers of lines look at."""

    def __init__(self) -> None:
        self.wanted = False
        self.on_change: Callable[[bool], None] = lambda wanted: None
        """Called when the first watcher comes, and when the last one leaves; sets `wanted`."""
        self._watchers: set[_Watcher] = set()
        self.put: Callable[[Line, Asked | None], None] = self._spread
        """Takes a line that has been made, and whose it is if it is a request's. A worker gives both to its parent."""
        self._asked: dict[str, Asked] = {}

    def _spread(self, line: Line, asked: Asked | None) -> None:
        for watcher in self._watchers:
            watcher.put(line)
        if asked is not None and len(asked[1]) <= LONGEST_ASKED:
            self._asked[line.partition(_ID)[2][:32]] = asked
            if len(self._asked) > MOST_ASKED:
                del self._asked[next(iter(self._asked))]

    def asked(self, name: str) -> Asked | None:
        """The request whose line has this `request_id`, of the last ones that were watched."""
        return self._asked.get(name)

    def watch(self, wishes: Mapping[str, str]) -> AsyncGenerator[Line, None]:
        """Every line from now on that fits (`fitting`), until the generator is closed; '' at first, and where none that fits came for `BEAT_SECONDS`.
        Raises BadRequest."""
        try:
            return self._lines(fitting(wishes))
        except ValueError as fault:
            raise BadRequest(f"status: {fault}") from fault

    async def _lines(self, fits: Callable[[Line], bool]) -> AsyncGenerator[Line, None]:
        watcher = _Watcher()
        self._watchers.add(watcher)
        self._look()
        try:
            yield ""  # from now on nothing is missed
            spoke_at = time.monotonic()
            while True:
                line = await watcher.next()
                if line and not fits(line):
                    if time.monotonic() - spoke_at < BEAT_SECONDS:
                        continue
                    line = ""
                yield line
                spoke_at = time.monotonic()
        finally:
            self._watchers.discard(watcher)
            self._look()

    def _look(self) -> None:
        wanted = bool(self._watchers)
        if wanted != self.wanted:
            self.on_change(wanted)


class _Watcher:
    def __init__(self) -> None:
        self._waiting: deque[Line] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()

    def put(self, line: Line) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(line)
            self._wake.set()
        else:
            self._dropped += 1

    async def next(self) -> Line:
        while not self._waiting:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), BEAT_SECONDS)
            except TimeoutError:
                return ""
        if self._dropped and len(self._waiting) < MOST_WAITING:
            dropped, self._dropped = self._dropped, 0
            return dropped_line(dropped)
        return self._waiting.popleft()


def dropped_line(count: int) -> Line:
    """Tells a watcher that so many lines are missing."""
    message = f"{count} lines were dropped: they come faster than they are read"
    return json.dumps({"level": "warning", "event": DROPPED, "message": message})


_STATUS = re.compile("[1-5](?:[0-9]{2}|xx)")


def fitting(wishes: Mapping[str, str]) -> Callable[[Line], bool]:
    """Whether a line is what a watcher wishes to see: a request with this `route`, `status` (404, or 5xx), `cache` and `client`; without a
    wish, every line. Raises ValueError for a status that is none.
    """
    wanted = {name: wishes[name] for name in ("route", "cache", "client") if wishes.get(name)}
    status = wishes.get("status", "").lower()
    if status and _STATUS.fullmatch(status) is None:
        raise ValueError(f"{status!r} is no status; write 404, or 5xx for all that begin with 5")

    def fits(line: Line) -> bool:
        told = json.loads(line)
        if told["event"] != "request":
            return bool(told["event"] == DROPPED)  # one of them may have fitted
        begins = str(told["status"]).startswith(status.removesuffix("xx"))
        return begins and all(told[name] == wish for name, wish in wanted.items())

    return fits if wanted or status else bool
