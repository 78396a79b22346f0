"""The kinds of value that a key can have: how each is read, printed back and described in the JSON Schema.

A reader takes what YAML gave and returns the value, or raises ValueError with the text `problem; remedy`, which shows the value seen
(never a secret). `load` adds the key and its place. Durations, sizes and shares are read by `core.units`.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, WithJsonSchema

from passoproxy.core.access import is_loopback
from passoproxy.core.http.paths import readings
from passoproxy.core.units import quoted, read_duration, read_share, read_size, show_duration, show_share, show_size
from passoproxy.values import dataclass

MASK = "********"
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""RFC 9110 §5.6.2."""


# ---- hosts and listen addresses --------------------------------------------------------------------------------------

_ADDRESS_EXAMPLE = "write host:port, [v6]:port, unix:/path or fd:NAME, for example 127.0.0.1:8610"
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
        """The address for a browser on this machine: loopback in the place of the wildcard address."""
        is_wildcard = self.host.strip("0.:") == ""
        return TcpAddress("::1" if ":" in self.host else "127.0.0.1", self.port) if is_wildcard else self

    @property
    def beyond_loopback(self) -> bool:
        """Whether other machines may reach it. A name other than `localhost` counts as reachable."""
        return not is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system, by its absolute path. Its mode guards it."""

    path: str
    beyond_loopback = False

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A socket of the service manager, by its FileDescriptorName. Who can reach it is known once it is inherited."""

    name: str
    beyond_loopback = False

    def __str__(self) -> str:
        return f"fd:{self.name}"


Address = TcpAddress | UnixAddress | FdAddress


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_metadata_address(host: str) -> bool:
    """Whether clouds give out a machine's credentials there: any link-local address, AWS's over IPv6, Google's by name."""
    name = host.lower().rstrip(".")
    found = _ip(name)
    if found is None:
        return name == "metadata.google.internal"
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_link_local or found == ipaddress.ip_address("fd00:ec2::254")


def is_host(host: str) -> bool:
    """Whether the text is a host name or an IP address (v6 without brackets)."""
    if _ip(host) is not None:
        return True
    # digits and dots that are no IPv4 address would be asked of the name service
    return len(host) <= 253 and _HOST_NAME.fullmatch(host) is not None and re.search(r"[A-Za-z_-]", host) is not None


def address(value: object) -> Address:
    """One listen address."""
    text = value.strip() if isinstance(value, str) else ""
    shown = quoted(value)
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest.startswith("/") or "\0" in rest:
            raise ValueError(f"{shown} has no absolute path; write for example unix:/run/passoproxy/proxy.sock")
        if len(rest.encode("utf-8", "surrogateescape")) > 103:
            raise ValueError(f"{shown} is longer than the 103 bytes that systems allow; choose a shorter path")
        return UnixAddress(rest)
    if kind == "fd":
        if not _SOCKET_NAME.fullmatch(rest):
            raise ValueError(f"{shown} names no socket; write fd: and the FileDescriptorName of the .socket unit")
        return FdAddress(rest)
    if not isinstance(value, str):
        raise ValueError(f"{shown} is not an address; {_ADDRESS_EXAMPLE}")
    host, mark, port = text.rpartition(":")
    if mark and ":" in host and not host.startswith("["):
        raise ValueError(f"{shown} is ambiguous; an IPv6 address stands in brackets, for example [::1]:8610")
    if not mark or text.endswith("]"):
        raise ValueError(f"{shown} has no port; {_ADDRESS_EXAMPLE}")
    if not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError(f"{shown} has no port between 0 and 65535; {_ADDRESS_EXAMPLE}")
    is_bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if is_bracketed else host
    if not is_host(bare) or is_bracketed != (":" in bare):
        raise ValueError(f"{shown} has no valid host; {_ADDRESS_EXAMPLE}")
    return TcpAddress(bare, int(port))


def listen(value: object) -> object:
    each = (value,) if isinstance(value, str | Address) else value
    if not isinstance(each, list | tuple) or not each:
        raise ValueError(f"{quoted(value)} is no address and no list of addresses; {_ADDRESS_EXAMPLE}")
    found, faults = list[Address](), list[str]()
    for one in each:
        try:
            found.append(one if isinstance(one, Address) else address(one))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        problems = ", ".join(fault.partition("; ")[0] for fault in faults)
        raise ValueError(faults[0] if len(faults) == 1 else f"{problems}; {_ADDRESS_EXAMPLE}")
    return tuple(found)


def admin_listen(value: object) -> object:
    # YAML reads `off` as false; in quotes, and from the environment, it may come as text
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in ("off", "false", "")):
        return ()
    if value is True:
        raise ValueError(f"'true' is no address; {_ADDRESS_EXAMPLE}, or off")
    return listen(value)


def network(value: object) -> object:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    text = value.strip() if isinstance(value, str) else ""
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        example = "write for example 10.0.0.7 or 10.0.0.0/8"
        raise ValueError(f"{quoted(value)} is neither an address nor a network; {example}") from None
    if _ip(text.partition("/")[0]) != wider.network_address:
        raise ValueError(f"{quoted(value)} is no network: it has bits beyond the prefix; write {wider}")
    return wider


def host_entry(value: object) -> object:
    """A Host value: name, address, [v6], each with a port or without."""
    text = value.strip() if isinstance(value, str) else ""
    if "/" in text or "*" in text:
        example = "write a name without scheme, path or '*', for example proxy.internal"
        raise ValueError(f"{quoted(value)} is not a host; {example}")
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?", text, re.ASCII)
    bare = found[1].strip("[]") if found else ""
    is_valid = found is not None and int(found[2] or 1) in range(1, 65536) and is_host(bare.rstrip("."))
    if not is_valid or (":" in bare) != text.startswith("["):
        example = "write for example proxy.internal, 10.0.0.7:8610 or [::1] (IPv6 in brackets)"
        raise ValueError(f"{quoted(value)} is not a host; {example}")
    return text


# ---- URLs ------------------------------------------------------------------------------------------------------------


def url_parts(value: object, example: str) -> urllib.parse.SplitResult:
    """The parts of an http or https URL with a valid host and port, no user information and no fragment."""
    text = value.strip() if isinstance(value, str) else ""
    shown = quoted(without_password(text)) if isinstance(value, str) else quoted(value)
    if re.search(r"[^\x21-\x7e]", text):
        remedy = "write it percent-encoded, a host name in its xn-- form"
        raise ValueError(f"{shown} has a character that no URL has; {remedy}")
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts = None
    if parts is None or not isinstance(value, str):
        raise ValueError(f"{shown} is not a URL; write for example {example}")
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


def origin_url(value: object) -> object:
    """Scheme and authority, and a path that is put before every path; without a '/' at its end."""
    parts = url_parts(value, "https://api.example.com")
    path = parts.path.rstrip("/")
    if "?" in str(value) or not re.fullmatch(r"(/[A-Za-z0-9._~!$&'()*+,=:@-]+)*", path) or _has_dot_segment(path):
        raise ValueError(
            f"{quoted(value)} has a query, or a path that cannot be put before others; write for example {parts.scheme}://{parts.netloc}/v1"
        )
    return f"{parts.scheme}://{parts.netloc}{path}"


def collector_url(value: object) -> object:
    """Where OTLP is taken; without a '/' at its end."""
    parts = url_parts(value, "http://127.0.0.1:4318")
    if "?" in str(value):  # which may hold a key, so it is not shown
        remedy = "leave it out; a collector near by adds what a service behind it asks for"
        raise ValueError(f"{parts.scheme}://{parts.netloc}{parts.path} has a query; {remedy}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _has_dot_segment(path: str) -> bool:
    return not {".", ".."}.isdisjoint(path.split("/"))


def origin_entry(value: object) -> object:
    """A browser's Origin value (RFC 6454 §6.2)."""
    example = "http://localhost:3000"
    if isinstance(value, str) and value.strip() in ("*", "null"):
        raise ValueError(f"{quoted(value)} would let any page in; write each origin, for example {example}")
    parts = url_parts(value, example)
    if parts.path or parts.query:
        raise ValueError(f"{quoted(value)} is more than an origin; write {parts.scheme}://{parts.netloc}")
    return f"{parts.scheme}://{parts.netloc.lower()}"


_PROXY_EXAMPLE = "http://proxy.internal:3128"


def proxy(value: object) -> object:
    if not isinstance(value, str):
        return proxy_url(value)
    if value.strip() in ("env", "none"):
        return value.strip()
    if "@" in value:
        remedy = "put the whole URL into a file and name it in upstream.proxy_file"
        raise ValueError(f"{quoted(without_password(value))} holds credentials; {remedy}")
    if "://" not in value:
        raise ValueError(f"{quoted(value)} is no proxy; write env, none, or a URL such as {_PROXY_EXAMPLE}")
    return proxy_url(value)


def proxy_url(value: object) -> str:
    """A proxy's URL without a path. Credentials are allowed, and never shown."""
    text = value.strip() if isinstance(value, str) else value
    head, at, tail = text.rpartition("@") if isinstance(text, str) else ("", "", "")
    scheme = head.partition("://")[0]
    parts = url_parts(f"{scheme}://{tail}" if at else text, _PROXY_EXAMPLE)
    if parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{quoted(without_password(str(text)))} has a path or query; write {_PROXY_EXAMPLE}")
    return str(text).rstrip("/")


def secret_url(value: object) -> SecretStr:
    """A URL that is itself a credential, as those of webhooks are."""
    if isinstance(value, SecretStr):
        return value
    example = "https://hooks.example.com/services/..."
    if not isinstance(value, str) or not value.strip().startswith(("http://", "https://")):
        raise ValueError(f"is not an http or https URL; write for example {example}")
    try:
        url_parts(value, example)
    except ValueError:
        raise ValueError(f"is not a valid URL; write for example {example}") from None
    return SecretStr(value.strip())


def without_password(url: str) -> str:
    """The URL for people to see, with its user information masked.

    That is all up to the last '@': a password may hold '/' or '@', and the scheme may be missing.
    """
    return re.sub(r"^([^/@]*//)?.*@", rf"\1{MASK}@", url, flags=re.DOTALL)


def _authority(url: SecretStr) -> str:
    """The part of a secret URL that may be shown."""
    parts = urllib.parse.urlsplit(url.get_secret_value())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{MASK}"


# ---- texts, secrets, files -------------------------------------------------------------------------------------------


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


def file_path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{quoted(value)} is not a path; write for example /etc/passoproxy/file")
    return Path(value.strip())


def nonempty(value: str) -> str:
    if not value.strip():
        raise ValueError("'' is empty; give a value, or remove the line")
    return value


def label(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value, re.ASCII):
        remedy = "write up to 64 letters, digits, '.', '_' or '-', for example requirements"
        raise ValueError(f"{quoted(value)} is not a name; {remedy}")
    return value


def command_line(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return (value.strip(),)
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise ValueError(f"{quoted(value)} is not a command; write a path, or a list of program and arguments")


def tls_version(value: object) -> object:
    # unquoted, YAML reads 1.2 as a number
    if str(value) in ("1.2", "1.3") and isinstance(value, str | float):
        return str(value)
    raise ValueError(f'{quoted(value)} is not a TLS version that can be asked for; write "1.2" or "1.3"')


def replay(value: object) -> object:
    return _word_or_duration(
        value, ("never", "once", "always"), "write never, once, always, or a grace period such as 30s"
    )


def refresh_lifetime(value: object) -> object:
    return _word_or_duration(value, ("same", "unknown"), "write same, unknown, or a duration such as 30d")


def _word_or_duration(value: object, words: tuple[str, ...], remedy: str) -> object:
    if value in words:
        return value
    try:
        return read_duration(value)
    except ValueError:
        raise ValueError(f"{quoted(value)} is not known here; {remedy}") from None


# ---- paths, methods, header fields -----------------------------------------------------------------------------------

_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_NEVER_FORWARDED = ("TRACE", "CONNECT")
_SET_BY_PROXY = re.compile(
    "authorization|connection|content-length|expect|host|keep-alive|te|trailer|transfer-encoding|upgrade|via|proxy-.*"
)


def pattern(value: object) -> object:
    """A path pattern (contract §3): literal segments, `*` for one, `**` for any number."""
    example, shown = "write for example /api/v2/content/**", quoted(value)
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f"{shown} is not a path pattern, which begins with '/'; {example}")
    if re.search(r"[?#\x00-\x20\x7f]", value):
        problem = "holds a query, a fragment or white space"
        raise ValueError(f"{shown} {problem}; a pattern is for the path alone, {example}")
    if readings(value, scripts=False) is None:
        problem = "can be read in too many ways"
        raise ValueError(f"{shown} {problem}; write it without escapes and dot segments, {example}")
    if any("*" in segment and segment not in ("*", "**") for segment in value.split("/")):
        raise ValueError(f"{shown} mixes '*' with text: '*' is one whole path segment, '**' any number; {example}")
    return value


def base_path(value: object) -> object:
    """A prefix of paths: empty, or segments that begin with '/', without a '/' at the end."""
    if value != "" and not (isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value)):
        remedy = "write for example /dataservice, without a '/' at its end"
        raise ValueError(f"{quoted(value)} is not a prefix of paths; {remedy}")
    if _has_dot_segment(str(value)):
        raise ValueError(f"{quoted(value)} has a dot segment; write for example /dataservice")
    return value


def method(value: object) -> object:
    text = value.strip() if isinstance(value, str) else ""
    if not TOKEN.fullmatch(text):
        raise ValueError(f"{quoted(value)} is not an HTTP method; write for example GET")
    if text.upper() in _NEVER_FORWARDED:
        raise ValueError(f"{quoted(value)} is never forwarded; remove it from the list")
    if text not in _METHODS and text.upper() in _METHODS:
        raise ValueError(f"{quoted(value)} is not a method, which are told apart by case; write {text.upper()}")
    return text


def field_name(value: object) -> object:
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise ValueError(f"{quoted(value)} is not the name of a header field; write for example Accept-Language")
    return value


def is_field_value(text: str) -> bool:
    """Whether a text, white space at its ends cut, can be sent as the value of a header field (RFC 9110 §5.5, ASCII only)."""
    return re.fullmatch(r"[\x20-\x7e]+", text.strip()) is not None


def request_headers(value: object) -> object:
    """Fields for every request to the origin: each a text, or `{file: PATH}`. A value may be a credential, so no fault shows it."""
    if not isinstance(value, dict):
        example = "write for example {X-Api-Key: {file: /etc/passoproxy/api_key}}"
        raise ValueError(f"is not a mapping of header fields; {example}")
    found: dict[str, SecretStr | Path] = {}
    for name, each in value.items():
        field_name(name)
        if _SET_BY_PROXY.fullmatch(name.lower()):
            raise ValueError(f"{quoted(name)} is a field that the proxy sets itself; remove it")
        if name.lower() in {other.lower() for other in found}:
            raise ValueError(f"{quoted(name)} stands twice, in another case; keep one of the two")
        found[name] = _header_value(f"the value of {quoted(name)}", each)
    return found


def _header_value(begin: str, value: object) -> SecretStr | Path:
    if isinstance(value, SecretStr | Path):
        return value
    if isinstance(value, dict):
        if set(value) != {"file"}:
            raise ValueError(f"{begin} is a mapping without one key 'file'; write {{file: PATH}}")
        return file_path(value["file"])
    text = plain_text(value)
    if not isinstance(text, str) or not is_field_value(text):
        raise ValueError(f"{begin} cannot stand in a header field; write one line of printable ASCII in quotes")
    return SecretStr(text.strip())


# ---- the types -------------------------------------------------------------------------------------------------------


def _schema(*types: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": types[0] if len(types) == 1 else list(types), **more})


def _worded(*words: str) -> WithJsonSchema:
    written = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$"}
    return WithJsonSchema({"anyOf": [{"enum": list(words)}, {"type": "number", "minimum": 0}, written]})


_show_text = PlainSerializer(str, when_used="json")
_show_worded = PlainSerializer(lambda each: each if isinstance(each, str) else show_duration(each), when_used="json")
_show_listen = PlainSerializer(lambda found: [str(each) for each in found] or "off", when_used="json")
_show_share = PlainSerializer(lambda found: int(found) if found == int(found) else found, when_used="json")
_show_header = PlainSerializer(lambda each: {"file": str(each)} if isinstance(each, Path) else MASK)
_one_or_list: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "array", "items": {"type": "string"}, "minItems": 1},
]
_header_schema = {
    "anyOf": [
        {"type": ["string", "integer"]},
        {
            "type": "object",
            "properties": {"file": {"type": "string"}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}
_duration_schema = _schema(
    *("string", "number"),
    pattern=r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)?$",
    minimum=0,
    examples=["30s", "15m", "6h", "7d"],
)
_size_schema = _schema(
    *("string", "integer"), pattern=r"^[0-9]+(\.[0-9]+)? ?([KMGT]iB|B)?$", minimum=0, examples=["64MiB", "1GiB"]
)
_share_schema = _schema(
    *("string", "number"), pattern=r"^[0-9]+(\.[0-9]+)? ?%?$", minimum=0, maximum=1, examples=["55%", 0.55]
)

AsTuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Natural = Annotated[int, Field(ge=0)]
Duration = Annotated[
    float, BeforeValidator(read_duration), PlainSerializer(show_duration, when_used="json"), _duration_schema
]
Size = Annotated[int, BeforeValidator(read_size), PlainSerializer(show_size, when_used="json"), _size_schema]
Share = Annotated[float, BeforeValidator(read_share), _show_share, _share_schema]
Percentage = Annotated[Share, PlainSerializer(show_share, when_used="json")]
Replay = Annotated[
    Literal["never", "once", "always"] | float,
    BeforeValidator(replay),
    _show_worded,
    _worded("never", "once", "always"),
]
RefreshLifetime = Annotated[
    Literal["same", "unknown"] | float, BeforeValidator(refresh_lifetime), _show_worded, _worded("same", "unknown")
]
TlsVersion = Annotated[
    Literal["1.2", "1.3"], BeforeValidator(tls_version), WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]})
]

Name = Annotated[str, AfterValidator(nonempty)]
Text = Annotated[str, BeforeValidator(plain_text), AfterValidator(nonempty), _schema("string", "integer")]
Label = Annotated[str, BeforeValidator(label), _schema("string", pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Secret = Annotated[
    SecretStr,
    BeforeValidator(secret),
    PlainSerializer(lambda _: MASK),
    _schema("string", "integer", writeOnly=True),
]
SecretUrl = Annotated[
    SecretStr,
    BeforeValidator(secret_url),
    PlainSerializer(_authority),
    _schema("string", format="uri", writeOnly=True),
]
FilePath = Annotated[Path, BeforeValidator(file_path), _show_text, _schema("string")]
Command = Annotated[tuple[str, ...], BeforeValidator(command_line), WithJsonSchema({"anyOf": _one_or_list})]

Url = Annotated[str, BeforeValidator(http_url), _schema("string", format="uri")]
OriginUrl = Annotated[str, BeforeValidator(origin_url), _schema("string", format="uri")]
CollectorUrl = Annotated[str, BeforeValidator(collector_url), _schema("string", format="uri")]
AuthorityUrl = Annotated[str, BeforeValidator(authority_url), _schema("string", format="uri")]
ProxyChoice = Annotated[str, BeforeValidator(proxy), _schema("string")]
Listen = Annotated[tuple[Address, ...], BeforeValidator(listen), _show_listen, WithJsonSchema({"anyOf": _one_or_list})]
AdminListen = Annotated[
    tuple[Address, ...],
    BeforeValidator(admin_listen),
    _show_listen,
    WithJsonSchema({"anyOf": [*_one_or_list, {"const": False}, {"type": "null"}]}),
]
NetworkEntry = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(network), _show_text, _schema("string")
]
HostEntry = Annotated[str, BeforeValidator(host_entry)]
OriginEntry = Annotated[str, BeforeValidator(origin_entry)]
Pattern = Annotated[str, BeforeValidator(pattern), _schema("string", pattern="^/")]
BasePath = Annotated[str, BeforeValidator(base_path), _schema("string", pattern="^(/[A-Za-z0-9._~-]+)*$")]
Method = Annotated[str, BeforeValidator(method)]
FieldName = Annotated[str, BeforeValidator(field_name)]
HeaderFields = Annotated[
    dict[str, Annotated[SecretStr | Path, _show_header]],
    BeforeValidator(request_headers),
    WithJsonSchema({"type": "object", "additionalProperties": _header_schema}),
]

Hosts = Annotated[tuple[HostEntry, ...], AsTuple]
Origins = Annotated[tuple[OriginEntry, ...], AsTuple]
Networks = Annotated[tuple[NetworkEntry, ...], AsTuple]
Patterns = Annotated[tuple[Pattern, ...], AsTuple]
Methods = Annotated[tuple[Method, ...], AsTuple]
FieldNames = Annotated[tuple[FieldName, ...], AsTuple]
Names = Annotated[tuple[Name, ...], AsTuple]
Texts = Annotated[tuple[Text, ...], AsTuple]
Labels = Annotated[tuple[Label, ...], AsTuple]
