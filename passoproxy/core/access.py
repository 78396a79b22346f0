"""Who may ask, and for what (contract §3 "Reading of some keys", §6): Host, browser origin and CORS (Fetch §3.2), client key, method, path, and which
peers may connect at all. Each question returns nothing or raises the refusal; `proxy.access` asks them in order.

A page that is not listed is refused before the origin is asked, because a browser sends the request first and hides only the answer.

`_method` fields let a POST stand for another method in many frameworks. What PHP makes of a body hangs on small things of its `Content-Type` and
on parsers with habits of their own (`main/rfc1867.c`, `main/php_variables.c`). So a body is searched in every reading that it could be given,
and a field is found if one of them has it. Header fields that do the same never leave (`core.http.forwarding`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from passoproxy.core.http.content_coding import content_coding
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed
from passoproxy.core.http.paths import Pattern, climbs, compile_pattern, decoded_once, readings
from passoproxy.core.http.request_line import Authority, parse_authority
from passoproxy.core.http.syntax import is_token, split_list
from passoproxy.errors import (
    BadRequest,
    BodyTooLarge,
    ClientNotAllowed,
    HostNotAllowed,
    MethodNotAllowed,
    NotHere,
    OriginNotAllowed,
    PathNotAllowed,
)
from passoproxy.values import dataclass

# What a browser says of the relation between page and target; `none` is an address that a person typed.
_HARMLESS_SITES = frozenset({"same-origin", "none"})
_REMEMBER_PREFLIGHT_SECONDS = 600
_OWNED_PREFIX = "access-control-"


@dataclass(frozen=True, slots=True)
class CrossOriginPolicy:
    """`allowed_origins` as listed (`https://app.example`), in lower case; `methods` as a page may use them."""

    allowed_origins: frozenset[str] = frozenset()
    methods: tuple[str, ...] = ()


def listed_origin(policy: CrossOriginPolicy, head: RequestHead) -> str | None:
    """The listed page origin that asks; None where no page does, or one of the proxy's own that a browser sends without `Origin`.

    Raises OriginNotAllowed for any other page, the proxy's own origin included where it is not listed.
    """
    fields = head.fields
    if "Origin" not in fields and "Sec-Fetch-Site" not in fields:
        return None
    origins, sites = fields.getall("Origin", ()), fields.getall("Sec-Fetch-Site", ())
    if len(origins) == 1 and origins[0].lower() in policy.allowed_origins:
        return origins[0]
    if not origins and _HARMLESS_SITES.issuperset(sites):
        return None
    raise OriginNotAllowed(_remedy(policy, origins))


def is_preflight(head: RequestHead) -> bool:
    """Whether `head` asks, on behalf of a page, if a request would be allowed."""
    return head.method == "OPTIONS" and "Origin" in head.fields and "Access-Control-Request-Method" in head.fields


def preflight_answer(policy: CrossOriginPolicy, origin: str, fields: Fields) -> ResponseHead:
    """The answer to a preflight of a listed origin. Allows the listed methods and the fields it asked for."""
    asked = split_list(", ".join(fields.getall("Access-Control-Request-Headers", ())))
    pairs = [
        *cross_origin_fields(origin),
        ("Access-Control-Allow-Methods", ", ".join(policy.methods)),
        ("Access-Control-Allow-Headers", ", ".join(name for name in asked if is_token(name))),
        ("Access-Control-Max-Age", str(_REMEMBER_PREFLIGHT_SECONDS)),
    ]
    if fields.get("Access-Control-Request-Private-Network") == "true":
        pairs.append(("Access-Control-Allow-Private-Network", "true"))
    return ResponseHead(204, changed(ResponseHead(204).fields, having=pairs))


def cross_origin_fields(origin: str) -> tuple[tuple[str, str], ...]:
    """What lets a page of `origin` read an answer."""
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", "*"),
        ("Vary", "Origin"),
    )


def readable_by(head: ResponseHead, origin: str) -> ResponseHead:
    """`head` with the CORS fields of the proxy in place of the origin server's own; `Vary` keeps what it had."""
    own = [name for name in head.fields if name.lower().startswith(_OWNED_PREFIX)]
    varies = head.fields.getall("Vary", ())
    having = [*cross_origin_fields(origin)[:2], *(("Vary", value) for value in (*varies, "Origin"))]
    return head.with_fields(changed(head.fields, without=own, having=having))


def _remedy(policy: CrossOriginPolicy, origins: list[str] | tuple[str, ...]) -> str:
    if len(origins) != 1 or origins[0] == "null":
        return (
            "a browser page of another origin asked and did not name itself; only origins of server.allowed_origins may"
        )
    listed = ", ".join(json.dumps(origin) for origin in (*sorted(policy.allowed_origins), origins[0][:255]))
    return f"server: {{allowed_origins: [{listed}]}}"


_LONGEST_METHOD = 64
_LONGEST_VALUE = 4 * _LONGEST_METHOD
# PHP splits a line of a part's head that is longer than 5 KiB, and reads what follows as another line.
_LONGEST_LINE = 4096
# PHP reads a thousand parts unless it is told otherwise.
_MOST_PARTS = 2000

_MOST_FIELDS = 1000
_MOST_LOOKED_AT = 4000
_LOOKED_BACK = 64  # bytes: a name behind more spaces than that counts wherever it is


class _Spelling:
    """How a kind of text spells `_method`, in lower case: `mark` and two hexadecimal digits are an escape, `before` is what ends where `method`
    begins, `lookbehinds` as much of it as has fixed widths, and `after` what follows."""

    def __init__(self, mark: str, before: bytes, lookbehinds: Iterable[str], after: str) -> None:
        escapes = [[f"{mark}{code:02x}" for code in (each, each ^ 0x20)] for each in b"method"]
        escaped = "".join(
            f"(?:{chr(each)}|{'|'.join(map(re.escape, codes))})" for each, codes in zip(b"method", escapes, strict=True)
        )
        self._escapes = [code.encode() for codes in escapes for code in codes]
        self._mark = mark.encode()
        # A pattern that begins with a literal is searched several times as fast, so that the lookbehinds stand behind it.
        behind = "|".join(f"(?<={each}method)" for each in lookbehinds)
        self._plain = re.compile(f"method(?:{behind}){after}".encode())
        self._escaped = re.compile(f"{escaped}{after}".encode())
        self._before = re.compile(before + rb"\Z")

    def places(self, data: bytes) -> Iterator[int]:
        """Where each `_method` ends. Raises UnclearOverride if there are very many that could be one."""
        lowered = data.lower()
        is_escaped = self._mark in lowered and any(code in lowered for code in self._escapes)
        for number, found in enumerate((self._escaped if is_escaped else self._plain).finditer(lowered)):
            if number == _MOST_LOOKED_AT:
                raise UnclearOverride(f"there are more than {number} places that could be one")
            if self._before.search(lowered[max(0, found.start() - _LOOKED_BACK) : found.start()]):
                yield found.end()


# PHP skips spaces before a name and ends it at NUL; `.`, a space and a lone `[` in it are `_`. Case and `;` are other frameworks'.
_FORM = _Spelling(
    "%",
    before=rb"(?:\A|[&;])(?:[+ ]|%20)*(?:[_.+ \[]|%5f|%2e|%20|%5b)",
    lookbehinds=[
        f"{at}{each}" for each in (r"[_.+ \[]", "%5f", "%2e", "%20", "%5b") for at in (r"\A", "[&;+ ]", "%20")
    ],
    after=r"(?=[=&;\0]|%00|\Z)",
)
_JSON = _Spelling("\\u00", before=rb'"(?:_|\\u005f)', lookbehinds=('"_', r'"\\u005f'), after='"')
_FORM_VALUE = re.compile(rb"[^=&;]*=?([^&;]*)")

_DISPOSITION = b"content-disposition:"
_HEAD_END = re.compile(rb"\n\r?\n")
# A line that begins with white space, or has no colon, goes on with the line before.
_FOLD = re.compile(rb"\r?\n(?=[ \t\v\f\r]|[^:\n]*(?:\n|\Z))")
_IN_DISPOSITION = re.compile(rb"name=+\s*[\"']?\s*[_. \[]method(?=[\s;\"']|\Z)")
_PLAIN_VALUE = re.compile(rb"([A-Za-z]{1,%d})\r?\n--" % _LONGEST_METHOD)

_MAY_BE_A_FORM = re.compile("form|urlencoded|multipart|json", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+[ \t]*(?:;.*)?", re.ASCII)


class UnclearOverride(ValueError):
    """A body in which readers may find different methods; the text says what to write instead."""


def methods_in_query(query: str | None) -> list[str]:
    """The values of `_method` in a query string."""
    return _in_form(query.encode("utf-8", "surrogateescape")) if query else []


def may_hold_method(content_type: str) -> bool:
    """Whether a body of this type could be read as a form of some kind; only what is plainly of another type could not."""
    return _MEDIA_TYPE.fullmatch(content_type) is None or _MAY_BE_A_FORM.search(content_type) is not None


def methods_in_body(content_type: str, data: bytes) -> Sequence[str]:
    """The values of `_method` in a body, read as a form, as JSON, and (with a type that could name a boundary) in parts.

    Raises UnclearOverride where one may be there and its value cannot be told for sure.
    """
    found = _in_form(data)
    if next(_JSON.places(data), None) is not None:
        found += _in_json(data)
    if "multipart" in content_type.lower():
        found += _in_parts(data)
    return found


_LONGEST_BODY_REMEMBERED = 2048
_remembered_methods = lru_cache(maxsize=512)(methods_in_body)  # clients ask the same few questions again and again


def _in_form(form: bytes) -> list[str]:
    values: set[bytes] = set()
    for number, at in enumerate(_FORM.places(form)):
        if number == _MOST_FIELDS:
            raise UnclearOverride(f"there are more than {_MOST_FIELDS} of them")
        values.add(_FORM_VALUE.findall(form, at, at + _LONGEST_VALUE)[0])
    return sorted(unquote_to_bytes(value.replace(b"+", b" ")).decode("latin-1") for value in values)


def _in_json(data: bytes) -> list[str]:
    try:
        # Numbers stay texts: one of 5,000 digits is a number to PHP, and a ValueError here.
        document = json.loads(data.decode("utf-8", "replace"), parse_int=str, strict=False)
    except ValueError:
        return []
    except RecursionError:
        raise UnclearOverride("the JSON is nested too deeply to be read") from None
    members = document.items() if isinstance(document, dict) else ()
    return [value for name, value in members if name.lower() == "_method" and isinstance(value, str)]


def _in_parts(data: bytes) -> list[str]:
    methods: list[str] = []
    for number, (head, content_at) in enumerate(_heads_of_parts(data)):
        if number == _MOST_PARTS:
            raise UnclearOverride(f"there are more than {_MOST_PARTS} parts")
        if b"\0" in head or any(len(line) > _LONGEST_LINE for line in head.split(b"\n")):
            raise UnclearOverride(f"the head of a part has a NUL or a line of more than {_LONGEST_LINE} bytes")
        if _IN_DISPOSITION.search(_FOLD.sub(b"", head)) is not None:
            value = _PLAIN_VALUE.match(data, content_at)
            if value is None:
                raise UnclearOverride(
                    "its part is not plainly written (a head, an empty line, the name of a method, the next boundary)"
                )
            methods.append(value[1].decode("ascii"))
    return methods


def _heads_of_parts(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Whatever could be the head of a part, wherever the boundaries are: in lower case, each with where its content begins."""
    lowered, at = data.lower(), 0
    while (begun := lowered.find(_DISPOSITION, at)) >= 0:
        end = _HEAD_END.search(lowered, begun)
        stop, at = (end.start(), end.end()) if end else (len(data), len(data))
        yield lowered[lowered.rfind(b"\n", 0, begun) + 1 : stop], at


KEY_FIELD = "X-Passoproxy-Key"

SEARCHED_BYTES = 1024 * 1024
"""The body of a POST that could ask for a forbidden method is searched for a `_method` field up to this length."""

GLANCED_BYTES = 64 * 1024
"""Any other is, where it is no longer than this."""

_CHALLENGE = ("WWW-Authenticate", 'Basic realm="passoproxy", charset="UTF-8"')
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NEVER_FORWARDED = frozenset({"TRACE", "CONNECT"})
_OVERRIDABLE = frozenset({"PUT", "PATCH", "DELETE"})
# Verdicts on longer paths are made anew each time, so that hostile ones cannot fill the memory.
LONGEST_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One line of the client keys' file: a name for logs, and the SHA-256 digest of the key."""

    name: str
    digest: bytes = field(repr=False)


def client_key(name: str, key: str) -> ClientKey:
    """The line `name:key`, of which only a digest is kept."""
    return ClientKey(name, _digest(key))


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """What the configuration says. `client_keys` None asks for no key, an empty tuple lets no client in.

    `base_path` is a prefix of the clients' paths, `upstream_path` one of the origin's: neither ends with a slash.
    """

    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    allowed_origins: tuple[str, ...] = ()
    deny_paths: tuple[str, ...] = ("/__internal/**",)
    allow_paths: tuple[str, ...] = ("/**",)
    allow_methods: tuple[str, ...] = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
    client_keys: tuple[ClientKey, ...] | None = None
    base_path: str = ""
    upstream_path: str = ""


class KeyHolder(NamedTuple):
    """Whose key a request carried. `by_basic`: in `Authorization`, which is then for the proxy alone."""

    name: str = ""
    by_basic: bool = False


class Admission:
    """A policy made ready for asking; immutable. `pages` is what `cross_origin` asks for."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        """Raises ValueError where a path pattern does not begin with a slash or a host is none."""
        self.policy = policy
        self._allowed_hosts = frozenset(_listed_host(entry) for entry in policy.allowed_hosts)
        self._denied = _patterns_for_readings(policy.deny_paths)
        self._allowed = _patterns_for_readings(policy.allow_paths)
        self._allowed_once = tuple(compile_pattern(text) for text in policy.allow_paths)
        self._allows_all = "/**" in policy.allow_paths
        self._methods = frozenset(policy.allow_methods) - _NEVER_FORWARDED
        self._restricts = not self._methods.issuperset(_OVERRIDABLE)
        self.pages = CrossOriginPolicy(
            frozenset(origin.lower().rstrip("/") for origin in policy.allowed_origins), policy.allow_methods
        )

    def authority(self, head: RequestHead) -> str:
        """The authority under which `head` asks, if it may. An HTTP/1.0 request that names none asks the first allowed host.

        Raises HostNotAllowed, whose detail is the line of YAML that would allow it, and BadRequest for no authority at all.
        """
        if not head.authority and head.version < (1, 1) and "Host" not in head.fields and self.policy.allowed_hosts:
            return self.policy.allowed_hosts[0]
        asked = parse_authority(head.authority)
        if asked is None:
            raise BadRequest("the Host field is not valid (RFC 9112 §3.2)")
        port = _DEFAULT_PORTS.get(head.scheme) if asked.port is None else asked.port
        if Authority(asked.host) in self._allowed_hosts or Authority(asked.host, port) in self._allowed_hosts:
            return head.authority
        raise HostNotAllowed(_yaml_line("server", "allowed_hosts", (*self.policy.allowed_hosts, asked.host)))

    def key_holder(self, fields: Fields) -> KeyHolder:
        """Whose client key the request carries, by X-Passoproxy-Key, by Basic, or by both. Raises ClientNotAllowed."""
        keys = self.policy.client_keys
        if keys is None:
            return KeyHolder()
        given, authorizations = fields.getall(KEY_FIELD, ()), fields.getall("Authorization", ())
        by_basic = any(each.partition(" ")[0].lower() == "basic" for each in authorizations)
        names = [_name_of(keys, each) for each in given]
        if by_basic:
            names.append(_name_of_basic(keys, authorizations))
        name = names[0] if names else None
        if name is None or len(given) > 1 or any(each != name for each in names):
            raise ClientNotAllowed(
                "a valid X-Passoproxy-Key (or Basic user name and key) is required here; where both are sent, both of one client",
                (_CHALLENGE,),
            )
        return KeyHolder(name, by_basic)

    def judge(self, method: str, query: str = "") -> None:
        """Raises MethodNotAllowed with `Allow` for a method that is not listed (CONNECT and TRACE never are), and for a `_method` field in the query
        that asks for one, or may.
        """
        if method not in self._methods:
            raise self._method_refused(f"{_spoken(method)} is not in upstream.allow_methods")
        if query and ("%" in query or "method" in query.lower()):
            self._overriding("the query", lambda: methods_in_query(query))

    def read_first(self, fields: Fields) -> int:
        """How long the body of a POST may be that is read and searched before it goes on."""
        return SEARCHED_BYTES if self._could_ask(fields) else GLANCED_BYTES

    def post(self, fields: Fields, data: bytes | None) -> None:
        """The same for the body of a POST; None stands for one that is longer than `read_first`. Raises BodyTooLarge too."""
        if self._restricts and content_coding(fields):
            raise self._method_refused(
                "the body is coded (Content-Encoding), and a _method field in it could ask for a method that is not in upstream.allow_methods; send it plain"
            )
        if data is None and self._could_ask(fields):
            raise BodyTooLarge(
                "a _method field in a form or in JSON can ask for a method that is not in upstream.allow_methods, so such a body is read first, "
                f"up to {SEARCHED_BYTES} bytes"
            )
        if data:
            search = _remembered_methods if len(data) <= _LONGEST_BODY_REMEMBERED else methods_in_body
            self._overriding("the body", lambda: search(fields.get("Content-Type", ""), data))

    def _could_ask(self, fields: Fields) -> bool:
        """Whether a `_method` field in the body could do harm: where no usual method is forbidden it could not."""
        return self._restricts and may_hold_method(fields.get("Content-Type", ""))

    def _overriding(self, place: str, search: Callable[[], Sequence[str]]) -> None:
        try:
            methods = search()
        except UnclearOverride as fault:
            raise self._method_refused(
                f"which method a _method field in {place} asks for cannot be told: {fault}"
            ) from fault
        # Frameworks read such a method without regard to case.
        for method in (each.strip().upper() for each in methods):
            if method not in self._methods:
                raise self._method_refused(
                    f"a _method field in {place} asks for {_spoken(method)}, which is not in upstream.allow_methods"
                )

    def _method_refused(self, detail: str) -> MethodNotAllowed:
        listed = ", ".join(name for name in self.policy.allow_methods if name in self._methods)
        return MethodNotAllowed(detail, (("Allow", listed),))

    def inward(self, target: str) -> str:
        """`target` with its path below `base_path`, as every rule and every hop sees it. Raises NotHere outside of it."""
        base = self.policy.base_path
        if not base:
            return target
        rest = target.removeprefix(base)
        if rest == target or rest[:1] not in ("", "/", "?"):
            raise NotHere(f"this proxy serves paths below {base} (server.base_path)")
        return rest if rest.startswith("/") else f"/{rest}"

    def path(self, path: str) -> None:
        """Raises PathNotAllowed where deny_paths forbid a reading of the path, or one of its readings is in no allow_paths."""
        if fault := self._path_fault(path):
            raise PathNotAllowed(fault)

    def _path_fault(self, path: str) -> str:
        if not _any_matches(self._allowed_once, decoded_once(path)):
            return "no pattern of upstream.allow_paths matches this path"
        if (self.policy.base_path or self.policy.upstream_path) and climbs(path):
            return "this path can be read as one that leaves server.base_path, or the path of upstream.url"
        if self._allows_all and not self._denied:
            return ""
        found = readings(path)
        if found is None:
            return "this path can be read in so many ways that upstream.allow_paths and deny_paths cannot be held against it"
        if any(_any_matches(self._denied, reading) for reading in found):
            return "upstream.deny_paths forbids this path"
        if not self._allows_all and not all(_any_matches(self._allowed, reading) for reading in found):
            return "this path can be read as one that no pattern of upstream.allow_paths matches"
        return ""


def _listed_host(entry: str) -> Authority:
    bare_address = entry.count(":") > 1 and not entry.startswith("[")
    authority = parse_authority(f"[{entry}]" if bare_address else entry)
    if authority is None:
        raise ValueError(f"server.allowed_hosts: {entry!r} is neither a host nor host:port")
    return authority


def _spoken(method: str) -> str:
    return method if is_token(method) and len(method) <= 32 else "a method of another kind"


def _patterns_for_readings(texts: Iterable[str]) -> tuple[Pattern, ...]:
    """The patterns as `readings` writes paths, so that one with a slash at its end, or with an escape, still matches."""
    patterns: list[Pattern] = []
    for text in texts:
        compile_pattern(text)  # names one that does not begin with a slash
        found = readings(text, scripts=False)
        if found is None:
            raise ValueError(f"path pattern {text!r} can be read in too many ways; write it without escapes")
        patterns += [compile_pattern(reading, ignore_case=True) for reading in found]
    return tuple(patterns)


def _any_matches(patterns: tuple[Pattern, ...], path: str) -> bool:
    return any(pattern.matches(path) for pattern in patterns)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _name_of(keys: tuple[ClientKey, ...], given: str, claimed: str | None = None) -> str | None:
    # Every line is compared, so that the time tells neither whether nor where one fitted.
    digest = _digest(given)
    found = None
    for key in keys:
        fits = hmac.compare_digest(key.digest, digest)
        if claimed is not None:
            fits &= hmac.compare_digest(_digest(key.name), _digest(claimed))
        if fits:
            found = key.name
    return found


def _name_of_basic(keys: tuple[ClientKey, ...], authorizations: Sequence[str]) -> str | None:
    if len(authorizations) != 1:
        return None
    try:
        name, colon, key = (
            b64decode(authorizations[0].partition(" ")[2].strip(), validate=True).decode("utf-8").partition(":")
        )
    except ValueError:  # neither base64 nor UTF-8
        return None
    return _name_of(keys, key, name) if colon else None


def _yaml_line(section: str, key: str, entries: Iterable[str]) -> str:
    # JSON strings are YAML; names that YAML reads as themselves stay as people write them.
    listed = ", ".join(entry if _is_plain(entry) else json.dumps(entry) for entry in entries)
    return f"{section}: {{{key}: [{listed}]}}"


def _is_plain(entry: str) -> bool:
    return entry.isascii() and entry[:1].isalpha() and entry.replace("-", "").replace(".", "").isalnum()


_Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """Addresses and networks that may connect; none listed means any."""

    networks: tuple[_Network, ...] = ()

    def allows(self, address: str) -> bool:
        """Whether the peer `address` (IP text, a zone allowed) may connect. An IPv4 address mapped into IPv6 is the IPv4 address."""
        if not self.networks:
            return True
        try:
            peer = _unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(peer in network for network in self.networks)


def holder_of(address: str) -> str:
    """Who holds the connections of `address` (IP text, `unix:UID`, or '' where it is not known): an IPv4 address, an IPv6 network of 64
    bits, which one customer has whole, or '' on this machine, where one address is many clients."""
    try:
        peer = _unmapped(ip_address(address.partition("%")[0]))
    except ValueError:
        return ""
    if peer.is_loopback:
        return ""
    return str(peer) if isinstance(peer, IPv4Address) else str(ip_network((peer, 64), strict=False))


@dataclass(frozen=True, slots=True)
class UserRule:
    """Users and groups (numbers) that may connect to a unix socket."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def allows(self, user: int, groups: Iterable[int]) -> bool:
        """Whether a peer of this user, who is in these groups, may connect."""
        return user in self.users or not self.groups.isdisjoint(groups)


def is_loopback(host: str) -> bool:
    """Whether a host name or IP text (v6 without brackets) means this machine alone."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
