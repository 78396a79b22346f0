"""A certificate that is renewed under a listener that goes on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from passoproxy.core.events import Warned
from passoproxy.errors import CannotCreate
from passoproxy.server.acceptor import Acceptor, Descriptors
from passoproxy.server.listeners import Certificate, TlsFiles, open_tcp
from tests.fakes import FakeClock, RememberingObserver


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


class Stand:
    """A listener with a certificate, and two authorities that issue one."""

    def __init__(self, folder: Path, clients: bool) -> None:
        self.first, self.second = trustme.CA(), trustme.CA()
        self.cert, self.key, self.clients = folder / "cert.pem", folder / "key.pem", folder / "clients.pem"
        self.renew(self.first)
        self.trust(self.first)
        self.certificate = Certificate(TlsFiles(self.cert, self.key, self.clients if clients else None))
        self.listener = open_tcp("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]

    def renew(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(self.cert))
        issued.private_key_pem.write_to_path(str(self.key))

    def trust(self, authority: trustme.CA) -> None:
        authority.cert_pem.write_to_path(str(self.clients))

    async def greeted(self, trusted: trustme.CA, name: str = "localhost", shown: trustme.CA | None = None) -> bool:
        context = ssl.create_default_context()
        trusted.configure_trust(context)
        if shown is not None:
            shown.issue_cert("client@example.com").configure_cert(context)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)
            said = await reader.read()
            writer.close()
            return said == b"hello"
        except (ssl.SSLError, ConnectionError):
            return False


@pytest.fixture
async def stand(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    made = Stand(tmp_path, getattr(request, "param", False))
    acceptor = Acceptor(
        made.listener, lambda sock, address: Greeting(), Descriptors(1 << 20), tls=lambda: made.certificate.context
    )
    yield made
    acceptor.close()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])  # the second sends no server name
async def test_new_connections_get_the_new_one(stand: Stand, name: str) -> None:
    assert await stand.greeted(stand.first, name)
    assert not stand.certificate.look()
    stand.renew(stand.second)
    assert await stand.greeted(stand.first, name)
    assert stand.certificate.look()
    assert await stand.greeted(stand.second, name)
    assert not await stand.greeted(stand.first, name)


@pytest.mark.parametrize("stand", [True], indirect=True)
async def test_an_authority_of_clients_can_be_taken_away(stand: Stand) -> None:
    assert await stand.greeted(stand.first, shown=stand.first)
    assert not await stand.greeted(stand.first)
    assert not await stand.greeted(stand.first, shown=stand.second)
    stand.trust(stand.second)
    assert stand.certificate.look()
    assert await stand.greeted(stand.first, shown=stand.second)
    assert not await stand.greeted(stand.first, shown=stand.first)


@pytest.mark.parametrize("stand", [True], indirect=True)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_ends_with_the_authority_that_vouched_for_it(stand: Stand, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.maximum_version = version
    stand.first.configure_trust(context)
    stand.first.issue_cert("client@example.com").configure_cert(context)

    def greeted(session: ssl.SSLSession | None) -> tuple[bytes, bool, ssl.SSLSession | None]:
        """What came, whether the session was resumed, and the one that came of it."""
        with (
            socket.create_connection(("127.0.0.1", stand.port)) as sock,
            context.wrap_socket(sock, server_hostname="localhost", session=session) as secure,
        ):
            try:
                said = secure.recv(5)
            except (ssl.SSLError, ConnectionError):
                return b"", False, None
            return said, bool(secure.session_reused), secure.session

    said, resumed, session = await asyncio.to_thread(greeted, None)
    assert (said, resumed) == (b"hello", False)
    said, resumed, session = await asyncio.to_thread(greeted, session)
    assert (said, resumed) == (b"hello", True)
    stand.trust(stand.second)
    assert stand.certificate.look()
    try:
        said, *_ = await asyncio.to_thread(greeted, session)
    except (ssl.SSLError, ConnectionError):
        said = b""
    assert said == b""


async def test_another_authority_is_told_of_and_another_certificate_is_not(tmp_path: Path) -> None:
    told: list[str] = []
    stand = Stand(tmp_path, clients=True)
    stand.listener.close()
    certificate = Certificate(
        TlsFiles(stand.cert, stand.key, stand.clients), on_new_authority=lambda: told.append("new")
    )
    stand.renew(stand.second)
    assert certificate.look()
    assert told == []
    stand.trust(stand.second)
    assert certificate.look()
    assert told == ["new"]


async def test_half_a_renewal_changes_nothing_and_is_told_once(stand: Stand) -> None:
    clock, observer = FakeClock(), RememberingObserver()
    task = asyncio.create_task(stand.certificate.keep_following(clock, observer))
    try:
        stand.key.unlink()
        await clock.advance(25)
        (told,) = observer.of(Warned)
        assert told.code == "certificate_refused"  # type: ignore[attr-defined]
        assert str(stand.key) in told.detail  # type: ignore[attr-defined]
        assert await stand.greeted(stand.first)
        stand.renew(stand.second)
        await clock.advance(10)
        assert await stand.greeted(stand.second)
        assert len(observer.events) == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_that_may_not_be_used_is_refused_at_each_reading(stand: Stand) -> None:
    def check(key_file: Path) -> None:
        if key_file.stat().st_mode & 0o004:
            raise CannotCreate(f"{key_file}: open to all")

    stand.key.chmod(0o600)
    certificate = Certificate(TlsFiles(stand.cert, stand.key), check)
    stand.renew(stand.second)
    stand.key.chmod(0o644)
    with pytest.raises(CannotCreate, match="open to all"):
        certificate.look()
    assert not certificate.look()
    stand.key.chmod(0o600)
    assert certificate.look()
    stand.key.chmod(0o644)
    with pytest.raises(CannotCreate, match="open to all"):
        Certificate(TlsFiles(stand.cert, stand.key), check)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match=r"server\.tls"):
        Certificate(TlsFiles(tmp_path / "none", tmp_path / "none"))
