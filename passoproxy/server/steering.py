"""What the admin listener asks of a running daemon: the shape of `passoproxy.control.Control`, so that tests can stand in for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from passoproxy.core.cache.entry import Selector

Document = dict[str, Any]
"""JSON to be."""


class Ticket(Protocol):
    """A login under way. `url` is the provider's whole authorization URL, `expires_at` epoch seconds."""

    @property
    def url(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def expires_at(self) -> float: ...


class Steering(Protocol):
    """A running daemon's handle. What cannot be done is raised as a PassoproxyError whose text is for a person."""

    def status(self) -> Document: ...

    def readiness(self, strict: bool) -> tuple[bool, str, str]:
        """Whether it may be sent traffic, the word (ready, degraded, unready) and the reason."""
        ...

    async def refresh(self, force: bool = False) -> Document: ...
    async def import_pair(self, document: bytes) -> Document: ...
    async def export_pair(self) -> Document: ...
    async def logout(self, keep_cache: bool = False) -> Document: ...

    def begin_login(self, bound_to: str, return_to: str = "") -> Ticket:
        """`bound_to` is what `complete_login` must bring again: a browser's cookie, or `COMMAND`."""
        ...

    async def complete_login(self, query: str, bound_to: str | None) -> Document:
        """Takes the query of the redirected URL. `bound_to` None: it came without a cookie, which only a command's login allows."""
        ...

    async def wait_login(self, state: str, timeout: float) -> Document | None:
        """The outcome of a login, None where there is none within `timeout` seconds."""
        ...

    def selector(self, chosen: Mapping[str, object]) -> Selector:
        """What `{"url"|"prefix"|"route"|"tag": …}` means, `{}` everything. Raises UsageFailure."""
        ...

    def entries(self, selector: Selector, limit: int) -> AsyncIterator[Document]: ...
    async def cache_stats(self) -> Document: ...
    async def show(self, url: str, method: str, data: bytes | None) -> Document | None: ...
    async def purge(self, what: Mapping[str, object]) -> int: ...
    async def reload(self) -> Document: ...


COMMAND = "command"
"""What a login that a command began is bound to."""
