"""The way to a Redis or Valkey: clients made from `store.url`, and the library's errors as ours. What is kept there is others' business."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

if TYPE_CHECKING:
    import redis
    import redis.asyncio

PATIENCE = 1.5
"""Seconds that a connection and an answer may take: a lease is short, and a store that is slower than this is away."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of what one fleet keeps. The braces would keep them on one node of a cluster, where one script may touch them all."""

    prefix: str

    @classmethod
    def of(cls, identity: str) -> Keys:
        """The names for `identity`, a digest of provider, client and grant: fleets of others on the same store are not ours."""
        return cls(f"passoproxy:{{{identity[:24]}}}:")

    def __getattr__(self, name: str) -> str:
        return self.prefix + name


class RedisLink:
    """Clients for one store. `password` is asked for at every connection, so that a changed one counts at once."""

    def __init__(self, url: str, password: Callable[[], str] | None = None, ca_file: Path | None = None) -> None:
        """Raises ConfigurationError where the library is missing or the URL is none."""
        self._library = _library()
        self._url, self._password, self._ca_file = url, password, ca_file
        parts = urlsplit(url)
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        """The store as people are told of it."""
        self._user = parts.username
        with self._checked():
            self._client: redis.Redis = self._library.Redis.from_url(self._plain_url(), **self._options())

    def lua(self, source: str, keys: Sequence[str], *arguments: str | bytes | int) -> list[Any]:
        """Runs a script and gives its answer. Blocks for at most a few seconds. Raises PairStoreFailure where the store is away."""
        with self.told():
            return cast("list[Any]", self._client.register_script(source)(keys=list(keys), args=list(arguments)))

    def fields(self, key: str) -> dict[bytes, bytes]:
        """A whole hash. Raises PairStoreFailure."""
        with self.told():
            return cast("dict[bytes, bytes]", self._client.hgetall(key))

    def listeners(self, channel: str) -> int:
        """How many clients hear what is published there. Raises PairStoreFailure."""
        with self.told():
            return int(self._client.pubsub_numsub(channel)[0][1])

    def asynchronous(
        self, *, connect_seconds: float = PATIENCE, answer_seconds: float = 3 * PATIENCE
    ) -> redis.asyncio.Redis:
        """A client for the loop, which whoever asked closes. A blocking command may be silent for longer than a connection may take to stand."""
        import redis.asyncio

        waits = {"socket_connect_timeout": connect_seconds, "socket_timeout": answer_seconds}
        options = {**self._options(asynchronous=True), **waits}
        return redis.asyncio.Redis.from_url(self._plain_url(), **options)

    def close(self) -> None:
        """Lets go of every connection; the next call makes a new one."""
        with contextlib.suppress(Exception):
            self._client.close()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """The library's errors as PairStoreAway."""
        try:
            yield
        except PairStoreFailure:
            raise
        except PassoproxyError as fault:  # the password cannot be read now
            raise PairStoreAway(f"store.url {self.shown}: cannot be used: {fault}") from fault
        except (self._library.exceptions.RedisError, OSError, TimeoutError) as fault:
            # the library's text may repeat what was sent, so only its kind is told, and the server's own word for it
            text = str(fault)
            word = text.split(" ", 1)[0] if text[:1].isupper() and text.split(" ", 1)[0].isupper() else ""
            why = word or type(fault).__name__
            raise PairStoreAway(
                f"store.url {self.shown}: cannot be used ({why}); check that it runs, and store.password_file and store.ca_file"
            ) from fault

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError) as fault:
            problem = f"is not a URL that the redis library takes ({fault})"
            raise ConfigurationError(
                Fault("", "store.url", problem, "write for example redis://127.0.0.1:6379/0")
            ) from fault

    def _plain_url(self) -> str:
        """Without user information: that is the credential provider's."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def _options(self, *, asynchronous: bool = False) -> dict[str, Any]:
        library = self._library
        if asynchronous:
            from redis.asyncio.retry import Retry
        else:
            from redis.retry import Retry  # type: ignore[assignment]
        options: dict[str, Any] = {
            "socket_timeout": PATIENCE,
            "socket_connect_timeout": PATIENCE,
            # nothing is sent twice behind our back: whether a write counted is for the next one to find out
            "retry": Retry(library.backoff.NoBackoff(), 0),
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
    """Closes every connection of a client, to the end also where whoever waits is cancelled meanwhile: what is cut off there stays open."""
    closing = asyncio.ensure_future(client.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing})
        closing.exception()  # looked at: a store that is gone needs no closing
        raise


def heed_cancellation() -> None:
    """Raises CancelledError in a task that was cancelled. Who loops over the library's calls looks himself: up to Python 3.11 `asyncio.wait_for`,
    by which it writes, may swallow a cancellation (python/cpython#86296), and the loop would go on for ever."""
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
