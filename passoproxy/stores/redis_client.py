"""The connection to a Redis or Valkey server, for the pair and for entries: clients made from `store.url`, library errors as the project's own.

Which keys exist and what they hold is defined by the stores that use a client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from passoproxy.errors import (
    ConfigurationError,
    Fault,
    PairStoreAway,
    PairStoreFailure,
    PassoproxyError,
    missing_library,
)
from passoproxy.values import dataclass

if TYPE_CHECKING:
    import redis
    import redis.asyncio

PATIENCE = 1.5
"""Seconds for a connection and for an answer: a lease is short, so a slower store counts as away."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one fleet. The braces keep them on one node of a cluster, so that one script may touch them all."""

    prefix: str

    @classmethod
    def of(cls, identity: str) -> Keys:
        """The names for `identity`, a digest of provider, client and grant."""
        return cls(f"passoproxy:{{{identity[:24]}}}:")

    def __getattr__(self, name: str) -> str:
        return self.prefix + name


class RedisLink:
    """Clients for one server. `password` is read at every connection, so that a changed one takes effect at once."""

    def __init__(self, url: str, password: Callable[[], str] | None = None, ca_file: Path | None = None) -> None:
        """Raises ConfigurationError if the library is missing or the URL is invalid."""
        self._library = _library()
        self._password, self._ca_file = password, ca_file
        parts = urlsplit(url)
        self._user, authority = parts.username, parts.netloc.rpartition("@")[2]
        self._url = parts._replace(
            netloc=authority
        ).geturl()  # without user information: the credential provider has it
        self.shown = f"{parts.scheme}://{authority}{parts.path}"
        """The server in messages."""
        try:
            self._client: redis.Redis = self._library.Redis.from_url(self._url, **self._options())
        except (ValueError, TypeError) as fault:
            problem = f"is not a URL that the redis library takes ({fault})"
            raise ConfigurationError(
                Fault("", "store.url", problem, "write for example redis://127.0.0.1:6379/0")
            ) from fault

    def lua(self, source: str, keys: Sequence[str], *arguments: str | bytes | int) -> list[Any]:
        """Runs a script and returns its answer. Blocks for a few seconds at most. Raises PairStoreFailure."""
        with self.told():
            return cast("list[Any]", self._client.register_script(source)(keys=list(keys), args=list(arguments)))

    def get(self, key: str) -> bytes | None:
        """A value. Blocks. Raises PairStoreFailure."""
        with self.told():
            return cast("bytes | None", self._client.get(key))

    def put(self, key: str, value: bytes | None) -> None:
        """Sets a value; None removes it. Blocks. Raises PairStoreFailure."""
        with self.told():
            if value is None:
                self._client.delete(key)
            else:
                self._client.set(key, value)

    def fields(self, key: str) -> dict[bytes, bytes]:
        """A whole hash. Blocks. Raises PairStoreFailure."""
        with self.told():
            return cast("dict[bytes, bytes]", self._client.hgetall(key))

    def put_field_aside(self, key: str, name: str, value: bytes) -> None:
        """Sets a field of a hash that is not there yet. Blocks. Raises PairStoreFailure."""
        with self.told():
            self._client.hsetnx(key, name, value)

    def listeners(self, channel: str) -> int:
        """The number of subscribers of a channel. Blocks. Raises PairStoreFailure."""
        with self.told():
            return int(self._client.pubsub_numsub(channel)[0][1])

    def asynchronous(
        self, *, connect_seconds: float = PATIENCE, answer_seconds: float = 3 * PATIENCE
    ) -> redis.asyncio.Redis:
        """A client for the event loop; the caller closes it. A blocking command has to answer within `answer_seconds`."""
        import redis.asyncio
        from redis.asyncio.retry import Retry

        options = self._options() | {
            "socket_connect_timeout": connect_seconds,
            "socket_timeout": answer_seconds,
            "retry": Retry(self._library.backoff.NoBackoff(), 0),
        }
        return redis.asyncio.Redis.from_url(self._url, **options)

    def close(self) -> None:
        """Closes every connection of the blocking client; the next call opens a new one."""
        with contextlib.suppress(Exception):
            self._client.close()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raises the library's errors as PairStoreAway."""
        try:
            yield
        except PairStoreFailure:
            raise
        except PassoproxyError as fault:  # the password cannot be read now
            raise PairStoreAway(f"store.url {self.shown}: cannot be used: {fault}") from fault
        except (self._library.exceptions.RedisError, OSError, TimeoutError) as fault:
            # The library's text may repeat what was sent: only the server's error code or the class is shown.
            code = str(fault).partition(" ")[0]
            why = code if code.isupper() else type(fault).__name__
            raise PairStoreAway(
                f"store.url {self.shown}: cannot be used ({why}); check that it runs, and store.password_file and store.ca_file"
            ) from fault

    def _options(self) -> dict[str, Any]:
        from redis.retry import Retry

        options: dict[str, Any] = {
            "socket_timeout": PATIENCE,
            "socket_connect_timeout": PATIENCE,
            # The library repeats nothing: whether a write took effect is found out by its caller.
            "retry": Retry(self._library.backoff.NoBackoff(), 0),
            "client_name": "passoproxy",
            "protocol": 2,
        }
        if self._password is not None or self._user is not None:
            options["credential_provider"] = self._provider()
        if self._ca_file is not None and self._url.startswith("rediss:"):
            options["ssl_ca_certs"] = str(self._ca_file)
        return options

    def _provider(self) -> object:
        password, user = self._password or (lambda: ""), self._user

        class Provider(self._library.credentials.CredentialProvider):  # type: ignore[name-defined, misc]
            def get_credentials(self) -> tuple[str] | tuple[str, str]:
                return (password(),) if user is None else (user, password())

        return Provider()


async def let_go(client: redis.asyncio.Redis) -> None:
    """Closes every connection of a client, also if the caller is cancelled meanwhile."""
    closing = asyncio.ensure_future(client.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing})
        closing.exception()  # retrieved: a connection that is gone needs no closing
        raise


async def ended(task: asyncio.Task[None]) -> None:
    """Cancels a task that talks to the server and waits for its end. It cancels again, for the reason given in `heed_cancellation`."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)


def heed_cancellation() -> None:
    """Raises CancelledError in a task that was cancelled; to be called in every loop over the library's calls.

    Up to Python 3.11 `asyncio.wait_for`, which the library writes with, may swallow a cancellation (python/cpython#86296).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _library() -> ModuleType:
    try:
        import redis
        import redis.backoff
        import redis.credentials
        import redis.exceptions
    except ImportError as fault:
        raise ConfigurationError(missing_library("store.url", "redis>=8")) from fault
    return redis
