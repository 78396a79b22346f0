"""Where clients connect: sockets for host and port, unix path and inherited descriptor; which peers may (contract §3 `allowed_peers`,
`unix_peers`); and the certificate of a TLS listener, which is followed in its files (contract §3: every `*_file`).

Which listeners are wanted, and whether they are safe, is configuration; what is spoken on them is the business of `connection`.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from passoproxy.core.access import NetworkRule, UserRule
from passoproxy.core.events import Warned
from passoproxy.errors import CannotCreate, PassoproxyError, ServiceUnreachable
from passoproxy.folders import stamp_of
from passoproxy.peer_credentials import peer_credentials, peer_groups
from passoproxy.ports import Clock, Observer
from passoproxy.server.acceptor import Acceptor, Descriptors
from passoproxy.server.connection import Connections, ProxyConnection
from passoproxy.values import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """`address`: IP text, or `unix:UID`."""

    address: str
    allowed: bool = True


PeerCheck = Callable[[socket.socket, str], Peer]
"""Asked when a connection was taken, with the address that came with it ('' on unix sockets), before a byte is read or a handshake begins."""


def network_check(rule: NetworkRule) -> PeerCheck:
    """Checks TCP peers by their address."""

    def check(sock: socket.socket, address: str) -> Peer:
        return Peer(address, rule.allows(address))

    return check


def user_check(rule: UserRule) -> PeerCheck:
    """Checks unix peers by what the kernel says of them."""

    def check(sock: socket.socket, address: str) -> Peer:
        user, _ = peer_credentials(sock)
        return Peer(f"unix:{user}", rule.allows(user, peer_groups(sock) if rule.groups else ()))

    return check


def user_rule(unix_peers: Sequence[str], own_user: int | None = None) -> UserRule:
    """The rule that names of users and groups mean: they, the daemon's own user and root; numbers count as users.

    Raises ValueError naming an entry that is neither.
    """
    users = {0, os.getuid() if own_user is None else own_user}
    groups: set[int] = set()
    for name in unix_peers:
        if name.isdecimal():
            users.add(int(name))
            continue
        found = False
        with suppress(KeyError):
            users.add(pwd.getpwnam(name).pw_uid)
            found = True
        with suppress(KeyError):
            groups.add(grp.getgrnam(name).gr_gid)
            found = True
        if not found:
            raise ValueError(f"server.unix_peers: {name!r} is neither a user nor a group of this machine")
    return UserRule(frozenset(users), frozenset(groups))


BACKLOG = 1024


def open_tcp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket on `host` (an address or a name) and `port` (0: a free one). Raises ServiceUnreachable or CannotCreate.

    `shared`: one of several on the same port, among which the kernel spreads connections evenly (SO_REUSEPORT, Linux).
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as fault:
        raise ServiceUnreachable(
            f"cannot listen on {host}:{port}: the name has no address here; name an address in server.listen"
        ) from fault
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as fault:
        listener.close()
        raise _tcp_fault(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", fault) from fault
    listener.setblocking(False)
    return listener


def open_unix(path: Path, *, everyone: bool = False) -> socket.socket:
    """A listening unix socket, mode 0600 (0666 where `everyone`, for peers that the kernel vouches for). A file left by a daemon that
    is gone is replaced; one on which a process listens, or that is no socket, is not. Raises ServiceUnreachable or CannotCreate."""
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Never open to others, not even between bind and chmod.
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        if everyone:
            path.chmod(0o666)
        listener.listen(BACKLOG)
    except OSError as fault:
        listener.close()
        raise _unix_fault(path, fault) from fault
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def inherit(descriptor: int) -> socket.socket:
    """The listening socket that a supervisor opened for us. Raises ServiceUnreachable if the descriptor is none."""
    fault = ServiceUnreachable(
        f"descriptor {descriptor} is not a listening socket; check the .socket unit that starts this service"
    )
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError as none:
        raise fault from none
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise fault
    listener.setblocking(False)
    return listener


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """`client_ca_file`: then a client certificate of that authority is required. `min_version`: '1.2' or '1.3'."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    min_version: str = "1.2"


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """The context for a TLS listener, HTTP/1.1 only. Raises CannotCreate naming the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if files.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # OpenSSL 1.1 lets clients have the cost of a handshake again and again
    try:
        context.load_cert_chain(files.cert_file, files.key_file)
    except (OSError, ssl.SSLError) as fault:
        raise CannotCreate(
            f"server.tls: certificate {files.cert_file} and key {files.key_file} cannot be used ({_reason(fault)}); check both files"
        ) from fault
    if files.client_ca_file is not None:
        try:
            context.load_verify_locations(files.client_ca_file)
        except (OSError, ssl.SSLError) as fault:
            raise CannotCreate(
                f"server.tls.client_ca_file: {files.client_ca_file} cannot be used ({_reason(fault)}); check the file"
            ) from fault
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def serve(
    listener: socket.socket,
    shared: Connections,
    descriptors: Descriptors,
    *,
    peers: PeerCheck | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> Acceptor[ProxyConnection]:
    """Takes connections from `listener`, of peers that `peers` lets in (None: anyone, whose address is not told)."""

    def admitted(sock: socket.socket, address: str) -> ProxyConnection | None:
        peer = Peer("") if peers is None else peers(sock, address)
        if peer.allowed:
            return ProxyConnection.admitted(shared, sock, peer.address)
        shared.handler.turned_away("the peer is not one that may connect", peer.address)
        return None

    return Acceptor(
        listener,
        admitted,
        descriptors,
        begun=ProxyConnection.begun,
        tls=tls,
        handshake_timeout=lambda: shared.limits.header_timeout,
    )


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there, or bind says what is wrong
    if not stat.S_ISSOCK(mode):
        raise CannotCreate(
            f"cannot listen on {path}: something that is not a socket is there; remove it or choose another path"
        )
    if _is_taken(path):
        raise ServiceUnreachable(
            f"cannot listen on {path}: another process listens there; stop it or choose another path"
        )
    with suppress(OSError):
        path.unlink()


def _is_taken(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # full or forbidden: a process has it
    return True


def _tcp_fault(address: str, fault: OSError) -> PassoproxyError:
    if fault.errno == errno.EADDRINUSE:
        return ServiceUnreachable(
            f"cannot listen on {address}: the port is in use; stop the other process or choose another port in server.listen"
        )
    if fault.errno in (errno.EACCES, errno.EPERM):
        return CannotCreate(f"cannot listen on {address}: not permitted; choose a port from 1024 up in server.listen")
    return ServiceUnreachable(
        f"cannot listen on {address}: {_reason(fault)}; choose an address of this machine in server.listen"
    )


def _unix_fault(path: Path, fault: OSError) -> PassoproxyError:
    return CannotCreate(
        f"cannot make the socket {path}: {_reason(fault)}; choose a shorter path in a folder that can be written"
    )


def _reason(fault: OSError) -> str:
    return fault.strerror or type(fault).__name__


FOLLOW_EVERY = 10.0
"""Seconds between two looks at the files."""

_Stamp = tuple[tuple[int, ...], ...]


class Certificate:
    """`context` is for the next connection: what the files held at the last look. Raises CannotCreate.

    `check` looks at the private key's file each time before it is read; it raises CannotCreate if that may not be used. `on_new_authority` is
    called when another authority vouches for clients: their connections have to be made again.
    """

    def __init__(
        self,
        files: TlsFiles,
        check: Callable[[Path], None] = lambda key_file: None,
        on_new_authority: Callable[[], None] = lambda: None,
    ) -> None:
        self._files, self._stamp, self._check, self._on_new_authority = files, _stamp(files), check, on_new_authority
        check(files.key_file)
        self.context = tls_context(files)
        self._authorities = self.context.get_ca_certs(binary_form=True)

    def look(self) -> bool:
        """Whether the files have changed, and are used from now on. Raises CannotCreate once if they cannot be; the last good ones hold."""
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._check(self._files.key_file)
        # A new one, and not the files loaded into the one in use: that would leave half a pair if they do not match, keep an authority
        # that was taken away, and resume sessions that it vouched for.
        self.context = tls_context(self._files)
        authorities = self.context.get_ca_certs(binary_form=True)
        if authorities != self._authorities:
            self._on_new_authority()
        self._authorities = authorities
        return True

    async def keep_following(self, clock: Clock, observer: Observer, every: float = FOLLOW_EVERY) -> None:
        """Looks again and again, for as long as it is let."""
        while True:
            await clock.sleep(every)
            try:
                self.look()
            except CannotCreate as error:
                observer(Warned("certificate_refused", f"{error}; the one that was read before holds"))


def _stamp(files: TlsFiles) -> _Stamp:
    return tuple(stamp_of(path) for path in (files.cert_file, files.key_file, files.client_ca_file) if path is not None)
