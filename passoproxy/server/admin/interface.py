"""What the admin listener asks of a running daemon: the shape of `passoproxy.control.Control`, so that tests can stand in for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
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

    def identity(self) -> Document:
        """Which daemon this is: `pid`, `config`, `state_directory`."""
        ...

    def status(self) -> Document: ...

    def readiness(self, strict: bool) -> tuple[bool, str, str]:
        """Whether it may be sent traffic, the word (ready, degraded, unready) and the reason."""
        ...

    def outlook(self) -> str:
        """The runway and the alert's level in one line; '' where nothing is to be said of them."""
        ...

    async def test_alerts(self) -> Document: ...
    async def refresh(self, force: bool = False) -> Document: ...
    async def import_pair(self, document: bytes, force: bool = False) -> Document: ...
    async def export_pair(self) -> Document: ...

    def changes(self) -> AsyncIterator[Document]:
        """What one who follows the pair's owner may know, now and at every change."""
        ...

    async def execute(self, message: bytes) -> Document:
        """Carries out a packed command of a process that follows (`tokens.messages`); the reply, also for a command that failed."""
        ...

    async def logout(self, keep_cache: bool = False) -> Document: ...

    async def begin_login(self, cookie: str | None = None) -> Ticket:
        """`cookie` is what the browser has to bring again; None: a command begins, and `state` alone guards."""
        ...

    def takes_redirect(self) -> bool:
        """Whether the browser that the provider redirects arrives at the admin listener."""
        ...

    async def complete_login(self, query: str, cookie: str | None = None) -> Document:
        """Takes the query of the redirected URL. `cookie` None: it came without one, which only a command's login allows."""
        ...

    async def wait_login(self, state: str, timeout: float) -> Document | None:
        """The outcome of a login, None where there is none within `timeout` seconds."""
        ...

    def selector(self, chosen: Mapping[str, object]) -> Selector:
        """What `{"url"|"prefix"|"route"|"tag": …}` means, `{}` everything. Raises UsageFailure."""
        ...

    def entries(self, selector: Selector, limit: int) -> AsyncIterator[Document]: ...
    async def exceeds(self, selector: Selector, limit: int) -> bool:
        """Whether more than `limit` entries are meant."""
        ...

    async def cache_stats(self) -> Document: ...
    async def show(self, url: str, method: str, data: bytes | None) -> Document | None: ...
    async def purge(self, what: Mapping[str, object]) -> int: ...
    async def explain(self, described: object) -> Document: ...

    def warm(self, described: Sequence[object]) -> AsyncGenerator[Document, None]:
        """What came of each request that is described, as it comes."""
        ...

    async def reload(self) -> Document: ...
