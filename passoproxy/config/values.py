"""How each kind of value is read from what YAML gave: plain functions that return the value or raise ValueError.

Each text shows the value seen (never a secret) and what a right one looks like; which key was meant is the reader's to say.
"""

from __future__ import annotations

import ipaddress
import re
import typing
import urllib.parse
from pathlib import Path

from pydantic import SecretStr

from passoproxy.config import addresses, units
from passoproxy.core.http.readings import readings

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
        raise ValueError(f"{units.quoted(value)} is not a path; write for example /etc/passoproxy/file")
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
            f"{units.quoted(value)} is neither an address nor a network; write for example 10.0.0.7 or 10.0.0.0/8"
        ) from None
    raise ValueError(f"{units.quoted(value)} is no network: it has bits beyond the prefix; write {wider}")


def url_parts(value: object, example: str) -> urllib.parse.SplitResult:
    """The parts of an http or https URL with a valid host and port, no user information and no fragment. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{units.quoted(value)} is not a URL; write for example {example}")
    text = value.strip()
    shown = units.quoted(without_password(text))
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
    if not addresses.is_host(host) or port == 0 or parts.netloc.endswith(":"):
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
        raise ValueError(f"{units.quoted(value)} has a path or query; write {parts.scheme}://{parts.netloc}")
    return f"{parts.scheme}://{parts.netloc}"


def without_password(url: str) -> str:
    """The URL with its user information masked, for people to see."""
    return re.sub(r"(//)[^/@]*@", rf"\1{MASK}@", url)


def listen(value: object) -> object:
    each = (
        (value,)
        if isinstance(value, str | addresses.TcpAddress | addresses.UnixAddress | addresses.FdAddress)
        else value
    )
    if not isinstance(each, list | tuple) or not each:
        raise ValueError(f"{units.quoted(value)} is no address and no list of addresses; {addresses.EXAMPLE}")
    found, faults = list[addresses.Address](), list[str]()
    for one in each:
        try:
            found.append(one if isinstance(one, addresses.Address) else addresses.address(one))
        except ValueError as error:
            faults.append(str(error))
    if len(faults) > 1:
        problems = ", ".join(fault.partition("; ")[0] for fault in faults)
        raise ValueError(f"{problems}; {addresses.EXAMPLE}")
    if faults:
        raise ValueError(faults[0])
    return tuple(found)


def admin_listen(value: object) -> object:
    # YAML reads `off` as false; in quotes, and from the environment, it may come as text
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in ("off", "false", "")):
        return ()
    if value is True:
        raise ValueError(f"'true' is no address; {addresses.EXAMPLE}, or off")
    return listen(value)


def host_entry(value: object) -> object:
    """A Host value: name, address, [v6], each with a port or without."""
    text = value.strip() if isinstance(value, str) else ""
    if "/" in text or "*" in text:
        raise ValueError(
            f"{units.quoted(value)} is not a host; write a name without scheme, path or '*', for example proxy.internal"
        )
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?", text, re.ASCII)
    if found is None or int(found[2] or 1) not in range(1, 65536):
        raise ValueError(
            f"{units.quoted(value)} is not a host; write for example proxy.internal, 10.0.0.7:8610 or [::1] (IPv6 in brackets)"
        )
    bare = found[1].strip("[]")
    if not addresses.is_host(bare.rstrip(".")) or (":" in bare) != found[1].startswith("["):
        raise ValueError(
            f"{units.quoted(value)} is not a host; write for example proxy.internal, 10.0.0.7:8610 or [::1] (IPv6 in brackets)"
        )
    return text


def origin_entry(value: object) -> object:
    """A browser's Origin value (RFC 6454 §6.2)."""
    example = "http://localhost:3000"
    if isinstance(value, str) and value.strip() in ("*", "null"):
        raise ValueError(f"{units.quoted(value)} would let any page in; write each origin, for example {example}")
    parts = url_parts(value, example)
    if parts.path or parts.query:
        raise ValueError(f"{units.quoted(value)} is more than an origin; write {parts.scheme}://{parts.netloc}")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def pattern(value: object) -> object:
    """A path pattern (contract §3): literal segments, `*` for one, `**` for any number."""
    example = "write for example /api/v2/content/**"
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f"{units.quoted(value)} is not a path pattern, which begins with '/'; {example}")
    if re.search(r"[?#\x00-\x20\x7f]", value):
        raise ValueError(
            f"{units.quoted(value)} holds a query, a fragment or white space; a pattern is for the path alone, {example}"
        )
    if readings(value, scripts=False) is None:
        raise ValueError(
            f"{units.quoted(value)} can be read in too many ways; write it without escapes and dot segments, {example}"
        )
    if any("*" in segment and segment not in ("*", "**") for segment in value.split("/")):
        raise ValueError(
            f"{units.quoted(value)} mixes '*' with text: '*' is one whole path segment, '**' any number; {example}"
        )
    return value


_STANDARD = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_NEVER_FORWARDED = frozenset({"TRACE", "CONNECT"})


def method(value: object) -> object:
    text = value.strip() if isinstance(value, str) else ""
    if not TOKEN.fullmatch(text):
        raise ValueError(f"{units.quoted(value)} is not an HTTP method; write for example GET")
    if text.upper() in _NEVER_FORWARDED:
        raise ValueError(f"{units.quoted(value)} is never forwarded; remove it from the list")
    if text not in _STANDARD and text.upper() in _STANDARD:
        raise ValueError(f"{units.quoted(value)} is not a method, which are told apart by case; write {text.upper()}")
    return text


def field_name(value: object) -> object:
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise ValueError(f"{units.quoted(value)} is not the name of a header field; write for example Accept-Language")
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
            raise ValueError(f"{units.quoted(name)} is a field that the proxy sets itself; remove it")
        if name.lower() in {other.lower() for other in found}:
            raise ValueError(f"{units.quoted(name)} stands twice, in another case; keep one of the two")
        found[name] = _header_value(name, each)
    return found


def _header_value(name: str, value: object) -> SecretStr | Path:
    if isinstance(value, SecretStr | Path):
        return value
    if isinstance(value, dict):
        if set(value) != {"file"}:
            raise ValueError(
                f"the value of {units.quoted(name)} is a mapping without one key 'file'; write {{file: PATH}}"
            )
        return typing.cast(Path, file_path(value["file"]))
    text = plain_text(value)
    if not isinstance(text, str) or not is_field_value(text):
        raise ValueError(
            f"the value of {units.quoted(name)} cannot stand in a header field; write one line of printable ASCII in quotes"
        )
    return SecretStr(text.strip())


def is_field_value(text: str) -> bool:
    """Whether a text, white space at its ends cut, can be sent as the value of a header field (RFC 9110 §5.5, ASCII only)."""
    return re.fullmatch(r"[\x20-\x7e]+", text.strip()) is not None


def base_path(value: object) -> object:
    """A prefix of paths: empty, or segments that begin with '/', without a '/' at the end."""
    if value == "" or (isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value)):
        if "." in str(value).split("/") or ".." in str(value).split("/"):
            raise ValueError(f"{units.quoted(value)} has a dot segment; write for example /dataservice")
        return value
    raise ValueError(
        f"{units.quoted(value)} is not a prefix of paths; write for example /dataservice, without a '/' at its end"
    )


def label(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value, re.ASCII):
        raise ValueError(
            f"{units.quoted(value)} is not a name; write up to 64 letters, digits, '.', '_' or '-', for example requirements"
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
        raise ValueError(
            f"{units.quoted(value)} is no proxy; write env, none, or a URL such as http://proxy.internal:3128"
        )
    if isinstance(value, str) and "@" in value:
        raise ValueError(
            f"{units.quoted(without_password(value))} holds credentials; put the whole URL into a file and name it in upstream.proxy_file"
        )
    return proxy_url(value)


def proxy_url(value: object) -> str:
    """A proxy's URL without a path, credentials allowed (they are never shown). Raises ValueError."""
    text = value.strip() if isinstance(value, str) else value
    head, at, tail = text.rpartition("@") if isinstance(text, str) else ("", "", "")
    scheme = head.partition("://")[0]
    parts = url_parts(f"{scheme}://{tail}" if at else text, "http://proxy.internal:3128")
    if parts.path not in ("", "/") or parts.query:
        raise ValueError(
            f"{units.quoted(without_password(str(text)))} has a path or query; write http://proxy.internal:3128"
        )
    return str(text).rstrip("/")


def replay(value: object) -> object:
    if value in ("never", "once", "always"):
        return value
    try:
        return units.duration(value)
    except ValueError:
        raise ValueError(
            f"{units.quoted(value)} is not known here; write never, once, always, or a grace period such as 30s"
        ) from None


def refresh_lifetime(value: object) -> object:
    if value in ("same", "unknown"):
        return value
    try:
        return units.duration(value)
    except ValueError:
        raise ValueError(
            f"{units.quoted(value)} is not known here; write same, unknown, or a duration such as 30d"
        ) from None


def tls_version(value: object) -> object:
    # unquoted, YAML reads 1.2 as a number
    if str(value) in ("1.2", "1.3") and isinstance(value, str | float):
        return str(value)
    raise ValueError(f'{units.quoted(value)} is not a TLS version that can be asked for; write "1.2" or "1.3"')


def command_line(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return (value.strip(),)
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise ValueError(f"{units.quoted(value)} is not a command; write a path, or a list of program and arguments")


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
