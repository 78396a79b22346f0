"""Who may ask, and for what (contract §3 "Reading of some keys", §6): Host, browser origin and CORS (Fetch §3.2), client key, method, path, and which
peers may connect at all. Each question returns nothing or raises the refusal; `proxy.access` asks them in order.

A page that is not listed is refused before the origin is asked, because a browser sends the request first and hides only the answer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from passoproxy.core.http.content_coding import content_coding
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed
from passoproxy.core.http.paths import Pattern, climbs, compile_pattern, decoded_once, readings
from passoproxy.core.http.request_line import Authority, parse_authority
from passoproxy.core.http.syntax import is_token, split_list
from passoproxy.core.method_overrides import (
    LONGEST_BODY_REMEMBERED,
    UnclearOverride,
    may_hold_method,
    methods_in_body,
    methods_in_query,
    remembered_methods_in_body,
)
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
            kind = fields.get("Content-Type", "")
            is_short = len(data) + len(kind) <= LONGEST_BODY_REMEMBERED
            search = remembered_methods_in_body if is_short else methods_in_body
            self._overriding("the body", lambda: search(kind, data))

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
