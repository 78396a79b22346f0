"""Where clients connect, and what can be wrong with each place."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from passoproxy.core.access import NetworkRule
from passoproxy.errors import CannotCreate, ServiceUnreachable
from passoproxy.peer_credentials import peer_credentials, tcp_owner
from passoproxy.server.acceptor import Acceptor, Descriptors
from passoproxy.server.connection import Connections, ProxyConnection
from passoproxy.server.handler import Handler
from passoproxy.server.listeners import (
    PeerCheck,
    TlsFiles,
    inherit,
    network_check,
    open_tcp,
    open_unix,
    serve,
    tls_context,
    user_check,
    user_rule,
)
from tests.fakes import Bearers, FakeClock
from tests.server.raw import Client, EchoHop, parse_answers

LAST = b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Served:
    """Servers for listeners; ended by `close`."""

    def __init__(self) -> None:
        self.hop = EchoHop()
        self.connections = Connections(Handler(self.hop, Bearers(), FakeClock()))
        self.acceptors: list[Acceptor[ProxyConnection]] = []

    def __call__(
        self, listener: socket.socket, tls: ssl.SSLContext | None = None, check: PeerCheck | None = None
    ) -> None:
        descriptors = Descriptors(1 << 20, (self.connections,))
        context = None if tls is None else lambda: tls
        self.acceptors.append(serve(listener, self.connections, descriptors, peers=check, tls=context))

    async def close(self) -> None:
        for acceptor in self.acceptors:
            acceptor.close()
        await self.connections.drain(0.0)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    serving = Served()
    yield serving
    await serving.close()


async def asked_tcp(port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> bytes:
    client = Client(*await asyncio.open_connection(host, port, ssl=tls, server_hostname="localhost" if tls else None))
    await client.send(LAST)
    return await client.rest()


async def asked_unix(path: Path) -> bytes:
    client = Client(*await asyncio.open_unix_connection(path))
    try:
        await client.send(LAST)
    except ConnectionError:
        client.writer.close()
        return b""
    return await client.rest()


def closed(listener: socket.socket) -> None:
    listener.close()


# ---- TCP ---------------------------------------------------------------------------------------------------------------


async def test_tcp(served: Served) -> None:
    listener = open_tcp("127.0.0.1", 0)
    served(listener, check=network_check(NetworkRule((ip_network("127.0.0.0/8"),))))
    assert parse_answers(await asked_tcp(listener.getsockname()[1]))[0].status == 200
    assert served.hop.seen[0].client.address == "127.0.0.1"
    assert served.hop.seen[0].head.scheme == "http"


async def test_a_network_that_is_not_listed_gets_no_answer(served: Served) -> None:
    listener = open_tcp("127.0.0.1", 0)
    served(listener, check=network_check(NetworkRule((ip_network("10.0.0.0/8"),))))
    assert await asked_tcp(listener.getsockname()[1]) == b""


def test_ipv6_stays_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        listener = open_tcp("::1", 0)
    except ServiceUnreachable:
        pytest.skip("no IPv6 loopback here")
    assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    with pytest.raises(ServiceUnreachable, match=r"\[::1\]:\d+: the port is in use"):
        open_tcp("::1", listener.getsockname()[1])
    listener.close()


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    first = open_tcp("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(ServiceUnreachable, match=f"127.0.0.1:{port}: the port is in use; .* server.listen") as refused:
        open_tcp("127.0.0.1", port)
    assert refused.value.exit_code == 69
    first.close()


def test_an_address_of_another_machine_and_a_name_of_none() -> None:
    with pytest.raises(ServiceUnreachable, match="choose an address of this machine"):
        open_tcp("192.0.2.1", 0)
    with pytest.raises(ServiceUnreachable, match="the name has no address"):
        open_tcp("name.invalid", 0)


def test_a_port_that_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(CannotCreate, match="choose a port from 1024 up"):
        open_tcp("127.0.0.1", 80)


# ---- unix --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("everyone", "mode"), [(False, 0o600), (True, 0o666)])
async def test_unix(served: Served, tmp_path: Path, everyone: bool, mode: int) -> None:
    path = tmp_path / "proxy.sock"
    served(open_unix(path, everyone=everyone), check=user_check(user_rule(())))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert parse_answers(await asked_unix(path))[0].status == 200
    assert served.hop.seen[0].client.address == f"unix:{os.getuid()}"


async def test_a_unix_peer_that_is_not_listed_is_closed_without_an_answer(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    other = user_rule((), own_user=os.getuid() + 1)
    rule = type(other)(other.users - {os.getuid()}, frozenset({os.getgid() + 4242}))
    served(open_unix(path), check=user_check(rule))
    assert await asked_unix(path) == b""


def test_a_socket_that_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    open_unix(path).close()
    assert path.exists()
    closed(open_unix(path))


def test_a_socket_on_which_somebody_listens_is_not(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    first = open_unix(path)
    with pytest.raises(ServiceUnreachable, match="another process listens there"):
        open_unix(path)
    first.close()


def test_a_socket_of_another_kind_is_somebodys(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ServiceUnreachable):
            open_unix(path)


def test_something_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    path.write_text("precious")
    with pytest.raises(CannotCreate, match="not a socket") as refused:
        open_unix(path)
    assert refused.value.exit_code == 73
    assert path.read_text() == "precious"


def test_a_folder_that_is_not_there_and_a_path_too_long(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    os.umask(mask)
    for path in (tmp_path / "none" / "proxy.sock", tmp_path / ("x" * 200)):
        with pytest.raises(CannotCreate, match="cannot make the socket"):
            open_unix(path)
    assert os.umask(mask) == mask


# ---- inherited ---------------------------------------------------------------------------------------------------------


async def test_inherited(served: Served) -> None:
    given = open_tcp("127.0.0.1", 0)
    listener = inherit(os.dup(given.fileno()))
    given.close()
    served(listener)
    assert parse_answers(await asked_tcp(listener.getsockname()[1]))[0].status == 200


def test_a_descriptor_that_is_no_listening_socket() -> None:
    with pytest.raises(ServiceUnreachable, match=r"\.socket unit"):
        inherit(9999)
    connected, other = socket.socketpair()
    with pytest.raises(ServiceUnreachable):
        inherit(os.dup(connected.fileno()))
    connected.close()
    other.close()


# ---- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_tls(served: Served, authority: trustme.CA, files: TlsFiles, version: str) -> None:
    context = tls_context(TlsFiles(files.cert_file, files.key_file, min_version=version))
    listener = open_tcp("127.0.0.1", 0)
    served(listener, context)
    assert parse_answers(await asked_tcp(listener.getsockname()[1], tls=trusting(authority)))[0].status == 200
    assert served.hop.seen[0].head.scheme == "https"
    assert context.minimum_version == (ssl.TLSVersion.TLSv1_3 if version == "1.3" else ssl.TLSVersion.TLSv1_2)


async def test_plain_http_on_a_tls_listener_and_a_client_that_just_leaves(
    served: Served, authority: trustme.CA, files: TlsFiles
) -> None:
    listener = open_tcp("127.0.0.1", 0)
    served(listener, tls_context(files))
    port = listener.getsockname()[1]
    await asked_tcp(port)
    client = Client(
        *await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority), server_hostname="localhost")
    )
    await client.send(LAST[:-2])
    client.writer.close()
    assert parse_answers(await asked_tcp(port, tls=trusting(authority)))[0].status == 200


async def test_tls_on_a_unix_socket(served: Served, authority: trustme.CA, files: TlsFiles, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    served(open_unix(path), tls_context(files))
    client = Client(*await asyncio.open_unix_connection(path, ssl=trusting(authority), server_hostname="localhost"))
    await client.send(LAST)
    assert parse_answers(await client.rest())[0].status == 200


async def test_client_certificates(served: Served, authority: trustme.CA, files: TlsFiles, tmp_path: Path) -> None:
    context = tls_context(TlsFiles(files.cert_file, files.key_file, tmp_path / "ca.pem"))
    listener = open_tcp("127.0.0.1", 0)
    served(listener, context)
    known = trusting(authority)
    authority.issue_cert("client").configure_cert(known)
    assert parse_answers(await asked_tcp(listener.getsockname()[1], tls=known))[0].status == 200
    try:
        assert await asked_tcp(listener.getsockname()[1], tls=trusting(authority)) == b""
    except (ssl.SSLError, ConnectionError):
        pass
    assert len(served.hop.seen) == 1


def test_files_that_cannot_be_used_are_named(files: TlsFiles, tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")
    with pytest.raises(CannotCreate, match=r"none\.pem"):
        tls_context(TlsFiles(tmp_path / "none.pem", files.key_file))
    with pytest.raises(CannotCreate, match=r"garbage\.pem"):
        tls_context(TlsFiles(files.cert_file, tmp_path / "garbage.pem"))
    with pytest.raises(CannotCreate, match=r"client_ca_file: .*garbage\.pem"):
        tls_context(TlsFiles(files.cert_file, files.key_file, tmp_path / "garbage.pem"))


# ---- users -------------------------------------------------------------------------------------------------------------


def test_users_and_groups_by_name_and_number() -> None:
    rule = user_rule(["root", "12345", "daemon"], own_user=7)
    assert {0, 7, 12345} <= rule.users
    assert rule.groups
    with pytest.raises(ValueError, match="'nobody-of-that-name'"):
        user_rule(["nobody-of-that-name"])


async def test_a_peer_of_a_listed_group(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    rule = type(user_rule(()))(frozenset(), frozenset(os.getgroups() or [os.getgid()]) | {os.getgid()})
    served(open_unix(path), check=user_check(rule))
    assert parse_answers(await asked_unix(path))[0].status == 200


def test_the_kernel_tells_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    assert peer_credentials(one) == (os.getuid(), os.getgid())
    one.close()
    other.close()


def test_whose_a_connection_is_while_it_stands() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
            with socket.socket(family) as client:
                client.connect((host, listener.getsockname()[1]))
                served, name = listener.accept()
                with served:
                    assert tcp_owner(name, served.getsockname()) == os.getuid()
                    assert tcp_owner(served.getsockname(), name) == os.getuid()
                    client.shutdown(socket.SHUT_WR)
                    assert served.recv(1) == b""
                    assert tcp_owner(name, served.getsockname()) is None
    assert tcp_owner("", ("127.0.0.1", 80)) is None
    assert tcp_owner(("192.0.2.1", 80), ("127.0.0.1", 80)) is None
