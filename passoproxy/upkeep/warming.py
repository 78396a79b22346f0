"""Warming: as the runway shrinks, the most used entries are revalidated first, so that they are young when the access token ends (contract §4).

Bounded in number and rate, in the background, and first to stand back: a 429, a full queue or a missing bearer ends the pass. When the
runway is short is said by the alerts, what is used most by `proxy.usage`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntriesWarmed, TaskFailed
from passoproxy.core.http.messages import changed
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.warnings import Level
from passoproxy.errors import AuthorizationRequired, CoolingDown, Overloaded, Refusal, TokenUnavailable
from passoproxy.ports import Clock, Hop, Observer, Request

MOST_WARMED = 64
LONGEST_PAUSE = 0.25
"""Seconds between two requests, fewer where little is left."""
LOOK_EVERY = 1.0
LEAST_BETWEEN = 5.0
"""Seconds between two passes at least; else half of what is left."""

_CONDITIONS = (
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
    "Pragma",
)
_FORWARD_STATUS = re.compile("fwd-status=([0-9]{3})")  # RFC 9211 §2.3
_STAND_BACK = (CoolingDown, Overloaded, AuthorizationRequired, TokenUnavailable)


class Warming:
    """Revalidates through `road`, the cache's hop, from the alerts' `level` NOTIFY on. `policy_of` gives the route of a path."""

    def __init__(
        self,
        road: Hop,
        *,
        most_used: Callable[[int], Sequence[Request]],
        policy_of: Callable[[str], RoutePolicy],
        level: Callable[[], Level],
        read: Callable[[], TokenSnapshot],
        clock: Clock,
        observe: Observer,
        most: int = MOST_WARMED,
    ) -> None:
        self._road, self._most_used, self._policy_of = road, most_used, policy_of
        self._level, self._read, self._clock, self._observe, self._most = level, read, clock, observe, most

    async def run(self) -> None:
        """Looks again and again whether it is time, for as long as it is let."""
        while True:
            await self._clock.sleep(await self._looked())

    async def _looked(self) -> float:
        """Seconds until the next look."""
        if (left := self._short()) is None:
            return LOOK_EVERY
        try:
            await self._pass(left)
        except Exception as fault:  # upkeep must live on
            self._observe(TaskFailed("warming", type(fault).__name__))
        return max(LEAST_BETWEEN, (self._short() or 0.0) / 2)

    def _short(self) -> float | None:
        """Seconds that the access token still serves, while the runway is short; None where it is not, or there is no token to ask with."""
        shown = self._read()
        if self._level() < Level.NOTIFY or shown.access != "valid" or shown.served_until is None:
            return None
        return max(0.0, shown.served_until - shown.as_of)

    async def _pass(self, left: float) -> None:
        pause = min(LONGEST_PAUSE, left / (2 * self._most))
        asked = renewed = 0
        ended_by = ""
        for request in self._most_used(self._most):
            asked += 1
            try:
                status = await self._status(request)
            except _STAND_BACK as refusal:
                ended_by = refusal.code
                break
            except Refusal:
                status = 502  # this one could not be had; the next one may
            if status is None:
                ended_by = "not_asked"
                break
            renewed += status < 400
            await self._clock.sleep(pause)
        if asked:
            self._observe(EntriesWarmed(asked, renewed, ended_by))

    async def _status(self, request: Request) -> int | None:
        """What the origin said of it; None where a stored answer stood in because the origin could not be asked."""
        head = request.head
        fields = changed(head.fields, without=_CONDITIONS, having=(("Cache-Control", "no-cache"),))
        asked = replace(head, method="GET" if head.method == "HEAD" else head.method, fields=fields)
        answer = await self._road.send(request.under(asked, self._policy_of(head.path)))
        await answer.body.aclose()
        told = _FORWARD_STATUS.findall(answer.head.fields.get("Cache-Status", ""))
        return int(told[-1]) if told else None
