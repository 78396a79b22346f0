"""Connections that are taken, and those that are not: peers, handshakes, limits, descriptors, and faults of accepting."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
import trustme
import uvloop

from passoproxy.core.access import NetworkRule, holder_of
from passoproxy.core.events import Warned
from passoproxy.server.acceptor import RESERVE, Acceptor, Descriptors, Table, Trouble, make_room
from passoproxy.server.connection import Limits
from passoproxy.server.listeners import network_check, open_tcp
from tests.fakes import RememberingObserver
from tests.server.conftest import Listen
from tests.server.raw import PATIENCE, Client, EchoHop, listening, parse_answers

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def hello(context: ssl.SSLContext) -> bytes:
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


# ---- TLS ---------------------------------------------------------------------------------------------------------------


async def test_a_peer_that_is_not_allowed_gets_no_handshake(
    listen: Listen, server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    check = network_check(NetworkRule((ip_network("10.0.0.0/8"),)))
    running = await listen(EchoHop(), Limits(), peer_check=check, tls=server_side)
    client = await running.connect()
    client.writer.write(hello(client_side))
    assert await client.rest() == b""


async def test_connections_in_a_handshake_count_and_make_room_once_they_are_silent(
    listen: Listen, server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    running = await listen(EchoHop(), Limits(connections=3, header_timeout=1000), tls=server_side)
    silent = [await running.connect() for _ in range(3)]
    await until(lambda: running.connections.count == 3)

    async def asked() -> int:
        late = Client(
            *await asyncio.open_connection("127.0.0.1", running.port, ssl=client_side, server_hostname="localhost")
        )
        await late.send(LAST)
        return parse_answers(await late.rest())[0].status

    statuses = set[int]()
    async with asyncio.timeout(PATIENCE):
        while 200 not in statuses:
            statuses.add(await asked())
            assert running.connections.count <= 3
    assert statuses <= {200, 503}
    assert await silent[0].rest() == b""


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("said", [0, 7])
def test_a_handshake_has_the_time_of_a_head(
    loop: Callable[..., None], said: int, server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async def conversation() -> None:
        running = await listening(EchoHop(), Limits(header_timeout=0.2), tls=server_side)
        client = await running.connect()
        client.writer.write(hello(client_side)[:said])
        assert await client.rest() == b""
        await until(lambda: running.connections.count == 0)
        await running.close()

    loop(conversation())


# ---- who makes room ----------------------------------------------------------------------------------------------------


class Held:
    """A connection as a table sees it."""

    def __init__(self, holder: str, silent_since: float | None = None, busy: bool = False) -> None:
        self.holder, self.silent_since, self.busy, self.dropped = holder, silent_since, busy, False

    def drop(self) -> None:
        self.dropped = True


@pytest.mark.parametrize(
    ("held", "newcomer", "goes"),
    [
        ([("a", 5.0), ("b", 1.0)], "c", 1),  # the most silent
        ([("a", 5.0), ("b", 1.0), ("a", 6.0)], "c", 0),  # of the holder of most
        ([("a", 5.0), ("", 1.0), ("", 2.0), ("", 3.0), ("a", 6.0)], "c", 0),  # this machine is not one holder
        ([("", 2.0), ("", 1.0)], "", 1),
        ([("a", None), ("a", None), ("b", 3.0)], "c", 2),  # what is asked and not answered stays
        ([("a", None), ("b", None)], "c", None),
        ([("a", None), ("a", None), ("b", 3.0)], "a", None),  # not for one who holds more already
        ([("a", None), ("a", 4.0), ("b", 3.0)], "a", 1),
        ([("a", None), ("a", None), ("", 3.0)], "a", None),
        ([("a", 3.0, True), ("a", 2.0, True), ("a", None)], "b", 1),  # busy ones of one who holds more
        ([("a", 3.0, True), ("a", 5.0), ("a", None)], "b", 1),  # and idle ones first
        ([("a", 3.0, True), ("a", 2.0, True), ("b", 1.0)], "b", 2),
        ([("a", 3.0, True), ("a", 2.0, True), ("b", None)], "b", None),
        ([("a", 3.0, True), ("a", 2.0, True)], "a", None),
        ([("", 3.0, True), ("", 2.0, True)], "", None),
    ],
)
def test_who_makes_room(held: list[tuple[Any, ...]], newcomer: str, goes: int | None) -> None:
    table = Table[Held]()
    connections = [Held(*each) for each in held]
    for connection in connections:
        assert table.admit(connection, 100)
    assert make_room((Table[Held](), table), newcomer) is (goes is not None)
    assert [each.dropped for each in connections] == [at == goes for at in range(len(held))]
    assert table.count == len(held) - (goes is not None)


@pytest.mark.parametrize(
    ("address", "holder"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("unix:1000", ""),
        ("", ""),
    ],
)
def test_who_holds_a_connection(address: str, holder: str) -> None:
    assert holder_of(address) == holder


# ---- descriptors -------------------------------------------------------------------------------------------------------


def most_with(free: int) -> int:
    """The limit of descriptors with which so many more connections may be taken before the reserve is touched."""
    lowest = os.dup(0)
    os.close(lowest)
    return next(most for most in range(lowest, 1 << 20) if most - min(RESERVE, most // 4) >= lowest + free)


async def test_at_the_limit_of_descriptors_the_most_silent_connection_makes_room_and_it_is_told(listen: Listen) -> None:
    running = await listen(EchoHop(), most_descriptors=most_with(10))
    kept: list[Client] = []
    while len(kept) < 20:  # each takes two descriptors here
        kept.append(await running.connect())
        await kept[-1].send(GET)
        assert (await kept[-1].one()).status == 200
    assert await kept[0].rest() == b""
    (told,) = running.observer.of(Warned)
    assert (told.code, told.over) == ("descriptors_short", False)  # type: ignore[attr-defined]
    assert "LimitNOFILE=" in told.detail  # type: ignore[attr-defined]


async def test_at_the_limit_of_descriptors_one_more_is_closed_where_all_are_needed(listen: Listen) -> None:
    running = await listen(EchoHop(), most_descriptors=most_with(3))
    first = await running.connect()
    await first.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
    await asyncio.sleep(0)
    assert await (await running.connect()).rest() == b""
    await first.send(b"abc")
    assert (await first.one()).body == b"abc"


class Failing(socket.socket):
    """A listening socket whose `accept` fails as often as it is told to; counts."""

    asked, faults = 0, 0

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.faults:
            self.faults -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run])
def test_a_fault_of_accepting_is_told_once_and_tried_again_without_haste(loop: Callable[..., None]) -> None:
    async def conversation() -> None:
        plain, observer, taken = open_tcp("127.0.0.1", 0), RememberingObserver(), list[str]()
        listener = Failing(fileno=plain.detach())
        listener.faults = 2

        def take(sock: socket.socket, address: str) -> None:
            taken.append(address)

        acceptor = Acceptor(listener, take, Descriptors(1 << 20, observer=observer))
        client = socket.create_connection(listener.getsockname())
        await until(lambda: bool(taken))
        client.close()
        assert taken == ["127.0.0.1"]
        assert listener.asked <= 4
        assert [(told.code, told.over) for told in observer.of(Warned)] == [("accept_failed", False)]  # type: ignore[attr-defined]
        acceptor.close()
        acceptor.close()

    loop(conversation())


async def test_trouble_is_told_at_once_while_it_lasts_and_when_it_is_over() -> None:
    observer = RememberingObserver()
    trouble = Trouble("somewhere", observer, every=0.2)
    for _ in range(5):
        trouble.tell("it hurts")
    told = observer.of(Warned)
    assert len(told) == 1
    await until(lambda: len(observer.of(Warned)) == 3)
    assert [(each.detail, each.over) for each in observer.of(Warned)] == [  # type: ignore[attr-defined]
        ("it hurts", False),
        ("it hurts (4 times in the last 0.2 s)", False),
        ("not in the last 0.2 s", True),
    ]


async def test_the_kernel_holds_little_for_each_connection() -> None:
    """By itself it goes up to tens of megabytes of what is not read, and of what is not taken."""
    held: list[tuple[int, int]] = []

    def take(sock: socket.socket, address: str) -> None:
        unsent = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        held.append((sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), unsent))

    listener = open_tcp("127.0.0.1", 0)
    acceptor = Acceptor(listener, take, Descriptors(1 << 20))
    with socket.create_connection(listener.getsockname()):
        await until(lambda: bool(held))
    acceptor.close()
    assert max(held[0]) <= 128 * 1024
