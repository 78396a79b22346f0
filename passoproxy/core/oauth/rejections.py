"""Which 401 of the origin starts a refresh, and which would only spend refresh tokens (contract §4).

A 401 may mean the token or the path. A path that refused a token newer than one it had refused before is known as stubborn: it starts no
refresh until the pair was renewed for a reason other than a 401. Over all paths one refresh in a twelfth of the lifetime is enough.
"""

from __future__ import annotations

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import UNKNOWN_LIFETIME_INTERVAL

SHARE = 1 / 12
"""401s start at most one refresh in this share of the access token's lifetime."""

MOST_PATHS = 1000
"""Stubborn paths that are remembered; of more, the oldest is forgotten."""


class Rejections:
    """What is known of 401s. `now` is seconds of a clock that does not step; a path is any text that tells it from others, '' for none."""

    def __init__(self) -> None:
        self._stubborn: dict[str, None] = {}
        self._as_of = 0
        """The newest generation that `_stubborn` was learned with, renewals that a 401 started included."""
        self._asked_for = 0
        self._asked_at = float("-inf")

    def may_refresh(self, generation: int, path: str, newest: Pair, now: float) -> bool:
        """Whether a 401 of `path` for the access token of `generation` may start a refresh; each generation starts one attempt at most."""
        self._follow(newest.generation)
        if generation <= self._asked_for or path in self._stubborn:
            return False
        return now - self._asked_at >= SHARE * (newest.lifetime or UNKNOWN_LIFETIME_INTERVAL)

    def began(self, generation: int, now: float) -> None:
        """A refresh begins because of a 401 for the access token of `generation`."""
        self._asked_for, self._asked_at = generation, now

    def ended(self, newest: Pair | None) -> None:
        """That refresh has ended, and `newest` is what is held since: the reason for it was a 401."""
        self._as_of = newest.generation if newest is not None else 0

    def again(self, generation: int, path: str) -> None:
        """`path` refused the access token of `generation` too, after it had refused an older one."""
        self._follow(generation)
        self._stubborn.pop(path, None)
        self._stubborn[path] = None
        if len(self._stubborn) > MOST_PATHS:
            del self._stubborn[next(iter(self._stubborn))]

    def _follow(self, generation: int) -> None:
        if generation != self._as_of:  # renewed for another reason
            self._stubborn.clear()
            self._as_of = generation
