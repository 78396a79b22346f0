"""The proxy's listeners put into service: which protocol is spoken, behind which certificate, and who may connect."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from passoproxy.compose.wiring import Wired
from passoproxy.config.secrets import refuse_exposed
from passoproxy.config.settings import Settings
from passoproxy.core.peers import NetworkRule
from passoproxy.errors import CannotCreate, ConfigurationError, Fault
from passoproxy.server.certificates import Certificate
from passoproxy.server.listeners import TlsFiles, serve
from passoproxy.server.peers import network_check, user_check, user_rule
from passoproxy.server.protocol import ProxyConnection


@dataclass(slots=True)
class Served:
    """What takes connections. `certificate` is to be followed where there is one."""

    certificate: Certificate | None
    servers: list[asyncio.Server] = field(default_factory=list)

    def close(self) -> None:
        """Takes no more connections; may be called again."""
        for server in self.servers:
            server.close()


def certificate_of(settings: Settings) -> Certificate | None:
    """That of `server.tls`. Raises CannotCreate."""
    tls = settings.server.tls
    if tls.cert_file is None or tls.key_file is None:
        return None
    return Certificate(TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file, tls.min_version), _check_key)


def _check_key(path: Path) -> None:
    try:
        refuse_exposed(path, "server.tls.key_file")
    except ConfigurationError as error:
        raise CannotCreate(str(error)) from error


async def serve_proxy(wired: Wired, sockets: Iterable[socket.socket]) -> Served:
    """Takes connections from `sockets`. Raises CannotCreate and ConfigurationError."""
    settings, shared = wired.loaded.settings, wired.connections
    served = Served(certificate_of(settings))
    context = None if served.certificate is None else served.certificate.context
    try:
        peers = network_check(NetworkRule(settings.server.allowed_peers))
        users = user_check(user_rule(settings.server.unix_peers))
    except ValueError as error:
        raise ConfigurationError(Fault("", "", str(error))) from error
    for sock in sockets:
        check = users if sock.family == socket.AF_UNIX else peers
        served.servers.append(await serve(sock, lambda check=check: ProxyConnection(shared, check), context))  # type: ignore[misc]
    return served
