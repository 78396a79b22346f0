"""Takes connections from a listening socket: peers are judged before a byte is read or a handshake begins, some descriptors are kept
for the daemon's own work, and a fault in accepting is told and lived through.

The loops' own servers are not used: at the limit of descriptors uvloop's closes every connection that waits without a word.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from passoproxy.core.access import holder_of
from passoproxy.core.events import Warned
from passoproxy.ports import Observer, nobody

RESERVE = 64
"""Descriptors kept for files, the store and connections to origin and provider; a quarter of all if there are few."""

TOLD_EVERY = 60.0
"""Seconds between two lines about one trouble while it lasts."""

_TURN = 32  # connections taken in one turn of the loop, so that those under way get theirs
_PAUSE = 0.5  # seconds after a fault of accept: trying on at once would take all of a core
_SHORT = frozenset({errno.EMFILE, errno.ENFILE})
# Faults of the connection that was to be taken, and not of taking it (accept(2)).
_OF_THE_PEER = frozenset(
    {
        errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPERM,
    }
)  # fmt: skip

_UNREAD_BYTES = 64 * 1024
"""So much of what a client sent, twice over, the kernel holds while it is not read: by itself it goes up to tens of megabytes."""

_UNSENT_BYTES = 64 * 1024
"""So much of what is written to a client the kernel holds before it is sent: what a client does not take waits in small amounts."""

SILENT_SECONDS = 1.0
"""After which a connection whose request has not come whole may make room for another."""

P = TypeVar("P", bound=asyncio.Protocol)
C = TypeVar("C", bound="Connection")

Factory = Callable[[socket.socket, str], P | None]
"""The protocol for a connection that was taken, and the address of its peer; None for one that may not be, which is closed."""


class Connection(Protocol):
    """A connection, as those who count see it. `holder` is whom it counts for (`core.peers.holder_of`)."""

    @property
    def holder(self) -> str: ...

    @property
    def silent_since(self) -> float | None:
        """Since when its client has neither sent nor taken anything, by the loop's time; None if it may not be dropped, because the client is
        not what is waited for, or the connection has only just begun."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a request is under way that would be lost with it."""
        ...

    def drop(self) -> None:
        """Ends it, and whatever is done for it, at once."""
        ...


class Table(Generic[C]):
    """The connections of one listener (or of several that share a limit)."""

    def __init__(self) -> None:
        self._open: dict[C, None] = {}

    @property
    def count(self) -> int:
        """Connections that are open, those in a TLS handshake included."""
        return len(self._open)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._open))

    def admit(self, connection: C, most: int) -> bool:
        """Counts a new connection; False if there are `most` and none of them can make room."""
        if len(self._open) >= most and not make_room((self,), connection.holder):
            return False
        self._open[connection] = None
        return True

    def forget(self, connection: C) -> None:
        """The connection is closed, or as good as closed."""
        self._open.pop(connection, None)


def make_room(tables: Iterable[Table[Any]], newcomer: str) -> bool:
    """Drops the most silent connection of the holder that has most, for a new one of the holder `newcomer`; False if none may be dropped.

    No connection makes room for a holder that has more, and no busy one for a holder that has as many. A connection from this machine is
    a holder of its own, so no busy one is dropped for it.
    """
    seen = [(table, connection) for table in tables for connection in table]
    held = Counter(connection.holder for _, connection in seen)
    held[""] = 1
    own = held[newcomer] + 1 if newcomer else 1
    best, chosen = (0, False, 0.0), None
    for table, connection in seen:
        count, since, busy = held[connection.holder], connection.silent_since, connection.busy
        if since is None or (count < own and connection.holder != newcomer) or (busy and count <= own):
            continue
        if chosen is None or (count, not busy, -since) > best:
            best, chosen = (count, not busy, -since), (table, connection)
    if chosen is None:
        return False
    chosen[1].drop()
    chosen[0].forget(chosen[1])
    return True


class Trouble:
    """Tells of something that happens again and again: at once, each `TOLD_EVERY` seconds while it lasts, and that it is over."""

    def __init__(self, code: str, observer: Observer, every: float = TOLD_EVERY) -> None:
        self._code, self._observer, self._every = code, observer, every
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, detail: str) -> None:
        """It happened."""
        self._count += 1
        self._detail = detail
        if self._timer is None:
            self._say()

    def _say(self) -> None:
        times = f" ({self._count} times in the last {self._every:g} s)" if self._count > 1 else ""
        self._observer(Warned(self._code, self._detail + times))
        self._count = 0
        self._timer = asyncio.get_running_loop().call_later(self._every, self._look)

    def _look(self) -> None:
        if self._count:
            self._say()
            return
        self._timer = None
        self._observer(Warned(self._code, f"not in the last {self._every:g} s", over=True))


class Descriptors:
    """The descriptors that this process may have open, `most` in all; the connections of `tables` make room if they run short."""

    def __init__(self, most: int, tables: Iterable[Table[Any]] = (), observer: Observer = nobody) -> None:
        self.tables = list(tables)
        self._last = most - min(RESERVE, most // 4)
        self._short = Trouble("descriptors_short", observer)
        self.faults = Trouble("accept_failed", observer)

    def suffice(self, descriptor: int, holder: str) -> bool:
        """Whether a connection with this descriptor may stay. The kernel gives the lowest number that is free, so it tells how many are in use."""
        if descriptor < self._last:
            return True
        made = make_room(self.tables, holder)
        self._short.tell(
            f"nearly all descriptors of this process are in use: {'a silent connection was closed for' if made else 'no room for'} a new one;"
            " allow more (LimitNOFILE= in the unit, ulimit -n), or lower server.limits.connections"
        )
        return made


class Acceptor(Generic[P]):
    """Takes the connections of one listening socket until `close`, which closes the socket too.

    `begun` is told of each protocol that is connected, or never will be. `tls` is asked for each connection, so that a new certificate or
    authority holds for the next one; a session that was begun under another context is not resumed.
    """

    def __init__(
        self,
        listener: socket.socket,
        factory: Factory[P],
        descriptors: Descriptors,
        *,
        begun: Callable[[P], None] | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        handshake_timeout: Callable[[], float] = lambda: 10.0,
    ) -> None:
        self._listener, self._factory, self._descriptors = listener, factory, descriptors
        self._begun, self._tls, self._handshake_timeout = begun, tls, handshake_timeout
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._closed = False
        # Its connections inherit these.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNREAD_BYTES)
        if listener.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._ready)

    def close(self) -> None:
        """Takes no more; may be called again. Connections that were taken live on."""
        if self._closed:
            return
        self._closed = True
        if self._paused is None:
            self._loop.remove_reader(self._listener.fileno())
        else:
            self._paused.cancel()
        self._listener.close()

    def _ready(self) -> None:
        for _ in range(_TURN):
            try:
                sock, name = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as fault:
                if fault.errno in _OF_THE_PEER:
                    continue
                self._pause(fault)
                return
            self._take(sock, str(name[0]) if isinstance(name, tuple) else "")

    def _take(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        suffices = self._descriptors.suffice(sock.fileno(), holder_of(address))
        protocol = self._factory(sock, address) if suffices else None
        if protocol is None:
            sock.close()
            return
        task = self._loop.create_task(self._begin(sock, protocol))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, sock: socket.socket, protocol: P) -> None:
        loop = self._loop
        try:
            if self._tls is None:
                await loop.connect_accepted_socket(lambda: protocol, sock)
            else:
                await loop.connect_accepted_socket(
                    lambda: protocol, sock, ssl=self._tls(), ssl_handshake_timeout=self._handshake_timeout()
                )
        except OSError:
            pass  # the handshake failed or took too long; the loop has closed the socket
        finally:
            if self._begun is not None:
                self._begun(protocol)

    def _pause(self, fault: OSError) -> None:
        if fault.errno in _SHORT:
            make_room(self._descriptors.tables, "")
        self._descriptors.faults.tell(
            f"connections cannot be taken ({fault.strerror}); it is tried again every {_PAUSE:g} s"
        )
        self._loop.remove_reader(self._listener.fileno())
        self._paused = self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listener.fileno(), self._ready)
