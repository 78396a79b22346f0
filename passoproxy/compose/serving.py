"""The proxy's listeners put into service: which protocol is spoken, behind which certificate, and who may connect."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from passoproxy.compose.wiring import Wired
from passoproxy.config.secrets import refuse_exposed
from passoproxy.config.settings import Settings
from passoproxy.core.peers import NetworkRule
from passoproxy.errors import CannotCreate, ConfigurationError, Fault
from passoproxy.server.acceptor import Acceptor
from passoproxy.server.certificates import Certificate
from passoproxy.server.connections import Connections
from passoproxy.server.listeners import TlsFiles, serve
from passoproxy.server.peers import network_check, user_check, user_rule
from passoproxy.server.protocol import ProxyConnection


@dataclass(slots=True)
class Served:
    """What takes connections. `certificate` is to be followed where there is one."""

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
