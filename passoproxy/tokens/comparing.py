"""Our clock beside the provider's: told when they differ, once for each change, and never reckoned by."""

from __future__ import annotations

from passoproxy.core.events import Warned
from passoproxy.core.oauth.wrong_clock import TOLERATED, deviation
from passoproxy.ports import Observer, TokenReply


class Comparing:
    """Looks at token replies."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._said = 0.0

    def look(self, reply: TokenReply) -> None:
        """Tells `clock_wrong` where the difference has come, gone, or changed by more than is tolerated."""
        kinds = (value for name, value in reply.headers if name.lower() == "content-type")
        found = deviation(reply.headers, reply.body, next(kinds, ""), reply.sent_at, reply.received_at)
        if found is None:
            return
        ahead, source = found
        if (ahead == 0.0) == (self._said == 0.0) and abs(ahead - self._said) <= TOLERATED:
            return
        self._said = ahead
        if ahead == 0.0:
            self._observe(Warned("clock_wrong", f"the clock agrees with the provider's again (by {source})", over=True))
            return
        side = "ahead of" if ahead > 0 else "behind"
        text = f"this machine's clock is {abs(ahead):.0f} s {side} the provider's (by {source}); set it right, for example with NTP"
        self._observe(Warned("clock_wrong", text))
