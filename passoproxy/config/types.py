"""Durations, sizes and shares as people write them, and back. Seconds are floats, sizes are bytes, a share lies between 0 and 1.

Errors are ValueErrors whose text shows the value seen and what a right one looks like. Which key was meant is the reader's to say.

Listen addresses as values: host:port, [v6]:port, unix:/path, fd:NAME. Opening them is the server's work.

How each kind of value is read from what YAML gave: plain functions that return the value or raise ValueError.

Each text shows the value seen (never a secret) and what a right one looks like; which key was meant is the reader's to say.

The kinds of value that a key can have, as annotated types: how each is read, printed back and described in the JSON Schema.
"""

from __future__ import annotations

import ipaddress
import math
import re
import typing
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, WithJsonSchema

from passoproxy.core.http.paths import readings

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", re.ASCII)

LONGEST = 100 * 365 * 86400.0
"""The longest duration, in seconds; what is longer is a slip of the pen."""

DURATION_EXAMPLE = "write for example 30s, 15m, 6h, 7d, or a number of seconds"
SIZE_EXAMPLE = "write for example 64MiB, 1GiB, or a number of bytes"
SHARE_EXAMPLE = "write for example 55%, or 0.55"


def quoted(value: object) -> str:
    """A value as a person would recognise it: short, in quotes where it is text, a container only by its kind."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            flat = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in value)
            return f"'{flat}'" if len(flat) <= 60 else f"'{flat[:57]}...'"
        case _:
            return str(value)[:60]


def duration(value: object) -> float:
    """Seconds from `30s`, `15m`, `6h`, `7d`, `250ms` or a number of seconds. Raises ValueError."""
    seconds = _amount(value, _SECONDS, "s", "a duration", DURATION_EXAMPLE)
    if seconds > LONGEST:
        raise ValueError(f"{quoted(value)} is longer than 100 years; {DURATION_EXAMPLE}")
    return seconds


def size(value: object) -> int:
    """Bytes from `64MiB`, `1GiB` or a number of bytes. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and re.fullmatch(r"[0-9.]+ ?[kKmMgGtT][bB]?", text):
        meant = f"{text.rstrip('bB')[:-1].rstrip()}{text.rstrip('bB')[-1].upper()}iB"
        raise ValueError(f"{quoted(value)} is not a size; write {quoted(meant)} (powers of 1024)")
    amount = _amount(value, {name.lower(): factor for name, factor in _BYTES.items()}, "b", "a size", SIZE_EXAMPLE)
    if amount != int(amount) or amount >= 1 << 60:
        raise ValueError(f"{quoted(value)} is not a size in whole bytes below 1 EiB; {SIZE_EXAMPLE}")
    return int(amount)


def share(value: object) -> float:
    """A share from `55%` or a number between 0 and 1. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.endswith("%"):
        amount = _amount(text[:-1].rstrip(), {}, "", "a share", SHARE_EXAMPLE, seen=value) / 100
    else:
        amount = _amount(value, {}, "", "a share", SHARE_EXAMPLE)
    if amount > 1:
        percent = isinstance(text, int | float) and amount <= 100
        meant = f"write {amount:.10g}%, or {amount / 100:.10g}" if percent else SHARE_EXAMPLE
        raise ValueError(f"{quoted(value)} is more than the whole; {meant}")
    return amount


def _amount(
    value: object, units: dict[str, float] | dict[str, int], bare: str, kind: str, example: str, seen: object = None
) -> float:
    wrong = f"{quoted(value if seen is None else seen)} is not {kind}; {example}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise ValueError(f"{quoted(value)} is not {kind}, which is never below zero or without end; {example}")
        return float(value)
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(wrong)
    number, unit = found.groups()
    if not unit:
        return float(number)
    factor = units.get(unit if bare == "s" else unit.lower())
    if factor is None:
        raise ValueError(wrong)
    # 0.1 h is 360 s exactly, also in floats
    return round(float(number) * factor, 6)


def show_duration(seconds: float) -> str:
    """The shortest exact form: `3600` gives `1h`, `90` gives `90s`, `0.25` gives `250ms`."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    milliseconds = round(seconds * 1000, 3)
    return f"{int(milliseconds)}ms" if milliseconds == int(milliseconds) else f"{seconds:.6f}".rstrip("0") + "s"


def show_size(amount: int) -> str:
    """The shortest exact form: `67108864` gives `64MiB`; bytes where nothing larger fits."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % _BYTES[unit] == 0:
            return f"{amount // _BYTES[unit]}{unit}"
    return str(amount)


def show_share(amount: float) -> str:
    """As a percentage: `0.55` gives `55%`."""
    return f"{amount * 100:.10g}%"


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


MASK = "********"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""RFC 9110 §5.6.2."""


def plain_text(value: object) -> object:
    # client ids are often plain numbers; one that YAML reads as an int has lost nothing
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def secret(value: object) -> object:
    if isinstance(value, SecretStr):
        return value
    text = plain_text(value)
    if not isinstance(text, str):
        raise ValueError("is not text; put the secret in quotes, or better in a file that the _file key names")
    if not text.strip():
        raise ValueError("is empty; give the secret, or remove the line")
    return SecretStr(text.strip())


def file_path(value: object) -> object:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{quoted(value)} is not a path; write for example /etc/passoproxy/file")
    return Path(value.strip())


def as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def network(value: object) -> object:
    if isinstance(value, Network):
        return value
    text = value.strip() if isinstance(value, str) else ""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{quoted(value)} is neither an address nor a network; write for example 10.0.0.7 or 10.0.0.0/8"
        ) from None
    raise ValueError(f"{quoted(value)} is no network: it has bits beyond the prefix; write {wider}")


def url_parts(value: object, example: str) -> urllib.parse.SplitResult:
    """The parts of an http or https URL with a valid host and port, no user information and no fragment. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not a URL; write for example {example}")
    text = value.strip()
    shown = quoted(without_password(text))
    if re.search(r"[^\x21-\x7e]", text):
        raise ValueError(
            f"{shown} has a character that no URL has; write it percent-encoded, a host name in its xn-- form"
        )
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{shown} is not a URL; write for example {example}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{shown} is not an http or https URL; write for example {example}")
    if "@" in parts.netloc:
        raise ValueError(f"{shown} holds a user name or password; leave them out")
    if not is_host(host) or port == 0 or parts.netloc.endswith(":"):
        raise ValueError(f"{shown} has no valid host and port; write for example {example}")
    if "#" in text:
        raise ValueError(f"{shown} has a fragment; leave out what follows the '#'")
    return parts


def http_url(value: object) -> object:
    url_parts(value, "https://web.example.com/path")
    return str(value).strip()


def authority_url(value: object) -> object:
    parts = url_parts(value, "https://api.example.com")
    if parts.path not in ("", "/") or "?" in str(value):
        raise ValueError(f"{quoted(value)} has a path or query; write {parts.scheme}://{parts.netloc}")
    return f"{parts.scheme}://{parts.netloc}"


def without_password(url: str) -> str:
    """The URL with its user information masked, for people to see."""
    return re.sub(r"(//)[^/@]*@", rf"\1{MASK}@", url)


def listen(value: object) -> object:
    each = (value,) if isinstance(value, str | TcpAddress | UnixAddress | FdAddress) else value
    if not isinstance(each, list | tuple) or not each:
        raise ValueError(f"{quoted(value)} is no address and no list of addresses; {EXAMPLE}")
    found, faults = list[Address](), list[str]()
    for one in each:
        try:
            found.append(one if isinstance(one, Address) else address(one))
        except ValueError as error:
            faults.append(str(error))
    if len(faults) > 1:
        problems = ", ".join(fault.partition("; ")[0] for fault in faults)
        raise ValueError(f"{problems}; {EXAMPLE}")
    if faults:
        raise ValueError(faults[0])
    return tuple(found)


def admin_listen(value: object) -> object:
    # YAML reads `off` as false; in quotes, and from the environment, it may come as text
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in ("off", "false", "")):
        return ()
    if value is True:
        raise ValueError(f"'true' is no address; {EXAMPLE}, or off")
    return listen(value)


def host_entry(value: object) -> object:
    """A Host value: name, address, [v6], each with a port or without."""
    text = value.strip() if isinstance(value, str) else ""
    if "/" in text or "*" in text:
        raise ValueError(
            f"{quoted(value)} is not a host; write a name without scheme, path or '*', for example proxy.internal"
        )
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?", text, re.ASCII)
    if found is None or int(found[2] or 1) not in range(1, 65536):
        raise ValueError(
            f"{quoted(value)} is not a host; write for example proxy.internal, 10.0.0.7:8610 or [::1] (IPv6 in brackets)"
        )
    bare = found[1].strip("[]")
    if not is_host(bare.rstrip(".")) or (":" in bare) != found[1].startswith("["):
        raise ValueError(
            f"{quoted(value)} is not a host; write for example proxy.internal, 10.0.0.7:8610 or [::1] (IPv6 in brackets)"
        )
    return text


def origin_entry(value: object) -> object:
    """A browser's Origin value (RFC 6454 §6.2)."""
    example = "http://localhost:3000"
    if isinstance(value, str) and value.strip() in ("*", "null"):
        raise ValueError(f"{quoted(value)} would let any page in; write each origin, for example {example}")
    parts = url_parts(value, example)
    if parts.path or parts.query:
        raise ValueError(f"{quoted(value)} is more than an origin; write {parts.scheme}://{parts.netloc}")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def pattern(value: object) -> object:
    """A path pattern (contract §3): literal segments, `*` for one, `**` for any number."""
    example = "write for example /api/v2/content/**"
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f"{quoted(value)} is not a path pattern, which begins with '/'; {example}")
    if re.search(r"[?#\x00-\x20\x7f]", value):
        raise ValueError(
            f"{quoted(value)} holds a query, a fragment or white space; a pattern is for the path alone, {example}"
        )
    if readings(value, scripts=False) is None:
        raise ValueError(
            f"{quoted(value)} can be read in too many ways; write it without escapes and dot segments, {example}"
        )
    if any("*" in segment and segment not in ("*", "**") for segment in value.split("/")):
        raise ValueError(
            f"{quoted(value)} mixes '*' with text: '*' is one whole path segment, '**' any number; {example}"
        )
    return value


_STANDARD = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_NEVER_FORWARDED = frozenset({"TRACE", "CONNECT"})


def method(value: object) -> object:
    text = value.strip() if isinstance(value, str) else ""
    if not TOKEN.fullmatch(text):
        raise ValueError(f"{quoted(value)} is not an HTTP method; write for example GET")
    if text.upper() in _NEVER_FORWARDED:
        raise ValueError(f"{quoted(value)} is never forwarded; remove it from the list")
    if text not in _STANDARD and text.upper() in _STANDARD:
        raise ValueError(f"{quoted(value)} is not a method, which are told apart by case; write {text.upper()}")
    return text


def field_name(value: object) -> object:
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise ValueError(f"{quoted(value)} is not the name of a header field; write for example Accept-Language")
    return value


_NOT_TO_BE_SET = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)


def request_headers(value: object) -> object:
    """Fields for every request to the origin: each a text, or `{file: PATH}`. No fault shows a value, which may be a credential."""
    if not isinstance(value, dict):
        raise ValueError(
            "is not a mapping of header fields; write for example {X-Api-Key: {file: /etc/passoproxy/api_key}}"
        )
    found: dict[str, SecretStr | Path] = {}
    for name, each in value.items():
        field_name(name)
        if name.lower() in _NOT_TO_BE_SET or name.lower().startswith("proxy-"):
            raise ValueError(f"{quoted(name)} is a field that the proxy sets itself; remove it")
        if name.lower() in {other.lower() for other in found}:
            raise ValueError(f"{quoted(name)} stands twice, in another case; keep one of the two")
        found[name] = _header_value(name, each)
    return found


def _header_value(name: str, value: object) -> SecretStr | Path:
    if isinstance(value, SecretStr | Path):
        return value
    if isinstance(value, dict):
        if set(value) != {"file"}:
            raise ValueError(f"the value of {quoted(name)} is a mapping without one key 'file'; write {{file: PATH}}")
        return typing.cast(Path, file_path(value["file"]))
    text = plain_text(value)
    if not isinstance(text, str) or not is_field_value(text):
        raise ValueError(
            f"the value of {quoted(name)} cannot stand in a header field; write one line of printable ASCII in quotes"
        )
    return SecretStr(text.strip())


def is_field_value(text: str) -> bool:
    """Whether a text, white space at its ends cut, can be sent as the value of a header field (RFC 9110 §5.5, ASCII only)."""
    return re.fullmatch(r"[\x20-\x7e]+", text.strip()) is not None


def base_path(value: object) -> object:
    """A prefix of paths: empty, or segments that begin with '/', without a '/' at the end."""
    if value == "" or (isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value)):
        if "." in str(value).split("/") or ".." in str(value).split("/"):
            raise ValueError(f"{quoted(value)} has a dot segment; write for example /dataservice")
        return value
    raise ValueError(
        f"{quoted(value)} is not a prefix of paths; write for example /dataservice, without a '/' at its end"
    )


def label(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value, re.ASCII):
        raise ValueError(
            f"{quoted(value)} is not a name; write up to 64 letters, digits, '.', '_' or '-', for example requirements"
        )
    return value


def nonempty(value: str) -> str:
    if not value.strip():
        raise ValueError("'' is empty; give a value, or remove the line")
    return value


def proxy(value: object) -> object:
    if isinstance(value, str) and value.strip() in ("env", "none"):
        return value.strip()
    if isinstance(value, str) and "://" not in value:
        raise ValueError(f"{quoted(value)} is no proxy; write env, none, or a URL such as http://proxy.internal:3128")
    if isinstance(value, str) and "@" in value:
        raise ValueError(
            f"{quoted(without_password(value))} holds credentials; put the whole URL into a file and name it in upstream.proxy_file"
        )
    return proxy_url(value)


def proxy_url(value: object) -> str:
    """A proxy's URL without a path, credentials allowed (they are never shown). Raises ValueError."""
    text = value.strip() if isinstance(value, str) else value
    head, at, tail = text.rpartition("@") if isinstance(text, str) else ("", "", "")
    scheme = head.partition("://")[0]
    parts = url_parts(f"{scheme}://{tail}" if at else text, "http://proxy.internal:3128")
    if parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{quoted(without_password(str(text)))} has a path or query; write http://proxy.internal:3128")
    return str(text).rstrip("/")


def replay(value: object) -> object:
    if value in ("never", "once", "always"):
        return value
    try:
        return duration(value)
    except ValueError:
        raise ValueError(
            f"{quoted(value)} is not known here; write never, once, always, or a grace period such as 30s"
        ) from None


def refresh_lifetime(value: object) -> object:
    if value in ("same", "unknown"):
        return value
    try:
        return duration(value)
    except ValueError:
        raise ValueError(f"{quoted(value)} is not known here; write same, unknown, or a duration such as 30d") from None


def tls_version(value: object) -> object:
    # unquoted, YAML reads 1.2 as a number
    if str(value) in ("1.2", "1.3") and isinstance(value, str | float):
        return str(value)
    raise ValueError(f'{quoted(value)} is not a TLS version that can be asked for; write "1.2" or "1.3"')


def command_line(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return (value.strip(),)
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise ValueError(f"{quoted(value)} is not a command; write a path, or a list of program and arguments")


def secret_url(value: object) -> SecretStr:
    """A URL that lets in whoever knows it, as those of webhooks do."""
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or not value.strip().startswith(("http://", "https://")):
        raise ValueError("is not an http or https URL; write for example https://hooks.example.com/services/...")
    try:
        url_parts(value, "https://hooks.example.com/services/...")
    except ValueError:
        raise ValueError("is not a valid URL; write for example https://hooks.example.com/services/...") from None
    return SecretStr(value.strip())


def authority_of(url: str) -> str:
    """What of a secret URL may be shown."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{MASK}"


def _schema(types: list[str], **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": types[0] if len(types) == 1 else types, **more})


def _show_word_or_duration(value: str | float) -> str:
    return value if isinstance(value, str) else show_duration(value)


def _word_or_duration(*words: str) -> WithJsonSchema:
    written = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$"}
    return WithJsonSchema({"anyOf": [{"enum": list(words)}, {"type": "number", "minimum": 0}, written]})


Duration = Annotated[
    float,
    BeforeValidator(duration),
    PlainSerializer(show_duration, when_used="json"),
    _schema(
        ["string", "number"],
        pattern=r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)?$",
        minimum=0,
        examples=["30s", "15m", "6h", "7d"],
    ),
]
Size = Annotated[
    int,
    BeforeValidator(size),
    PlainSerializer(show_size, when_used="json"),
    _schema(
        ["string", "integer"], pattern=r"^[0-9]+(\.[0-9]+)? ?([KMGT]iB|B)?$", minimum=0, examples=["64MiB", "1GiB"]
    ),
]
Share = Annotated[
    float,
    BeforeValidator(share),
    PlainSerializer(lambda found: int(found) if found == int(found) else found, when_used="json"),
    _schema(["string", "number"], pattern=r"^[0-9]+(\.[0-9]+)? ?%?$", minimum=0, maximum=1, examples=["55%", 0.55]),
]
Percentage = Annotated[Share, PlainSerializer(show_share, when_used="json")]
Text = Annotated[str, BeforeValidator(plain_text), AfterValidator(nonempty), _schema(["string", "integer"])]
Secret = Annotated[
    SecretStr,
    BeforeValidator(secret),
    PlainSerializer(lambda _: MASK),
    _schema(["string", "integer"], writeOnly=True),
]
FilePath = Annotated[Path, BeforeValidator(file_path), PlainSerializer(str, when_used="json"), _schema(["string"])]
Url = Annotated[str, BeforeValidator(http_url), _schema(["string"], format="uri")]
AuthorityUrl = Annotated[str, BeforeValidator(authority_url), _schema(["string"], format="uri")]
_one_or_list: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}
_show_listen = PlainSerializer(lambda found: [str(each) for each in found] or "off", when_used="json")
Listen = Annotated[tuple[Address, ...], BeforeValidator(listen), _show_listen, WithJsonSchema(_one_or_list)]
AdminListen = Annotated[
    tuple[Address, ...],
    BeforeValidator(admin_listen),
    _show_listen,
    WithJsonSchema({"anyOf": [*_one_or_list["anyOf"], {"const": False}, {"type": "null"}]}),
]
NetworkEntry = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network,
    BeforeValidator(network),
    PlainSerializer(str, when_used="json"),
    _schema(["string"]),
]
HostEntry = Annotated[str, BeforeValidator(host_entry)]
OriginEntry = Annotated[str, BeforeValidator(origin_entry)]
Pattern = Annotated[str, BeforeValidator(pattern), _schema(["string"], pattern="^/")]
Method = Annotated[str, BeforeValidator(method)]
FieldName = Annotated[str, BeforeValidator(field_name)]
HeaderFields = Annotated[
    dict[
        str,
        Annotated[
            SecretStr | Path,
            PlainSerializer(lambda each: {"file": str(each)} if isinstance(each, Path) else MASK),
        ],
    ],
    BeforeValidator(request_headers),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": ["string", "integer"]},
                    {
                        "type": "object",
                        "properties": {"file": {"type": "string"}},
                        "required": ["file"],
                        "additionalProperties": False,
                    },
                ]
            },
        }
    ),
]
BasePath = Annotated[str, BeforeValidator(base_path), _schema(["string"], pattern="^(/[A-Za-z0-9._~-]+)*$")]
Label = Annotated[str, BeforeValidator(label), _schema(["string"], pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Name = Annotated[str, AfterValidator(nonempty)]
AsTuple = BeforeValidator(as_tuple)
Count = Annotated[int, Field(ge=1, le=1_000_000)]

_worded = PlainSerializer(_show_word_or_duration, when_used="json")
Replay = Annotated[
    Literal["never", "once", "always"] | float,
    BeforeValidator(replay),
    _worded,
    _word_or_duration("never", "once", "always"),
]
RefreshLifetime = Annotated[
    Literal["same", "unknown"] | float,
    BeforeValidator(refresh_lifetime),
    _worded,
    _word_or_duration("same", "unknown"),
]
TlsVersion = Annotated[
    Literal["1.2", "1.3"], BeforeValidator(tls_version), WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]})
]
Command = Annotated[
    tuple[str, ...],
    BeforeValidator(command_line),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
ProxyChoice = Annotated[str, BeforeValidator(proxy), _schema(["string"])]
SecretUrl = Annotated[
    SecretStr,
    BeforeValidator(secret_url),
    PlainSerializer(lambda found: authority_of(found.get_secret_value())),
    _schema(["string"], format="uri", writeOnly=True),
]
