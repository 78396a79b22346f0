"""Logins that are open now, by where they were begun: a denial in one process ends the waiting for that process's logins, and for no other's.

What an open login means to clients is said by `refusing` and `proxy/parking`; who may complete one is the business of `login`.
"""

from __future__ import annotations

from typing import Final

HERE: Final = None
"""This process's own logins, beside the names that other processes give themselves."""

MOST = 1000
"""So many other processes are known at once; those whose logins end first give way."""


class OpenLogins:
    """Until when logins are open, in seconds of one clock. `of` and `until` give 0 for never."""

    def __init__(self) -> None:
        self._until: dict[str | None, float] = {}

    @property
    def until(self) -> float:
        """When the last of them ends at the latest."""
        return max(self._until.values(), default=0.0)

    def of(self, by: str | None) -> float:
        """When those that were begun at `by` end."""
        return self._until.get(by, 0.0)

    def put(self, by: str | None, until: float) -> None:
        """Those that were begun at `by` end at `until`, whatever was said before."""
        self._until[by] = until
        if len(self._until) > MOST:
            del self._until[min((name for name in self._until if name != by), key=self.of)]

    def move(self, seconds: float) -> None:
        """The clock was set by so many seconds."""
        self._until = {by: until + seconds for by, until in self._until.items()}

    def clear(self) -> None:
        """A pair is here: whatever is still open in some browser, nobody waits for it."""
        self._until.clear()
