"""Reaching a server outside: its endpoint, the forward proxy on the way, and one connection to it: name, TCP (happy eyeballs), CONNECT, TLS.

All steps share one time limit. What is spoken on the connection is up to the protocol that the caller hands in.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs
from yarl import URL

from passoproxy.core.access import is_loopback
from passoproxy.errors import ConfigurationError, Fault, PassoproxyError
from passoproxy.values import dataclass

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Scheme, host and port of a server. `host` is as DNS and TLS want it: no brackets, international names in their ASCII form."""

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """What stands in `Host`: brackets around an IPv6 address, the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(self.host)


def endpoint_of(url: str, key: str = "upstream.url") -> Endpoint:
    """The endpoint of an http or https URL; its path plays no part. Raises ConfigurationError naming `key`."""
    try:
        parts = URL(url)
        scheme, host, port = parts.scheme, parts.raw_host, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in _DEFAULT_PORTS or not host or not port:
        raise ConfigurationError(Fault("", key, "is not an http or https URL with a host", "write https://host[:port]"))
    return Endpoint(scheme, host, port)


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """An HTTP proxy that opens tunnels by CONNECT. `authorization` is the value of `Proxy-Authorization`, '' for none."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def forward_proxy(setting: str, target: Endpoint, environment: Mapping[str, str]) -> ForwardProxy | None:
    """The proxy on the way to `target` by `upstream.proxy` (`env`, `none` or a URL); None for a direct way.

    Loopback addresses are never reached through a proxy. Raises ConfigurationError if it is not a URL.
    """
    if setting == "none" or target.loopback:
        return None
    if setting != "env":
        return _proxy_of(setting)
    url = environment.get("https_proxy") or environment.get("HTTPS_PROXY") or ""
    excepted = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if not url or _excepted(target, excepted):
        return None
    return _proxy_of(url, "HTTPS_PROXY in the environment ")


def _proxy_of(url: str, source: str = "") -> ForwardProxy:
    # The URL may hold a password: no part of it is repeated in a fault.
    remedy = (
        f"write http://[user:password@]host:port{', or set upstream.proxy, to none for no proxy' if source else ''}"
    )
    fault = Fault("", "upstream.proxy", f"{source}is not the URL of an HTTP proxy", remedy)
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise ConfigurationError(fault) from None
    if parts.scheme != "http" or not host:
        raise ConfigurationError(fault)
    if parts.username is None:
        return ForwardProxy(host, port)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return ForwardProxy(host, port, "Basic " + base64.b64encode(pair.encode()).decode())


def _excepted(target: Endpoint, listed: str) -> bool:
    return any(_covers(item.strip().lower(), target) for item in listed.split(",") if item.strip())


def _covers(item: str, target: Endpoint) -> bool:
    """Whether one member of NO_PROXY means `target`: `*`, a name with all below it, an address or a network, each with or without a port."""
    if item == "*":
        return True
    address = _address(target.host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(item, strict=False)
        except ValueError:
            pass
    name, colon, port = item.rpartition(":")
    if colon and port.isdecimal():
        if int(port) != target.port:
            return False
        item = name
    item = item.strip("[]").removeprefix("*").removeprefix(".")
    return target.host == item or target.host.endswith(f".{item}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


_STAGGER = 0.25
"""Seconds after which the next address is tried beside the one under way (RFC 8305 §8)."""

_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}
_TUNNEL_HEAD_BYTES = 16 * 1024

P = TypeVar("P", bound=asyncio.Protocol)


class DialFailed(PassoproxyError):
    """No connection stands. The text says which step failed where, and what to check; `timed_out` tells a limit from a refusal."""

    def __init__(self, text: str, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


def tls_context(ca_file: Path | None = None, key: str = "upstream.ca_file") -> ssl.SSLContext:
    """A client context that checks certificates and names against the system's store and `ca_file`; there is no way to switch that off."""
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
        """`tls` is used if the endpoint is https; left out, it trusts the system's store."""
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
            remedy = f"check {'upstream.proxy' if self._proxy else 'the URL'} and DNS{self._way_out}"
            raise DialFailed(f"the name {host} cannot be resolved; {remedy}") from error
        try:
            return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_STAGGER, loop=loop)
        except OSError as error:
            # asyncio's own text for a refused connection names a tuple; several addresses at once have no number.
            why = os.strerror(error.errno) if error.errno else "no address answered"
            remedy = "check that it runs and is reachable"
            if error.errno in _NO_WAY:
                remedy = f"check the network of this machine{self._way_out}"
            text = f"{self._where} cannot be reached ({why}); {remedy}"
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
    def _way_out(self) -> str:
        """A further remedy where there is no way at all."""
        return "" if self._proxy or self.endpoint.loopback else ", or set upstream.proxy if only a proxy leads out"

    @property
    def _where(self) -> str:
        if self._proxy is not None:
            return f"{self.endpoint.authority} (through the proxy {self._proxy.host}:{self._proxy.port})"
        return f"{self.endpoint.host}:{self.endpoint.port}"


class NoDialer(Dialer):
    """Opens no connection, because of `why`."""

    def __init__(self, endpoint: Endpoint, why: str) -> None:
        self.endpoint, self._why = endpoint, why

    async def dial(self, factory: Callable[[], P]) -> P:
        """Raises DialFailed."""
        raise DialFailed(f"{self._why}: nothing is sent to {self.endpoint.authority}")
