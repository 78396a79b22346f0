"""Where something outside is, and which forward proxy leads there: plain values, worked out once when the daemon is wired.

Opening the connection is the business of `dialing`.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from yarl import URL

from passoproxy.errors import ConfigurationError, Fault

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
        """What stands in `Host`: brackets around an IPv6 address, the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        address = _address(self.host)
        return address is not None and address.is_loopback


def endpoint_of(url: str, key: str = "upstream.url") -> Endpoint:
    """The endpoint that an http or https URL leads to; its path plays no part. Raises ConfigurationError naming `key`."""
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

    Loopback addresses are never reached through a proxy. Raises ConfigurationError for a URL that is none.
    """
    if setting == "none" or target.loopback:
        return None
    if setting != "env":
        return _proxy_of(setting)
    url = environment.get("https_proxy") or environment.get("HTTPS_PROXY") or ""
    excepted = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if not url or _excepted(target, excepted):
        return None
    return _proxy_of(url)


def _proxy_of(url: str) -> ForwardProxy:
    # The URL may hold a password: no part of it is repeated in a fault.
    fault = Fault("", "upstream.proxy", "is not the URL of an HTTP proxy", "write http://[user:password@]host:port")
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
