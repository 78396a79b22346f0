"""The token endpoint's limit: so many requests in each minute, counted from the first one."""

import math
from collections.abc import Callable


class Throttle:
    """A fixed window of 60 seconds; a limit of 0 lets everything pass."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._used = 0
        self._ends_at = 0.0

    def admit(self) -> tuple[bool, dict[str, str]]:
        """Counts a request; whether it may pass, and the header fields that tell the client where it stands."""
        if not self._limit:
            return True, {}
        now = self._clock()
        if not now < self._ends_at <= now + 60:
            self._used, self._ends_at = 0, now + 60
        admitted = self._used < self._limit
        self._used += admitted
        told = {"X-RateLimit-Limit": str(self._limit), "X-RateLimit-Remaining": str(self._limit - self._used)}
        if not admitted:
            told |= {"Retry-After": str(math.ceil(self._ends_at - now)), "X-RateLimit-Reset": str(int(self._ends_at))}
        return admitted, told
