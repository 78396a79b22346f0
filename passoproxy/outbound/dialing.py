"""Opening one connection: name, TCP (happy eyeballs), CONNECT where a proxy leads the way, TLS. All of it within one time limit.

What is spoken on the connection is the business of the protocol that the caller hands in.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiohappyeyeballs

from passoproxy.errors import ConfigurationError, Fault, PassoproxyError
from passoproxy.outbound.endpoint import Endpoint, ForwardProxy

_STAGGER = 0.25
"""Seconds after which the next address is tried beside the one under way (RFC 8305 §8)."""

_TUNNEL_HEAD_BYTES = 16 * 1024

P = TypeVar("P", bound=asyncio.Protocol)


class DialFailed(PassoproxyError):
    """No connection stands. The text says which step failed where, and what to check; `timed_out` tells a limit from a refusal."""

    def __init__(self, text: str, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


def tls_context(ca_file: Path | None = None, key: str = "upstream.ca_file") -> ssl.SSLContext:
    """A client context that checks certificates and names against the system's store and `ca_file`. Nothing switches that off."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except (OSError, ssl.SSLError) as error:
            problem = f"{ca_file} cannot be used: {error.strerror or 'it holds no certificate in PEM form'}"
            raise ConfigurationError(Fault("", key, problem, "name a readable PEM file")) from error
    return context


class Dialer:
    """Opens connections to one endpoint. `timeout` is seconds for name, TCP, CONNECT and TLS together."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        tls: ssl.SSLContext | None = None,
        proxy: ForwardProxy | None = None,
    ) -> None:
        """`tls` is needed where the endpoint is https; where left out, one with the system's store is made."""
        self.endpoint = endpoint
        self.timeout = timeout
        self._proxy = proxy
        self._tls = (tls or tls_context()) if endpoint.secure else None

    async def dial(self, factory: Callable[[], P]) -> P:
        """A protocol of `factory` on a connection that stands. Raises DialFailed; a cancelled call leaves nothing open."""
        try:
            async with asyncio.timeout(self.timeout):
                return await self._dial(factory)
        except TimeoutError as error:
            text = f"{self._where} did not accept a connection within {self.timeout:g} s"
            raise DialFailed(f"{text}; check the network, or raise upstream.connect_timeout", timed_out=True) from error

    async def _dial(self, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        sock = await self._reach(loop)
        if self._proxy is not None:
            try:
                await self._tunnel(loop, sock, self._proxy)
            except BaseException:
                sock.close()
                raise
        name = self.endpoint.host if self._tls else None
        try:  # from here on the loop owns the socket and closes it
            _, protocol = await loop.create_connection(factory, sock=sock, ssl=self._tls, server_hostname=name)
        except ssl.SSLCertVerificationError as error:
            raise DialFailed(
                f"the certificate of {self.endpoint.host} is not accepted: {error.verify_message or error.reason}; "
                "check the URL, or name the right authority in upstream.ca_file"
            ) from error
        except OSError as error:
            raise DialFailed(f"{self._where} did not complete the TLS handshake; check URL and port") from error
        return protocol

    async def _reach(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else (self.endpoint.host, self.endpoint.port)
        try:
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DialFailed(f"the name {host} cannot be resolved; check the URL and DNS") from error
        try:
            return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_STAGGER, loop=loop)
        except OSError as error:
            # asyncio's own text for a refused connection names a tuple; several addresses at once have no number.
            why = os.strerror(error.errno) if error.errno else "no address answered"
            text = f"{self._where} cannot be reached ({why}); check that it runs and is reachable"
            raise DialFailed(text, timed_out=isinstance(error, TimeoutError)) from error

    async def _tunnel(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: ForwardProxy) -> None:
        host = f"[{self.endpoint.host}]" if ":" in self.endpoint.host else self.endpoint.host
        target = f"{host}:{self.endpoint.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        named = f"the proxy {proxy.host}:{proxy.port}"
        try:
            await loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                part = await loop.sock_recv(sock, 4096)
                answer += part
                # Nothing may follow the head before we speak, so there is nothing to hand on.
                if not part or len(answer) > _TUNNEL_HEAD_BYTES or b"\r\n\r\n" in answer[:-4]:
                    raise DialFailed(f"{named} did not answer CONNECT properly; check upstream.proxy")
        except ConnectionError as error:
            raise DialFailed(f"{named} broke off at CONNECT; check upstream.proxy") from error
        status = answer[9:12]
        if not answer.startswith(b"HTTP/1.") or not status.startswith(b"2"):
            said = status.decode("ascii") if status.isdigit() else "no valid status"
            raise DialFailed(f"{named} refused CONNECT ({said}); check upstream.proxy and its rights")

    @property
    def _where(self) -> str:
        if self._proxy is not None:
            return f"{self.endpoint.authority} (through the proxy {self._proxy.host}:{self._proxy.port})"
        return f"{self.endpoint.host}:{self.endpoint.port}"
