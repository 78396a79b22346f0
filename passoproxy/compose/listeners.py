"""The listeners of a configuration: their sockets opened, named for people and removed at the end, and the proxy's put into service.

`server.listeners` opens a single socket and checks its peers.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from passoproxy.compose.instance import Wired
from passoproxy.config.load import Loaded
from passoproxy.config.secrets import refuse_exposed
from passoproxy.config.settings import Settings
from passoproxy.config.types import Address, FdAddress, TcpAddress, UnixAddress
from passoproxy.config.validate import GUARD_REMEDY
from passoproxy.core.access import NetworkRule, is_loopback
from passoproxy.core.oauth.settings import CALLBACK_PATH
from passoproxy.errors import CannotCreate, ConfigurationError, Fault, PassoproxyError, ServiceUnreachable
from passoproxy.server.acceptor import Acceptor
from passoproxy.server.connection import Connections, ProxyConnection
from passoproxy.server.listeners import (
    Certificate,
    TlsFiles,
    inherit,
    network_check,
    open_tcp,
    open_unix,
    serve,
    user_check,
    user_rule,
)

_SPREADS = sys.platform == "linux"
"""Whether the kernel spreads connections among sockets that share a port; elsewhere the last one gets them all."""

Inherited = dict[str, list[int]]
"""Descriptors of sockets that the service manager passed, by their names."""


@dataclass(slots=True)
class Bound:
    """Where a daemon listens. `files` are those of unix sockets that it made itself.

    `copies` has the proxy's sockets for each worker process: its own on the same TCP ports, if the kernel can spread connections
    among them, else the same ones. A worker that is replaced leaves its sockets, and who waits in them, to its successor.
    """

    proxy: list[socket.socket] = field(default_factory=list)
    copies: list[list[socket.socket]] = field(default_factory=list)
    admin: list[socket.socket] = field(default_factory=list)
    probes: list[socket.socket] = field(default_factory=list)
    files: dict[socket.socket, Path] = field(default_factory=dict)
    own: set[socket.socket] = field(default_factory=set)
    """TCP sockets of the proxy that were opened here, and not passed by a service manager."""

    def forget(self, sockets: Iterable[socket.socket]) -> None:
        """Removes the files of these sockets. They must still listen, so that the files cannot be another process's."""
        for sock in sockets:
            if (path := self.files.pop(sock, None)) is not None:
                with contextlib.suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Closes what was not handed to a server, or closes again what was."""
        sockets = (*self.proxy, *self.admin, *self.probes)
        self.forget(sockets)
        self.close_copies()
        for sock in sockets:
            sock.close()

    def copy(self, count: int) -> None:
        """Fills `copies` for so many workers. Raises ServiceUnreachable."""
        self.copies = [[] for _ in range(count)]
        for at, sock in enumerate(self.proxy):
            if sock not in self.own or not _SPREADS:
                given = [sock] * count
            else:
                host, port = sock.getsockname()[:2]
                sock.close()  # it was opened alone, so that a port in use was told; now it is shared
                given = [open_tcp(host, port, shared=True) for _ in range(count)]
                self.proxy[at] = given[0]
            for copy, each in zip(self.copies, given, strict=True):
                copy.append(each)

    def close_copies(self) -> None:
        """Lets go of what the workers listen on, here."""
        for sock in {each for copy in self.copies for each in copy}:
            sock.close()
        self.copies = []


def bind(loaded: Loaded, bound: Bound, inherited: Inherited) -> None:
    """Opens every listener into `bound`, one after the other. Raises ServiceUnreachable, CannotCreate and ConfigurationError."""
    settings, listen = loaded.settings, loaded.settings.server.listen
    if loaded.is_default("server.listen") and not has_ipv6():
        listen = tuple(each for each in listen if not (isinstance(each, TcpAddress) and ":" in each.host))
    for key, addresses, sockets in (
        ("server.listen", listen, bound.proxy),
        ("admin.listen", settings.admin.listen, bound.admin),
        ("admin.probe_listen", settings.admin.probe_listen, bound.probes),
    ):
        for address in addresses:
            for sock in _opened(address, inherited, key, settings):
                sockets.append(sock)
                if sockets is bound.proxy and isinstance(address, TcpAddress):
                    bound.own.add(sock)
                if isinstance(address, UnixAddress):
                    bound.files[sock] = Path(address.path)
                elif isinstance(address, FdAddress):
                    _refuse_unguarded(sock, address, key, settings)


def has_ipv6() -> bool:
    """Whether this machine has the IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def ports_of(sockets: Iterable[socket.socket]) -> tuple[int, ...]:
    """The ports of those that have one."""
    return tuple(int(sock.getsockname()[1]) for sock in sockets if sock.family != socket.AF_UNIX)


def page_address(settings: Settings, sockets: Sequence[socket.socket]) -> str:
    """The address of the status page for a browser: a URL, `unix:` with the path if there is only a unix socket, '' without a listener."""
    if settings.admin.public_url and sockets:
        return settings.admin.public_url.rstrip("/")
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
            at, allowed = TcpAddress(*sock.getsockname()[:2]).reached_at, settings.admin.allowed_hosts
            host = str(TcpAddress(at.host, 0)).removesuffix(":0")
            return f"http://{at}" if host in allowed else f"http://{allowed[0]}:{at.port}"
    return name_of(sockets[0], "") if sockets else ""


def url_of(settings: Settings, sock: socket.socket) -> str:
    """Where programs on this machine reach the proxy: a URL with `server.base_path`, `unix:` with the path for a unix socket."""
    if sock.family == socket.AF_UNIX:
        return name_of(sock, "")
    scheme = "http" if settings.server.tls.cert_file is None else "https"
    return f"{scheme}://{TcpAddress(*sock.getsockname()[:2]).reached_at}{settings.server.base_path}"


def takes_redirect(settings: Settings, sockets: Iterable[socket.socket]) -> bool:
    """Whether a browser that the provider sends to `oauth.redirect_url` arrives at these sockets of the admin listener."""
    target = urlsplit(settings.oauth.redirect_url)
    if target.path != CALLBACK_PATH:
        return False
    if settings.admin.public_url and target.netloc == urlsplit(settings.admin.public_url).netloc:
        return True
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    bound = [sock.getsockname()[:2] for sock in sockets if sock.family != socket.AF_UNIX]
    return (host, port) in bound or (is_loopback(host) and port in {each for _, each in bound})


def name_of(sock: socket.socket, scheme: str) -> str:
    """Its name for people: a URL, or `unix:` with the path."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"{scheme}://[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{scheme}://{name[0]}:{name[1]}"


def _opened(address: Address, inherited: Inherited, key: str, settings: Settings) -> list[socket.socket]:
    try:
        match address:
            case TcpAddress(host, port):
                return [open_tcp(host, port)]
            case UnixAddress(path):
                everyone = key == "server.listen" and bool(settings.server.unix_peers)
                return [open_unix(Path(path), everyone=everyone)]
            case FdAddress(name):
                return [inherit(descriptor) for descriptor in _passed(name, inherited, key)]
    except PassoproxyError as error:
        raise type(error)(str(error).replace("server.listen", key)) from error


def _passed(name: str, inherited: Inherited, key: str) -> list[int]:
    if name not in inherited:
        known = ", ".join(sorted(inherited)) or "none"
        raise ServiceUnreachable(
            f"{key}: no socket named {name!r} was passed by the service manager (passed: {known}); check FileDescriptorName"
        )
    return inherited[name]


def _refuse_unguarded(sock: socket.socket, address: FdAddress, key: str, settings: Settings) -> None:
    """The configuration's check for open listeners, for an inherited socket, whose address is not in the configuration."""
    guards = {
        "server.listen": (settings.server.is_guarded, GUARD_REMEDY),
        "admin.listen": (settings.admin.is_guarded, "set admin.token_file, or pass a socket on 127.0.0.1"),
        "admin.probe_listen": (True, ""),
    }
    guard, remedy = guards[key]
    if sock.family == socket.AF_UNIX or is_loopback(str(sock.getsockname()[0])) or guard:
        return
    problem = f"{address} is {name_of(sock, 'tcp')}, which other machines can reach, and nothing says who may use it"
    raise ConfigurationError(Fault("", key, problem, remedy))


@dataclass(slots=True)
class Served:
    """The acceptors of the proxy, and its certificate, if any, which has to be followed."""

    certificate: Certificate | None
    acceptors: list[Acceptor[ProxyConnection]] = field(default_factory=list)

    def close(self) -> None:
        """Takes no more connections; may be called again."""
        for acceptor in self.acceptors:
            acceptor.close()


def certificate_of(settings: Settings, shared: Connections | None = None) -> Certificate | None:
    """That of `server.tls`; the connections of `shared` end when other clients are to be let in. Raises CannotCreate."""
    tls = settings.server.tls
    if tls.cert_file is None or tls.key_file is None:
        return None
    files = TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file, tls.min_version)
    return Certificate(files, _check_key, (lambda: None) if shared is None else shared.finish)


def _check_key(path: Path) -> None:
    try:
        refuse_exposed(path, "server.tls.key_file")
    except ConfigurationError as error:
        raise CannotCreate(str(error)) from error


def serve_proxy(wired: Wired, sockets: Iterable[socket.socket]) -> Served:
    """Takes connections from `sockets`. Raises CannotCreate and ConfigurationError."""
    settings, shared = wired.loaded.settings, wired.connections
    certificate = certificate_of(settings, shared)
    served = Served(certificate)
    tls = None if certificate is None else lambda: certificate.context
    try:
        peers = network_check(NetworkRule(settings.server.allowed_peers))
        users = user_check(user_rule(settings.server.unix_peers))
    except ValueError as error:
        raise ConfigurationError(Fault("", "", str(error))) from error
    for sock in sockets:
        check = users if sock.family == socket.AF_UNIX else peers
        served.acceptors.append(serve(sock, shared, wired.descriptors, peers=check, tls=tls))
    return served
