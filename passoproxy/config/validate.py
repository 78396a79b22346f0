"""The checks that take more than one value, or a file: each is a function that gives faults, and `CHECKS` lists them.

A fault is one line: `key: problem; remedy`. `types` checks each value by itself, `load` adds the place (file and line, variable).
`WARNINGS` lists what is accepted and deserves a look: a code, a key and a text.
"""

from __future__ import annotations

import base64
import binascii
import functools
import grp
import importlib.util
import os
import pwd
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from passoproxy.config.secrets import exposure, key_lines, read_secret, refuse_exposed
from passoproxy.config.settings import RouteSettings, Settings
from passoproxy.config.sources import Layer, secret_pairs
from passoproxy.config.types import Address, TcpAddress, is_field_value, is_metadata_address, proxy_url
from passoproxy.core.access import is_loopback
from passoproxy.core.units import quoted, show_share, show_size
from passoproxy.errors import ConfigurationError, Fault, missing_library
from passoproxy.values import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """The settings and their sources. `config_file` is the configuration's path as it was named, `config_path` the one to open."""

    settings: Settings
    layer: Layer
    environ: Mapping[str, str] = field(default_factory=dict)
    config_file: Path | None = None
    config_path: Path | None = None


Check = Callable[[Facts], Iterator[str]]
Advice = tuple[str, str, str]


def value_at(settings: Settings, key: str) -> Any:
    """The value of a dotted key."""
    return functools.reduce(getattr, key.split("."), settings)


# ---- origin and provider ---------------------------------------------------------------------------------------------

_NEEDED = {
    "authorization_code": ("authorization_url", "token_url", "client_id"),
    "client_credentials": ("token_url", "client_id"),
    "static": (),
}
_EXAMPLES = {
    "authorization_url": "https://web.example.com/oauth/authorize",
    "token_url": "https://web.example.com/oauth/token",
    "client_id": "the id that the provider gave you",
}


def needed_by_grant(facts: Facts) -> Iterator[str]:
    """Contract §3, `provider`: only the URLs that the grant needs are required."""
    oauth = facts.settings.oauth
    if facts.settings.upstream.url is None:
        yield "upstream.url: is missing; set it to scheme and authority of the origin, for example https://api.example.com"
    hint = "; `passoproxy config init` writes a file to start from" if facts.config_file is None else ""
    for name in _NEEDED[oauth.grant]:
        if getattr(oauth, name) is None:
            yield f"oauth.{name}: is missing, and grant {oauth.grant} needs it; set it to {_EXAMPLES[name]}{hint}"


def grant_credentials(facts: Facts) -> Iterator[str]:
    """The client secret, or the token of grant static."""
    oauth = facts.settings.oauth
    if oauth.grant == "static":
        is_needed = facts.settings.gateway.replay is None
        if is_needed and oauth.static_token is None and oauth.static_token_file is None:
            yield "oauth.static_token_file: is missing, and grant static needs it; name a file that holds the token"
    elif oauth.client_auth == "none":
        if oauth.grant == "client_credentials":
            yield "oauth.client_auth: is 'none', and grant client_credentials needs a secret; write body_json, body_form or basic"
    elif oauth.client_secret is None and oauth.client_secret_file is None:
        yield (
            "oauth.client_secret_file: is missing; "
            "name a file that holds the secret, or set oauth.client_auth to none for a public client"
        )


_PROVIDER_URLS = ("token_url", "refresh_url", "revocation_url")


def _urls(settings: Settings, *of_oauth: str) -> Iterator[tuple[str, str, str]]:
    """Key, URL and host of the origin and of the provider's endpoints that are set."""
    for key in ("upstream.url", *(f"oauth.{name}" for name in of_oauth)):
        if (url := value_at(settings, key)) is not None:
            yield key, url, urllib.parse.urlsplit(url).hostname or ""


def unencrypted(facts: Facts) -> Iterator[str]:
    """http:// beyond loopback needs `upstream.allow_http`."""
    for key, url, host in _urls(facts.settings, "authorization_url", *_PROVIDER_URLS):
        if url.startswith("http:") and not is_loopback(host) and not facts.settings.upstream.allow_http:
            yield (
                f"{key}: {quoted(url)} would send tokens unencrypted over a network; "
                "write https://, or acknowledge it with upstream.allow_http: true"
            )


def metadata_hosts(facts: Facts) -> Iterator[str]:
    """The addresses at which clouds give out a machine's credentials are no origin and no provider."""
    for key, url, host in _urls(facts.settings, *_PROVIDER_URLS):
        if is_metadata_address(host):
            yield (
                f"{key}: {quoted(url)} is an address at which clouds hand out credentials of the machine; "
                "write the address of the API"
            )


def redirect(facts: Facts) -> Iterator[str]:
    """The code travels over https, or within this machine (RFC 8252 §7.3, §8.3)."""
    oauth = facts.settings.oauth
    parts = urllib.parse.urlsplit(oauth.redirect_url)
    if oauth.grant == "authorization_code" and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        yield (
            f"oauth.redirect_url: {quoted(oauth.redirect_url)} is neither https nor on this machine; "
            "write an https URL, or http://127.0.0.1:8611/oauth/callback"
        )


def numbers(facts: Facts) -> Iterator[str]:
    """Values of the right form that make no sense."""
    settings = facts.settings
    oauth, upstream, limits = settings.oauth, settings.upstream, settings.server.limits
    if not 0 < oauth.refresh_at < 1:
        yield f"oauth.refresh_at: {oauth.refresh_at:g} is not between 0 and 1; write a share of the lifetime such as 0.4"
    if oauth.refresh_token_lifetime == 0:
        yield "oauth.refresh_token_lifetime: 0 would end at once; write same, unknown, or a duration such as 30d"
    if oauth.scope != oauth.scope.strip() or not all(" " <= each <= "~" and each not in '"\\' for each in oauth.scope):
        yield f'oauth.scope: {quoted(oauth.scope)} holds what no scope does; write names with one space between them, or "*"'
    for key in ("upstream.connect_timeout", "upstream.read_timeout", "upstream.queue_timeout",
                "server.limits.header_timeout", "server.limits.idle_timeout"):  # fmt: skip
        if value_at(settings, key) <= 0:
            yield f"{key}: 0 leaves no time at all; write for example 10s"
    if not all(each.isprintable() and each.isascii() for each in upstream.user_agent or ""):
        yield f"upstream.user_agent: {quoted(upstream.user_agent)} cannot stand in a header field; write printable ASCII"
    if not upstream.allow_methods:
        yield "upstream.allow_methods: is empty, so that every request would be refused; list methods, or remove the line"
    if not 1024 <= limits.header_bytes <= 1024 * 1024:
        yield (
            f"server.limits.header_bytes: {limits.header_bytes} bytes is not between 1KiB and 1MiB; "
            "write for example 32KiB"
        )
    if settings.alerts.repeat <= 0:
        yield "alerts.repeat: 0 would repeat without a pause; write for example 1h"


# ---- listeners -------------------------------------------------------------------------------------------------------


def open_proxy(facts: Facts) -> Iterator[str]:
    """A proxy listener that other machines reach needs keys, certificates, peers, or an acknowledgement."""
    server = facts.settings.server
    reached = [str(each) for each in server.listen if each.beyond_loopback]
    if reached and not server.is_guarded:
        yield (
            f"server.listen: {', '.join(reached)} can be reached from other machines, and nothing says who may use it; {GUARD_REMEDY}"
        )


GUARD_REMEDY = (
    "set server.client_keys_file, server.tls.client_ca_file or server.allowed_peers, "
    "or acknowledge it with server.trust_network: true"
)


def open_admin(facts: Facts) -> Iterator[str]:
    """An admin listener that other machines reach needs a token."""
    admin = facts.settings.admin
    reached = [str(each) for each in admin.listen if each.beyond_loopback]
    if reached and not admin.is_guarded:
        yield (
            f"admin.listen: {', '.join(reached)} can be reached from other machines, and there is no token; "
            "set admin.token_file, or listen on 127.0.0.1"
        )


def shared_sockets(facts: Facts) -> Iterator[str]:
    """Proxy, admin and probe listeners are never the same socket (contract §1)."""
    seen: dict[Address, str] = {}
    for key in ("server.listen", "admin.listen", "admin.probe_listen"):
        for each in value_at(facts.settings, key):
            # port 0 is a free one each time
            if each in seen and not (isinstance(each, TcpAddress) and each.port == 0):
                problem = f"names {each} twice" if seen[each] == key else f"is {each}, which {seen[each]} has already"
                yield f"{key}: {problem}; give each listener an address of its own"
            seen.setdefault(each, key)


def tls(facts: Facts) -> Iterator[str]:
    """Certificate and key come together, and client certificates only with them."""
    tls = facts.settings.server.tls
    for given, missing in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(tls, given) is not None and getattr(tls, missing) is None:
            yield f"server.tls.{missing}: is missing beside server.tls.{given}; name the file, or remove the other"
    if tls.client_ca_file is not None and tls.cert_file is None and tls.key_file is None:
        yield (
            "server.tls.client_ca_file: asks clients for certificates, and there is no certificate of the server's own; "
            "set server.tls.cert_file and server.tls.key_file"
        )


def allowed_hosts(facts: Facts) -> Iterator[str]:
    """A listener that accepts no Host refuses every request."""
    for key, hosts, is_on in (
        ("server.allowed_hosts", facts.settings.server.allowed_hosts, True),
        ("admin.allowed_hosts", facts.settings.admin.allowed_hosts, bool(facts.settings.admin.listen)),
    ):
        if is_on and not hosts:
            yield (
                f"{key}: is empty, so that every request would be refused; "
                "list the names that clients use, for example [localhost, 127.0.0.1]"
            )


def unix_peers(facts: Facts) -> Iterator[str]:
    """Users and groups that this machine knows; a number is a user."""
    for name in facts.settings.server.unix_peers:
        if not name.isdecimal() and not _is_known(pwd.getpwnam, name) and not _is_known(grp.getgrnam, name):
            yield (
                f"server.unix_peers: {quoted(name)} is neither a user nor a group of this machine; "
                "write a name that `getent passwd` or `getent group` shows, or a user's number"
            )


def _is_known(look: Callable[[str], object], name: str) -> bool:
    try:
        look(name)
    except (KeyError, ValueError):
        return False
    return True


# ---- state, cache, store, routes, alerts, gateway --------------------------------------------------------------------

_LEAST_CACHE = 8 * 1024 * 1024
_NEVER_STORED = ("DELETE", "OPTIONS", "PATCH", "PUT")


def folders(facts: Facts) -> Iterator[str]:
    """State and cache need a folder each; without HOME and service manager none is known."""
    state, cache = facts.settings.state.directory, facts.settings.cache.directory
    for section, directory in (("state", state), ("cache", cache)):
        if directory is None:
            yield (
                f"{section}.directory: is not set, and neither HOME nor the service manager tells a place; "
                f"set it to an absolute path, or {section.upper()}_DIRECTORY in the environment"
            )
    if state is not None and state == cache:
        yield "cache.directory: is the folder of state.directory; give the cache a folder of its own"


def cache_sizes(facts: Facts) -> Iterator[str]:
    """Contract §7: at least 8MiB; an entry fits into the cache. The default of an entry gives way to a smaller cache."""
    cache = facts.settings.cache
    if cache.max_size < _LEAST_CACHE:
        yield f"cache.max_size: {show_size(cache.max_size)} is less than 8MiB; write 8MiB or more"
    elif facts.layer.holds(("cache", "max_entry_size")) and not 0 < cache.max_entry_size <= cache.max_size:
        most = show_size(cache.max_size)
        yield (
            f"cache.max_entry_size: {show_size(cache.max_entry_size)} is not between 1 byte and cache.max_size ({most}); "
            f"write {most} or less, or make cache.max_size larger"
        )


def routes(facts: Facts) -> Iterator[str]:
    """Names are unique (logs, metrics and purges name routes), and a route does not contradict itself."""
    first: dict[str, int] = {}
    for index, route in enumerate(facts.settings.routes):
        at = f"routes[{index}]"
        if (before := first.setdefault(route.name, index)) != index:
            where = facts.layer.place(("routes", before)) or "above"
            yield f"{at}.name: {quoted(route.name)} stands twice (first: {where}); give each route a name of its own"
        if not route.methods:
            yield f"{at}.methods: is empty; write [GET] or [GET, POST], or remove the line for GET"
        for method in _NEVER_STORED:
            if method in route.methods:
                yield f"{at}.methods: lists {method}, whose answers are never stored; list GET, and POST if it only reads"
        if route.refresh_ahead >= 1:
            yield (
                f"{at}.refresh_ahead: the whole of the freshness would refresh on every hit; "
                "write a share such as 0.1, or 0 for off"
            )


def overrides(facts: Facts) -> Iterator[str]:
    """`override` needs a ttl of the route's own."""
    for index, route in enumerate(facts.settings.routes):
        if route.override and route.ttl is None:
            problem = "is true, and there is no ttl to put in the origin's place"
            yield f"routes[{index}].override: {problem}; add 'ttl: 1h', or remove override"


def shared_store(facts: Facts) -> Iterator[str]:
    """A Redis or Valkey URL without the password."""
    if (url := facts.settings.store.url) is None:
        return
    try:
        parts = urllib.parse.urlsplit(url)
        is_valid = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_valid = urllib.parse.urlsplit(""), False
    if not is_valid:
        yield (
            "store.url: is not a redis:// or rediss:// URL with a host; "
            "write for example redis://127.0.0.1:6379/0, or rediss:// for TLS"
        )
    elif parts.password is not None or "password" in urllib.parse.parse_qs(parts.query, keep_blank_values=True):
        yield "store.url: holds a password; put it into a file and name it in store.password_file"


def key_pairs(facts: Facts) -> Iterator[str]:
    """A previous key is only useful beside the key that follows it."""
    state = facts.settings.state
    if (state.previous_key or state.previous_key_file) and not (state.key or state.key_file):
        given = "state.previous_key" if state.previous_key else "state.previous_key_file"
        yield f"{given}: is given without a key that follows it; set state.key_file"


def runway(facts: Facts) -> Iterator[str]:
    """The louder the level, the less is left."""
    runway = facts.settings.alerts.runway
    if not 1 > runway.log > runway.notify > runway.page > 0:
        seen = ", ".join(f"{name} {show_share(getattr(runway, name))}" for name in ("log", "notify", "page"))
        yield (
            f"alerts.runway: does not fall from log over notify to page ({seen}); "
            "write for example log: 55%, notify: 50%, page: 35%"
        )


def gateway(facts: Facts) -> Iterator[str]:
    """An answer from a recording cannot be recorded, and a recording is no part of what passoproxy keeps for itself."""
    given, settings = facts.settings.gateway, facts.settings
    if given.record is not None and given.replay is not None:
        yield "gateway.replay: is set beside gateway.record; keep one of the two"
    for name in ("record", "replay"):
        for key in ("state.directory", "cache.directory"):
            folder, own = getattr(given, name), value_at(settings, key)
            if folder is not None and own is not None and folder.resolve().is_relative_to(own.resolve()):
                yield f"gateway.{name}: {folder} is in {key}, where passoproxy keeps files of its own; name another folder"


# ---- files -----------------------------------------------------------------------------------------------------------


def secret_files(settings: Settings) -> dict[str, Path]:
    """The files of the secrets that are in use, by key."""
    oauth = settings.oauth
    unused = {"oauth.static_token_file"} if oauth.grant != "static" else {"oauth.client_secret_file"}
    if oauth.client_auth == "none":
        unused.add("oauth.client_secret_file")
    found = {}
    for key in map(".".join, secret_pairs()):
        file = value_at(settings, f"{key}_file")
        if file is not None and f"{key}_file" not in unused and value_at(settings, key) in (None, "env"):
            found[f"{key}_file"] = file
    headers = settings.upstream.headers.items()
    return found | {f"upstream.headers.{name}": each for name, each in headers if isinstance(each, Path)}


def secrets(facts: Facts) -> Iterator[str]:
    """The file of each secret in use can be read, has the right form, and is closed to other users."""
    for key, path in secret_files(facts.settings).items():
        try:
            text = read_secret(path, key, facts.environ)
        except ConfigurationError as error:
            yield _told(error.faults[0])
        else:
            yield from _content(key, f"{path} ", text)
    for key in ("state.key", "state.previous_key", "server.client_keys"):
        if (value := value_at(facts.settings, key)) is not None:
            yield from _content(key, "", value.get_secret_value())


def _content(key: str, shown: str, text: str) -> Iterator[str]:
    """The form of a secret. A fault never shows the secret."""
    match key.removesuffix("_file"):
        case "server.client_keys":
            yield from _client_keys(f"{key}: {shown}", text)
        case "state.key" | "state.previous_key" if not _holds(32, text):
            yield f"{key}: {shown}does not hold 32 bytes in base64; make one with: openssl rand -base64 32"
        case "upstream.proxy" if not _is_proxy(text):
            yield f"{key}: {shown}does not hold the URL of a proxy; write for example http://user:password@proxy.internal:3128"
        case name if name.startswith("upstream.headers.") and not is_field_value(text):
            yield f"{key}: {shown}does not hold one line of printable ASCII; write the value of the header field and nothing else"
        case "alerts.webhook" if not re.fullmatch(r"https?://[!-~]+", text):
            yield f"{key}: {shown}does not hold an http or https URL; write the webhook's URL and nothing else"
        case _ if re.search(r"[\x00-\x1f\x7f]", text):
            yield f"{key}: {shown}holds more than one line or a control character; write the secret and nothing else"


def _holds(count: int, text: str) -> bool:
    try:
        return len(base64.b64decode(text.strip(), validate=True)) == count
    except (binascii.Error, ValueError):
        return False


def _is_proxy(text: str) -> bool:
    try:
        return bool(proxy_url(text))
    except ValueError:
        return False


def _client_keys(begin: str, text: str) -> Iterator[str]:
    seen: set[str] = set()
    for number, name, secret in key_lines(text):
        if not name or not secret:
            yield f"{begin}line {number} is not 'name:key'; write one name and key a line"
        elif name in seen:
            yield f"{begin}line {number} names {name!r} again; give each client a name of its own"
        seen.add(name)
    if not seen:
        yield f"{begin}holds no 'name:key' line; write one name and key a line"


def closed_files(facts: Facts) -> Iterator[str]:
    """The private key and the seed are credentials. The seed may be missing: it is read only while no pair is stored."""
    for key in ("server.tls.key_file", "oauth.seed_file"):
        if (path := value_at(facts.settings, key)) is not None:
            try:
                refuse_exposed(path, key, facts.environ)
            except ConfigurationError as error:
                yield _told(error.faults[0])


def readable_files(facts: Facts) -> Iterator[str]:
    """Certificates and keys of TLS are there and can be read."""
    for key in (
        *("server.tls.key_file", "server.tls.cert_file", "server.tls.client_ca_file"),
        *("upstream.ca_file", "store.ca_file"),
    ):
        path = value_at(facts.settings, key)
        if path is not None and not os.path.isfile(path):
            yield f"{key}: {path} is not there, or no file; name the right file"
        elif path is not None and not os.access(path, os.R_OK):
            yield f"{key}: {path} cannot be read: permission denied; make it readable for the user that runs passoproxy"


def recordings(facts: Facts) -> Iterator[str]:
    """The folder of `gateway.record` can be made and written, that of `gateway.replay` is there and can be read."""
    record, replay = facts.settings.gateway.record, facts.settings.gateway.replay
    if record is not None:
        there = next(each for each in (record, *record.parents) if os.path.lexists(each))
        if not os.path.isdir(there):
            yield f"gateway.record: {there} is no folder; name a folder, or one that can be made"
        elif not os.access(there, os.W_OK | os.X_OK):
            yield f"gateway.record: {there} cannot be written: permission denied; name a folder that this user may write"
    if replay is not None and not os.path.isdir(replay):
        problem = "is no folder" if os.path.lexists(replay) else "is not there"
        yield f"gateway.replay: {replay} {problem}; name a folder of recordings, or make one with gateway.record"
    elif replay is not None and not os.access(replay, os.R_OK | os.X_OK):
        yield f"gateway.replay: {replay} cannot be read: permission denied; make it readable for this user"


def store_library(facts: Facts) -> Iterator[str]:
    """A shared store needs the redis library, in the environment of the daemon."""
    if facts.settings.store.url is not None and importlib.util.find_spec("redis") is None:
        yield str(missing_library("store.url", "redis>=8"))


TRACING_LIBRARIES = ("opentelemetry-sdk>=1.45", "opentelemetry-exporter-otlp-proto-common>=1.45")
"""What has to be installed for `tracing.otlp_endpoint`."""


def tracing_library(facts: Facts) -> Iterator[str]:
    """Traces need the SDK of OpenTelemetry and the encoding of OTLP, in the environment of the daemon."""
    if facts.settings.tracing.otlp_endpoint is None:
        return
    try:  # a parent that is missing is an error too
        found = all(map(importlib.util.find_spec, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")))
    except ModuleNotFoundError:
        found = False
    if not found:
        yield str(missing_library("tracing.otlp_endpoint", *TRACING_LIBRARIES))


def _told(fault: Fault) -> str:
    return f"{fault.key}: {fault.where} {fault.problem}; {fault.remedy}"


_GUARDS = (
    "server.client_keys server.client_keys_file server.tls.client_ca_file server.allowed_peers server.trust_network"
)
_TLS = "server.tls.cert_file server.tls.key_file"

CHECKS: tuple[tuple[Check, str], ...] = (
    (needed_by_grant, "provider oauth.grant"),
    (grant_credentials, "oauth.grant oauth.client_auth oauth.client_secret oauth.static_token"),
    (unencrypted, "upstream.allow_http"),
    (metadata_hosts, ""),
    (redirect, "oauth.grant"),
    (numbers, ""),
    (open_proxy, _GUARDS),
    (open_admin, "admin.token admin.token_file"),
    (shared_sockets, "server.listen"),
    (tls, _TLS),
    (allowed_hosts, ""),
    (unix_peers, ""),
    (folders, "state.directory"),
    (cache_sizes, "cache.max_size"),
    (routes, ""),
    (overrides, ".ttl"),
    (shared_store, ""),
    (key_pairs, "state.key state.key_file"),
    (runway, "alerts.runway.log alerts.runway.notify alerts.runway.page"),
    (gateway, "gateway.record state.directory cache.directory"),
)
"""Each check with further keys that its faults follow from: if one of these is wrong itself, the fault is not told. `.x` is a sibling."""

FILE_CHECKS: tuple[tuple[Check, str], ...] = (
    (secrets, ""),
    (closed_files, ""),
    (readable_files, ""),
    (store_library, ""),
    (recordings, "gateway.record"),
    (tracing_library, ""),
)
"""Checks that look beyond the configuration. A command that only talks to a daemon may not be allowed to read its files."""


# ---- warnings --------------------------------------------------------------------------------------------------------

PLACEHOLDER = "your-client-id"

_WITHOUT_STORING = ("bypass_when", "cookies", "client_authorization", "private", "purges")
"""Settings of a route that are useful without storing anything."""


def idle_routes(facts: Facts) -> Iterator[Advice]:
    """A route of the user's own that stores nothing and does nothing else."""
    plain = RouteSettings(name="plain", match="/")
    for index, route in enumerate(facts.settings.routes):
        does = any(getattr(route, name) != getattr(plain, name) for name in _WITHOUT_STORING)
        is_preset = facts.layer.place(("routes", index, "name")).startswith("preset")
        if route.ttl is None and not does and not is_preset and facts.settings.cache.mode != "http":
            text = f"is not set, so nothing of route {route.name} is stored; add 'ttl: 1h', or set cache.mode to http"
            yield "route_stores_nothing", f"routes[{index}].ttl", text
        if route.override and route.cookies == "pass":
            text = (
                "does not count for requests with a Cookie, which this route passes on (cookies: pass): "
                "their answers may be one person's; remove one of the two where all clients send cookies"
            )
            yield "override_with_cookies", f"routes[{index}].override", text


def risky_values(facts: Facts) -> Iterator[Advice]:
    """Values that work and open a risk."""
    oauth, server, upstream = facts.settings.oauth, facts.settings.server, facts.settings.upstream
    if oauth.client_id == PLACEHOLDER and oauth.grant != "static":
        yield "placeholder", "oauth.client_id", f"is still '{PLACEHOLDER}'; write the id that the provider gave you"
    if oauth.grant == "authorization_code" and oauth.client_auth == "none" and not oauth.pkce:
        text = "is off for a client without a secret: a code that is seen by others can be redeemed; set it to true"
        yield "public_client_without_pkce", "oauth.pkce", text
    if upstream.max_connections < upstream.max_concurrency:
        yield "fewer_connections", "upstream.max_connections", "is less than upstream.max_concurrency, which it bounds"
    if server.trust_network and any(each.beyond_loopback for each in server.listen):
        text = "lets every machine that reaches the listener use the account"
        yield "network_trusted", "server.trust_network", text
    if upstream.allow_http:
        yield "http_allowed", "upstream.allow_http", "lets tokens travel unencrypted"


def exposed(facts: Facts) -> Iterator[Advice]:
    """Secrets that other users can read: in a file that is excused, or in the configuration itself."""
    for key, path in secret_files(facts.settings).items():
        seen = exposure(path, facts.environ)
        if seen is not None and seen.excused:
            text = f"{path} can be read by others (mode {seen.mode:04o}), accepted because {seen.excused}"
            yield "secret_readable", key, text
    if facts.config_path is None or (seen := exposure(facts.config_path, facts.environ)) is None:
        return
    for pair in secret_pairs():
        key, file = ".".join(pair), facts.config_file
        is_here = facts.layer.place(pair).startswith(f"{file}:")
        if is_here and value_at(facts.settings, key) not in (None, "env", "none"):
            text = f"stands in a file that others can read (mode {seen.mode:04o}); chmod 600 {file}, or use {key}_file"
            yield "secret_readable", key, text


_SHELL_WORD = re.compile(r"if|for|while|case|cd|eval|exec|export|set|trap|umask|command|type|read|\.")
"""A word that may begin a shell line and is no program."""


def alert_command(facts: Facts) -> Iterator[Advice]:
    """A program that is missing would be noticed only with the first alert. The rest of a shell line is not judged."""
    if (command := facts.settings.alerts.command) is None:
        return
    program = command[0].split()[0] if len(command) == 1 else command[0]
    if len(command) == 1 and _SHELL_WORD.fullmatch(program):
        return
    if re.fullmatch(r"[\w./+-]+", program) and shutil.which(command[0]) is None and shutil.which(program) is None:
        text = f"{program} is no program that can be run here; check its path and mode, then try: passoproxy alert test"
        yield "alert_command_missing", "alerts.command", text


WARNINGS = (risky_values, idle_routes)
FILE_WARNINGS = (exposed, alert_command)
