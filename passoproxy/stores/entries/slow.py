"""What `tiered` asks of the store behind it, beyond what every store does: word of what other processes changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from passoproxy.ports import EntryStore


class SlowStore(EntryStore, Protocol):
    """A store that several processes share. Nothing here waits."""

    @property
    def touch(self) -> Callable[[str], None]:
        """Is told of primary keys that were served without asking the store."""
        ...

    def events(self) -> int:
        """Grows with everything that happens to what is stored, in any process."""
        ...

    def purges(self) -> int:
        """Grows with every purge, in any process."""
        ...

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """The present `events`, and the marks of what others changed since `seen`; None: anything may have changed."""
        ...
