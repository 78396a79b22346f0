"""Listen addresses as values: host:port, [v6]:port, unix:/path, fd:NAME. Opening them is the server's work."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from passoproxy.config.units import quoted

EXAMPLE = "write host:port, [v6]:port, unix:/path or fd:NAME, for example 127.0.0.1:8610"
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_SOCKET_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """`host` is a name or an IP address, v6 without brackets. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reached_at(self) -> TcpAddress:
        """Where a person at this machine reaches it: the wildcard address is none to go to."""
        every = self.host.strip("0.:") == ""
        return TcpAddress("::1" if ":" in self.host else "127.0.0.1", self.port) if every else self

    @property
    def beyond_loopback(self) -> bool:
        """Whether other machines may reach it; a name that is not `localhost` counts as if."""
        return not is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system, by its absolute path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def beyond_loopback(self) -> bool:
        """Never: the file's mode guards it."""
        return False


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A socket that the service manager has opened, by its FileDescriptorName."""

    name: str

    def __str__(self) -> str:
        return f"fd:{self.name}"

    @property
    def beyond_loopback(self) -> bool:
        """Not known before it is inherited: whoever opens it must look at the socket."""
        return False


Address = TcpAddress | UnixAddress | FdAddress


def is_loopback(host: str) -> bool:
    """Whether a host name or IP text (v6 without brackets) means this machine alone."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_metadata_address(host: str) -> bool:
    """Whether a host is where clouds answer for a machine: any link-local address, AWS's over IPv6, Google's by name."""
    name = host.lower().rstrip(".")
    if name == "metadata.google.internal":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local or address == ipaddress.ip_address("fd00:ec2::254")


def is_host(host: str) -> bool:
    """Whether the text is a host name or an IP address (v6 without brackets)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # what looks like an IPv4 address and is none would be asked of the name service
        return (
            len(host) <= 253 and _HOST_NAME.fullmatch(host) is not None and re.search(r"[A-Za-z_-]", host) is not None
        )
    return True


def address(value: object) -> Address:
    """Reads one listen address. Raises ValueError with the value seen and an example."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not an address; {EXAMPLE}")
    text = value.strip()
    if text.startswith("unix:"):
        return _unix(text, text[5:])
    if text.startswith("fd:"):
        if not _SOCKET_NAME.fullmatch(text[3:]):
            raise ValueError(
                f"{quoted(value)} names no socket; write fd: and the FileDescriptorName of the .socket unit"
            )
        return FdAddress(text[3:])
    return _tcp(text)


def _unix(text: str, path: str) -> UnixAddress:
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{quoted(text)} has no absolute path; write for example unix:/run/passoproxy/proxy.sock")
    if len(path.encode("utf-8", "surrogateescape")) > 103:
        raise ValueError(f"{quoted(text)} is longer than the 103 bytes that systems allow; choose a shorter path")
    return UnixAddress(path)


def _tcp(text: str) -> TcpAddress:
    host, mark, port = text.rpartition(":")
    if mark and ":" in host and not host.startswith("["):
        raise ValueError(f"{quoted(text)} is ambiguous; an IPv6 address stands in brackets, for example [::1]:8610")
    if not mark or text.endswith("]"):
        raise ValueError(f"{quoted(text)} has no port; {EXAMPLE}")
    if not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError(f"{quoted(text)} has no port between 0 and 65535; {EXAMPLE}")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not is_host(bare) or bracketed != (":" in bare):
        raise ValueError(f"{quoted(text)} has no valid host; {EXAMPLE}")
    return TcpAddress(bare, int(port))
