"""Who may ask, and for what: Host, browser origin, client key, method and path (contract §3 "Reading of some keys", §6).

Each question returns nothing or raises the refusal; `proxy.admitting` asks them in order. CORS is in `core.cross_origin`, the check of
a peer's address in `core.peers`, because both are asked elsewhere too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from passoproxy.core.cross_origin import CrossOriginPolicy
from passoproxy.core.http.grammar import is_token
from passoproxy.core.http.messages import Fields, RequestHead
from passoproxy.core.http.negotiation import content_coding
from passoproxy.core.http.patterns import Pattern, compile_pattern, decoded_once
from passoproxy.core.http.readings import readings
from passoproxy.core.http.targets import Authority, parse_authority
from passoproxy.core.method_overrides import UnclearOverride, may_hold_method, methods_in_body, methods_in_query
from passoproxy.errors import (
    BadRequest,
    BodyTooLarge,
    ClientNotAllowed,
    HostNotAllowed,
    MethodNotAllowed,
    PathNotAllowed,
)

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
_LONGEST_REMEMBERED = 512


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
    """What the configuration says. `client_keys` None asks for no key, an empty tuple lets nobody in."""

    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    allowed_origins: tuple[str, ...] = ()
    deny_paths: tuple[str, ...] = ("/__internal/**",)
    allow_paths: tuple[str, ...] = ("/**",)
    allow_methods: tuple[str, ...] = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
    client_keys: tuple[ClientKey, ...] | None = None


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose key a request carried. `by_basic`: in `Authorization`, which is then the proxy's and nobody else's."""

    name: str = ""
    by_basic: bool = False


class Admission:
    """A policy made ready for asking; immutable, apart from verdicts on paths that it remembers. `pages` is what `cross_origin` asks for."""

    __slots__ = (
        "_allowed",
        "_allowed_hosts",
        "_allowed_once",
        "_allows_all",
        "_denied",
        "_methods",
        "_remembered_path",
        "_restricts",
        "pages",
        "policy",
    )

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
        self._remembered_path: Callable[[str], str] = lru_cache(maxsize=2048)(self._path_fault)

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

    def method(self, method: str) -> None:
        """Raises MethodNotAllowed with `Allow` for a method that is not listed; CONNECT and TRACE never are."""
        if method not in self._methods:
            raise self._method_refused(f"{_spoken(method)} is not in upstream.allow_methods")

    def query(self, query: str | None) -> None:
        """Raises MethodNotAllowed for a `_method` field in a query that asks for a method that is not listed, or may."""
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
            self._overriding("the body", lambda: methods_in_body(fields.get("Content-Type", ""), data))

    def _could_ask(self, fields: Fields) -> bool:
        """Whether a `_method` field in the body could do harm: where no usual method is forbidden it could not."""
        return self._restricts and may_hold_method(fields.get("Content-Type", ""))

    def _overriding(self, place: str, search: Callable[[], list[str]]) -> None:
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

    def path(self, head: RequestHead) -> None:
        """Raises PathNotAllowed where deny_paths forbid a reading of the path, or one of its readings is in no allow_paths."""
        path = head.path
        fault = self._remembered_path(path) if len(path) <= _LONGEST_REMEMBERED else self._path_fault(path)
        if fault:
            raise PathNotAllowed(fault)

    def _path_fault(self, path: str) -> str:
        if not _any_matches(self._allowed_once, decoded_once(path)):
            return "no pattern of upstream.allow_paths matches this path"
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
