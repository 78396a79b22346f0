"""What the checks are given and what they give back.

The files that the settings name: secrets that are there, readable, well formed and not for everyone to read; certificates that are there.

The listeners: who may reach them, and what has to be there before other machines may.

The origin and the provider: which URLs and credentials the grant needs, and which may go without TLS.

State, cache, store, routes, alerts and the gateway.

Keys that are accepted and do nothing in this version: one table, to be shortened as their features arrive.

Runs every check of `checks` over the settings: what is wrong, and what is worth a warning.
"""

from __future__ import annotations

import base64
import binascii
import grp
import importlib.util
import os
import pwd
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from passoproxy.config.secrets import exposure, read_secret, refuse_exposed
from passoproxy.config.settings import RouteSettings, Settings
from passoproxy.config.sources import Layer, secret_pairs
from passoproxy.config.types import (
    Address,
    TcpAddress,
    is_field_value,
    is_loopback,
    is_metadata_address,
    proxy_url,
    quoted,
    show_share,
    show_size,
)
from passoproxy.errors import ConfigurationError, missing_library


@dataclass(frozen=True, slots=True)
class Facts:
    """The settings and where they came from. `check_files` allows a look at the files that they name.

    `config_file` is how the configuration was named, `config_path` where it is.
    """

    settings: Settings
    layer: Layer
    environ: Mapping[str, str] = field(default_factory=dict)
    check_files: bool = True
    config_file: Path | None = None
    config_path: Path | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of one key; `involved` are further keys that it follows from."""

    key: str
    problem: str
    remedy: str
    involved: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that works and is worth a look; `code` tells its kind."""

    code: str
    key: str
    text: str


def involving(*keys: str) -> frozenset[str]:
    """Keys without which a finding would not be."""
    return frozenset(keys)


_PLAIN_FILES = (
    "upstream.ca_file",
    "server.tls.cert_file",
    "server.tls.client_ca_file",
    "store.ca_file",
)


_OF_THE_SHELL = frozenset(
    {
        "if",
        "for",
        "while",
        "case",
        "cd",
        "eval",
        "exec",
        "export",
        "set",
        "trap",
        "umask",
        "command",
        "type",
        "read",
        ".",
    }
)
"""Words with which a line for the shell may begin, and which are no programs."""


def secret_files(settings: Settings) -> dict[str, Path]:
    """The files of secrets that are in use, by key."""
    oauth = settings.oauth
    unused = {"oauth.static_token_file"} if oauth.grant != "static" else {"oauth.client_secret_file"}
    if oauth.client_auth == "none":
        unused.add("oauth.client_secret_file")
    found = {}
    for path in secret_pairs():
        key = f"{'.'.join(path)}_file"
        value, file = _value(settings, ".".join(path)), _value(settings, key)
        if file is not None and key not in unused and (value is None or value == "env"):
            found[key] = file
    headers = settings.upstream.headers.items()
    return found | {f"upstream.headers.{name}": each for name, each in headers if isinstance(each, Path)}


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def secrets(facts: Facts) -> Iterator[Finding]:
    """Every secret's file in use can be read now, holds what it should, and is not open to others."""
    for key, path in secret_files(facts.settings).items():
        try:
            text = read_secret(path, key, facts.environ)
        except ConfigurationError as error:
            yield _told(error)
            continue
        yield from _content(key, path, text)
    for key in ("state.key", "state.previous_key", "server.client_keys"):
        value = _value(facts.settings, key)
        if value is not None:
            yield from _content(key, None, value.get_secret_value())


def private_key(facts: Facts) -> Iterator[Finding]:
    """The private key of the listener is a secret as well, whatever its name."""
    path = facts.settings.server.tls.key_file
    if path is not None:
        yield from _exposed("server.tls.key_file", path, facts)
        yield from _readable("server.tls.key_file", path)


def seed(facts: Facts) -> Iterator[Finding]:
    """The seed is a credential. It may be gone: it is read only where no pair is stored, and told of then."""
    path = facts.settings.oauth.seed_file
    if path is not None:
        yield from _exposed("oauth.seed_file", path, facts)


def _exposed(key: str, path: Path, facts: Facts) -> Iterator[Finding]:
    try:
        refuse_exposed(path, key, facts.environ)
    except ConfigurationError as error:
        yield _told(error)


def _told(error: ConfigurationError) -> Finding:
    """What is wrong with one file, as a finding of its key."""
    fault = error.faults[0]
    return Finding(fault.key, f"{fault.where} {fault.problem}", fault.remedy)


def plain_files(facts: Facts) -> Iterator[Finding]:
    """Certificates and the like are there and can be read."""
    for key in _PLAIN_FILES:
        path = _value(facts.settings, key)
        if path is not None:
            yield from _readable(key, path)


def _readable(key: str, path: Path) -> Iterator[Finding]:
    try:
        found = path.is_file()
    except OSError:
        found = False
    if not found:
        yield Finding(key, f"{path} is not there, or no file", "name the right file")
    elif not os.access(path, os.R_OK):
        yield Finding(
            key, f"{path} cannot be read: permission denied", "make it readable for the user that runs passoproxy"
        )


def _content(key: str, path: Path | None, text: str) -> Iterator[Finding]:
    """The form of a secret, told without a word of what it is."""
    shown = f"{path} " if path else ""
    match key.removesuffix("_file"):
        case "server.client_keys":
            yield from _client_keys(key, shown, text)
        case "state.key" | "state.previous_key":
            try:
                length = len(base64.b64decode(text.strip(), validate=True))
            except (binascii.Error, ValueError):
                length = 0
            if length != 32:
                yield Finding(key, f"{shown}does not hold 32 bytes in base64", "make one with: openssl rand -base64 32")
        case "upstream.proxy":
            try:
                proxy_url(text)
            except ValueError:
                yield Finding(
                    key,
                    f"{shown}does not hold the URL of a proxy",
                    "write for example http://user:password@proxy.internal:3128",
                )
        case name if name.startswith("upstream.headers."):
            if not is_field_value(text):
                yield Finding(
                    key,
                    f"{shown}does not hold one line of printable ASCII",
                    "write the value of the header field and nothing else",
                )
        case "alerts.webhook":
            if not re.fullmatch(r"https?://[!-~]+", text):
                yield Finding(
                    key, f"{shown}does not hold an http or https URL", "write the webhook's URL and nothing else"
                )
        case _:
            if re.search(r"[\x00-\x1f\x7f]", text):
                yield Finding(
                    key, f"{shown}holds more than one line or a control character", "write the secret and nothing else"
                )


def _client_keys(key: str, shown: str, text: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, mark, secret = (part.strip() for part in entry.partition(":"))
        if not mark or not name or not secret:
            yield Finding(key, f"{shown}line {number} is not 'name:key'", "write one name and key a line")
        elif name in seen:
            yield Finding(key, f"{shown}line {number} names {name!r} again", "give each client a name of its own")
        seen.add(name)
    if not seen:
        yield Finding(key, f"{shown}holds no 'name:key' line", "write one name and key a line")


def alert_command(facts: Facts) -> Iterator[Advice]:
    """A program that is not there would be noticed only when an alert is due. What the shell makes of a line is not guessed at."""
    command = facts.settings.alerts.command
    if command is None:
        return
    words = command[0].split() if len(command) == 1 else command[:1]
    program = words[0]
    if re.fullmatch(r"[\w./+-]+", program) and shutil.which(command[0]) is None and shutil.which(program) is None:
        if len(command) == 1 and program in _OF_THE_SHELL:
            return
        yield Advice(
            "alert_command_missing",
            "alerts.command",
            f"{program} is no program that can be run here; check its path and mode, then try: passoproxy alert test",
        )


def exposed(facts: Facts) -> Iterator[Advice]:
    """Secrets that others can read, where that is excused, and those that stand in a configuration that others can read."""
    for key, path in secret_files(facts.settings).items():
        seen = exposure(path, facts.environ)
        if seen is not None and seen.excused:
            yield Advice(
                "secret_readable",
                key,
                f"{path} can be read by others (mode {seen.mode:04o}), accepted because {seen.excused}",
            )
    file = facts.config_file
    if facts.config_path is not None and (seen := exposure(facts.config_path, facts.environ)) is not None:
        for pair in secret_pairs():
            key = ".".join(pair)
            if facts.layer.place(pair).startswith(f"{file}:") and _value(facts.settings, key) not in (
                None,
                "env",
                "none",
            ):
                yield Advice(
                    "secret_readable",
                    key,
                    f"stands in a file that others can read (mode {seen.mode:04o}); chmod 600 {file}, or use {key}_file",
                )


FILE_RULES = (secrets, private_key, seed, plain_files)


_GUARDS = involving(
    "server.client_keys",
    "server.client_keys_file",
    "server.tls.client_ca_file",
    "server.allowed_peers",
    "server.trust_network",
)


def proxy_beyond_loopback(facts: Facts) -> Iterator[Finding]:
    """A listener that others reach hands out the account: it needs keys, certificates, peers, or an acknowledgement."""
    server = facts.settings.server
    guarded = server.client_keys or server.client_keys_file or server.tls.client_ca_file or server.allowed_peers
    open_ones = [str(each) for each in server.listen if each.beyond_loopback]
    if open_ones and not guarded and not server.trust_network:
        yield Finding(
            "server.listen",
            f"{', '.join(open_ones)} can be reached from other machines, and nothing says who may use it",
            "set server.client_keys_file, server.tls.client_ca_file or server.allowed_peers, or acknowledge it with server.trust_network: true",
            _GUARDS,
        )


def admin_beyond_loopback(facts: Facts) -> Iterator[Finding]:
    """The admin listener changes things: beyond loopback a token is a must."""
    admin = facts.settings.admin
    open_ones = [str(each) for each in admin.listen if each.beyond_loopback]
    if open_ones and admin.token is None and admin.token_file is None:
        yield Finding(
            "admin.listen",
            f"{', '.join(open_ones)} can be reached from other machines, and there is no token",
            "set admin.token_file, or listen on 127.0.0.1",
            involving("admin.token", "admin.token_file"),
        )


def one_socket_each(facts: Facts) -> Iterator[Finding]:
    """Proxy, admin and probe listeners are never the same socket (contract §1)."""
    settings = facts.settings
    seen: dict[Address, str] = {}
    for key, listen in (
        ("server.listen", settings.server.listen),
        ("admin.listen", settings.admin.listen),
        ("admin.probe_listen", settings.admin.probe_listen),
    ):
        for each in listen:
            # port 0 is a free one each time
            if each in seen and not (isinstance(each, TcpAddress) and each.port == 0):
                problem = f"names {each} twice" if seen[each] == key else f"is {each}, which {seen[each]} has already"
                yield Finding(key, problem, "give each listener an address of its own", involving(seen[each]))
            seen.setdefault(each, key)


def tls(facts: Facts) -> Iterator[Finding]:
    """Certificate and key come together, and client certificates only with them."""
    tls = facts.settings.server.tls
    for given, missing in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(tls, given) is not None and getattr(tls, missing) is None:
            yield Finding(
                f"server.tls.{missing}",
                f"is missing beside server.tls.{given}",
                "name the file, or remove the other",
                involving(f"server.tls.{given}"),
            )
    if tls.client_ca_file is not None and tls.cert_file is None and tls.key_file is None:
        yield Finding(
            "server.tls.client_ca_file",
            "asks clients for certificates, and there is no certificate of the server's own",
            "set server.tls.cert_file and server.tls.key_file",
            involving("server.tls.cert_file", "server.tls.key_file"),
        )


def limits(facts: Facts) -> Iterator[Finding]:
    """Limits below which nothing would work."""
    limits = facts.settings.server.limits
    if not 1024 <= limits.header_bytes <= 1024 * 1024:
        yield Finding(
            "server.limits.header_bytes",
            f"{limits.header_bytes} bytes is not between 1KiB and 1MiB",
            "write for example 32KiB",
        )
    for name in ("header_timeout", "idle_timeout"):
        if getattr(limits, name) <= 0:
            yield Finding(f"server.limits.{name}", "0 leaves no time at all", "write for example 10s")


def hosts(facts: Facts) -> Iterator[Finding]:
    """A listener that accepts no Host answers nobody."""
    settings = facts.settings
    for key, allowed, listen in (
        ("server.allowed_hosts", settings.server.allowed_hosts, True),
        ("admin.allowed_hosts", settings.admin.allowed_hosts, bool(settings.admin.listen)),
    ):
        if listen and not allowed:
            yield Finding(
                key,
                "is empty, so that every request would be refused",
                "list the names that clients use, for example [localhost, 127.0.0.1]",
            )


def unix_peers(facts: Facts) -> Iterator[Finding]:
    """Users and groups that this machine knows; a number is a user."""
    for name in facts.settings.server.unix_peers:
        if not name.isdecimal() and not _known(pwd.getpwnam, name) and not _known(grp.getgrnam, name):
            yield Finding(
                "server.unix_peers",
                f"{quoted(name)} is neither a user nor a group of this machine",
                "write a name that `getent passwd` or `getent group` shows, or a user's number",
            )


def _known(look: Callable[[str], object], name: str) -> bool:
    try:
        look(name)
    except (KeyError, ValueError):
        return False
    return True


LISTENING_RULES = (proxy_beyond_loopback, admin_beyond_loopback, one_socket_each, tls, limits, hosts, unix_peers)


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


def what_the_grant_needs(facts: Facts) -> Iterator[Finding]:
    """URLs and client id (contract §3 `provider`: only those that the grant needs are required)."""
    settings, oauth = facts.settings, facts.settings.oauth
    if settings.upstream.url is None:
        yield Finding(
            "upstream.url",
            "is missing",
            "set it to scheme and authority of the origin, for example https://api.example.com",
            involving("provider"),
        )
    for name in _NEEDED[oauth.grant]:
        if getattr(oauth, name) is None:
            said = f"set it to {_EXAMPLES[name]}" + (
                "; `passoproxy config init` writes a file to start from" if facts.config_file is None else ""
            )
            yield Finding(
                f"oauth.{name}",
                f"is missing, and grant {oauth.grant} needs it",
                said,
                involving("provider", "oauth.grant"),
            )


def credentials_of_the_grant(facts: Facts) -> Iterator[Finding]:
    """A client secret where the client has to show one, a token where the grant is static."""
    oauth = facts.settings.oauth
    if oauth.grant == "static":
        if oauth.static_token is None and oauth.static_token_file is None:
            yield Finding(
                "oauth.static_token_file",
                "is missing, and grant static needs it",
                "name a file that holds the token",
                involving("oauth.grant", "oauth.static_token"),
            )
    elif oauth.client_auth == "none":
        if oauth.grant == "client_credentials":
            yield Finding(
                "oauth.client_auth",
                "is 'none', and grant client_credentials needs a secret",
                "write body_json, body_form or basic",
                involving("oauth.grant"),
            )
    elif oauth.client_secret is None and oauth.client_secret_file is None:
        yield Finding(
            "oauth.client_secret_file",
            "is missing",
            "name a file that holds the secret, or set oauth.client_auth to none for a public client",
            involving("oauth.client_auth", "oauth.client_secret"),
        )


def without_tls(facts: Facts) -> Iterator[Finding]:
    """http:// beyond loopback is refused where nobody acknowledged it."""
    upstream, oauth = facts.settings.upstream, facts.settings.oauth
    if upstream.allow_http:
        return
    urls = {"upstream.url": upstream.url}
    urls |= {
        f"oauth.{name}": getattr(oauth, name)
        for name in ("authorization_url", "token_url", "refresh_url", "revocation_url")
    }
    for key, url in urls.items():
        if url is not None and url.startswith("http:") and not is_loopback(urllib.parse.urlsplit(url).hostname or ""):
            yield Finding(
                key,
                f"{quoted(url)} would send tokens unencrypted over a network",
                "write https://, or acknowledge it with upstream.allow_http: true",
                involving("upstream.allow_http"),
            )


def link_local(facts: Facts) -> Iterator[Finding]:
    """Where clouds keep the credentials of a machine is no origin and no provider."""
    settings = facts.settings
    urls = {"upstream.url": settings.upstream.url}
    urls |= {f"oauth.{name}": getattr(settings.oauth, name) for name in ("token_url", "refresh_url", "revocation_url")}
    for key, url in urls.items():
        if url is not None and is_metadata_address(urllib.parse.urlsplit(url).hostname or ""):
            yield Finding(
                key,
                f"{quoted(url)} is an address at which clouds hand out credentials of the machine",
                "write the address of the API",
            )


def redirect(facts: Facts) -> Iterator[Finding]:
    """The code must not travel in the clear: https, or this machine alone (RFC 8252 §7.3, §8.3)."""
    oauth = facts.settings.oauth
    parts = urllib.parse.urlsplit(oauth.redirect_url)
    if oauth.grant != "authorization_code" or parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return
    yield Finding(
        "oauth.redirect_url",
        f"{quoted(oauth.redirect_url)} is neither https nor on this machine",
        "write an https URL, or http://127.0.0.1:8611/oauth/callback",
        involving("oauth.grant"),
    )


def numbers(facts: Facts) -> Iterator[Finding]:
    """Shares and times that would make no sense of their own kind."""
    oauth, upstream = facts.settings.oauth, facts.settings.upstream
    if not 0 < oauth.refresh_at < 1:
        yield Finding(
            "oauth.refresh_at",
            f"{oauth.refresh_at:g} is not between 0 and 1",
            "write a share of the lifetime such as 0.4",
        )
    if oauth.refresh_token_lifetime == 0:
        yield Finding(
            "oauth.refresh_token_lifetime", "0 would end at once", "write same, unknown, or a duration such as 30d"
        )
    if oauth.scope != oauth.scope.strip() or not all(" " <= each <= "~" and each not in '"\\' for each in oauth.scope):
        yield Finding(
            "oauth.scope",
            f"{quoted(oauth.scope)} holds what no scope does",
            'write names with one space between them, or "*"',
        )
    for name in ("connect_timeout", "read_timeout", "queue_timeout"):
        if getattr(upstream, name) <= 0:
            yield Finding(f"upstream.{name}", "0 leaves no time at all", "write for example 10s")
    agent = upstream.user_agent or ""
    if not all(each.isprintable() and each.isascii() for each in agent):
        yield Finding("upstream.user_agent", f"{quoted(agent)} cannot stand in a header field", "write printable ASCII")
    if not upstream.allow_methods:
        yield Finding(
            "upstream.allow_methods",
            "is empty, so that every request would be refused",
            "list methods, or remove the line",
        )


REACHING_RULES = (what_the_grant_needs, credentials_of_the_grant, without_tls, link_local, redirect, numbers)


_LEAST_CACHE = 8 * 1024 * 1024
_NEVER_READS = frozenset({"PUT", "PATCH", "DELETE", "OPTIONS"})


def folders(facts: Facts) -> Iterator[Finding]:
    """State and cache need a place; without HOME and service manager none is known."""
    for section, variable in (("state", "STATE_DIRECTORY"), ("cache", "CACHE_DIRECTORY")):
        directory = getattr(facts.settings, section).directory
        if directory is None:
            yield Finding(
                f"{section}.directory",
                "is not set, and neither HOME nor the service manager tells a place",
                f"set it to an absolute path, or {variable} in the environment",
            )
    state, cache = facts.settings.state.directory, facts.settings.cache.directory
    if state is not None and state == cache:
        yield Finding(
            "cache.directory",
            "is the folder of state.directory",
            "give the cache a folder of its own",
            involving("state.directory"),
        )


def cache_sizes(facts: Facts) -> Iterator[Finding]:
    """Bounds that fit into one another (contract §7: at least 8MiB)."""
    cache = facts.settings.cache
    if cache.max_size < _LEAST_CACHE:
        yield Finding("cache.max_size", f"{show_size(cache.max_size)} is less than 8MiB", "write 8MiB or more")
    elif facts.layer.holds(("cache", "max_entry_size")) and not 0 < cache.max_entry_size <= cache.max_size:
        # the default of an entry gives way to a smaller cache
        most = show_size(cache.max_size)
        yield Finding(
            "cache.max_entry_size",
            f"{show_size(cache.max_entry_size)} is not between 1 byte and cache.max_size ({most})",
            f"write {most} or less, or make cache.max_size larger",
            involving("cache.max_size"),
        )


def route_names(facts: Facts) -> Iterator[Finding]:
    """Two routes of one name could not be told apart in logs, metrics and purges."""
    first: dict[str, int] = {}
    for index, route in enumerate(facts.settings.routes):
        if route.name in first:
            where = facts.layer.place(("routes", first[route.name])) or "above"
            yield Finding(
                f"routes[{index}].name",
                f"{quoted(route.name)} stands twice (first: {where})",
                "give each route a name of its own",
            )
        first.setdefault(route.name, index)


def routes(facts: Facts) -> Iterator[Finding]:
    """Settings of a route that contradict one another."""
    for index, route in enumerate(facts.settings.routes):
        at = f"routes[{index}]"
        if not route.methods:
            yield Finding(f"{at}.methods", "is empty", "write [GET] or [GET, POST], or remove the line for GET")
        for method in sorted(_NEVER_READS & set(route.methods)):
            yield Finding(
                f"{at}.methods",
                f"lists {method}, whose answers are never stored",
                "list GET, and POST where it is a read",
            )
        if route.override and route.ttl is None:
            yield Finding(
                f"{at}.override",
                "is true, and there is no ttl to put in the origin's place",
                "add 'ttl: 1h', or remove override",
                involving(f"{at}.ttl"),
            )
        if route.refresh_ahead >= 1:
            yield Finding(
                f"{at}.refresh_ahead",
                "the whole of the freshness would refresh on every hit",
                "write a share such as 0.1, or 0 for off",
            )


def shared_store(facts: Facts) -> Iterator[Finding]:
    """A Redis or Valkey URL, its password apart."""
    url = facts.settings.store.url
    if url is None:
        return
    example = "write for example redis://127.0.0.1:6379/0, or rediss:// for TLS"
    try:
        parts = urllib.parse.urlsplit(url)
        valid = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid, parts = False, urllib.parse.urlsplit("")
    if not valid:
        yield Finding("store.url", "is not a redis:// or rediss:// URL with a host", example)
    elif parts.password is not None or "password" in urllib.parse.parse_qs(parts.query, keep_blank_values=True):
        yield Finding("store.url", "holds a password", "put it into a file and name it in store.password_file")
    # whoever only talks to a running daemon may live in another environment than it
    if facts.check_files and importlib.util.find_spec("redis") is None:
        fault = missing_library("store.url", "redis>=8")
        yield Finding(fault.key, fault.problem, fault.remedy)


def sealing(facts: Facts) -> Iterator[Finding]:
    """A previous key alone opens nothing new."""
    state = facts.settings.state
    if (state.previous_key or state.previous_key_file) and not (state.key or state.key_file):
        given = "state.previous_key" if state.previous_key else "state.previous_key_file"
        yield Finding(
            given,
            "is given without a key that follows it",
            "set state.key_file",
            involving("state.key", "state.key_file"),
        )


def runway(facts: Facts) -> Iterator[Finding]:
    """The louder the level, the less is left."""
    runway = facts.settings.alerts.runway
    if not 1 > runway.log > runway.notify > runway.page > 0:
        seen = ", ".join(f"{name} {show_share(getattr(runway, name))}" for name in ("log", "notify", "page"))
        keys = involving("alerts.runway.log", "alerts.runway.notify", "alerts.runway.page")
        yield Finding(
            "alerts.runway",
            f"does not fall from log over notify to page ({seen})",
            "write for example log: 55%, notify: 50%, page: 35%",
            keys,
        )
    if facts.settings.alerts.repeat <= 0:
        yield Finding("alerts.repeat", "0 would repeat without a pause", "write for example 1h")


def gateway(facts: Facts) -> Iterator[Finding]:
    """What is answered from a recording cannot be recorded."""
    gateway = facts.settings.gateway
    if gateway.record is not None and gateway.replay is not None:
        yield Finding(
            "gateway.replay", "is set beside gateway.record", "keep one of the two", involving("gateway.record")
        )


STORING_RULES = (folders, cache_sizes, route_names, routes, shared_store, sealing, runway, gateway)


UNUSED_KEYS: tuple[tuple[str, str], ...] = (
    ("upstream.daily_budget", "origin requests are not counted"),
    ("server.base_path", "paths are taken as they come"),
    ("alerts.events", "only the runway is told of"),
    ("tracing", "no traces are sent"),
    ("gateway", "nothing is recorded or replayed"),
)
"""A key, or a section with all that is in it, and what happens instead."""

PARTLY_USED: tuple[tuple[str, str], ...] = (
    (
        "store.url",
        "shares the pair and the cache in this version: each instance has an upstream.max_concurrency of its own",
    ),
)
"""A key that does less in this version than the contract says, and what it does."""

HONOURED: dict[str, str] = {}
"""Values that ask for what this version does anyway."""


def unused(settings: Settings, layer: Layer) -> list[tuple[str, str]]:
    """Keys that were set to something other than their default and do nothing, or not all of it, each with the text that says so."""
    wanted, defaults = settings.model_dump(), Settings().model_dump()
    found = []
    for key, instead in UNUSED_KEYS:
        for leaf in _leaves(key, defaults):
            path = tuple(leaf.split("."))
            value = _value_at(wanted, path)
            if value not in (_value_at(defaults, path), HONOURED.get(leaf)) and not layer.place(path).startswith(
                "preset"
            ):
                found.append((leaf, f"is accepted, and does nothing in this version: {instead}"))
    for key, what in PARTLY_USED:
        path = tuple(key.split("."))
        if _value_at(wanted, path) != _value_at(defaults, path):
            found.append((key, what))
    return found


def _leaves(key: str, tree: Mapping[str, Any]) -> list[str]:
    value = _value_at(tree, tuple(key.split(".")))
    if not isinstance(value, dict):
        return [key]
    return [leaf for name in value for leaf in _leaves(f"{key}.{name}", tree)]


def _value_at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = tree
    for part in path:
        value = value[part]
    return value


_WITHOUT_STORING = ("bypass_when", "cookies", "client_authorization", "private", "purges")
"""What a route may be there for without storing anything."""

PLACEHOLDER = "your-client-id"


def check(facts: Facts) -> Iterator[Finding]:
    """Every fault, in the order of the file; files are looked at only where the facts allow it."""
    for rule in (*REACHING_RULES, *LISTENING_RULES, *STORING_RULES, *(FILE_RULES if facts.check_files else ())):
        yield from rule(facts)


def _routes_that_store_nothing(facts: Facts) -> Iterator[Advice]:
    """A route of the user's own without `ttl`, where nothing else in it says what it is for."""
    settings, plain = facts.settings, RouteSettings(name="plain", match="/")
    if settings.cache.mode == "http":
        return
    for index, route in enumerate(settings.routes):
        does = any(getattr(route, name) != getattr(plain, name) for name in _WITHOUT_STORING)
        if route.ttl is None and not does and not facts.layer.place(("routes", index, "name")).startswith("preset"):
            yield Advice(
                "route_stores_nothing",
                f"routes[{index}].ttl",
                f"is not set, so nothing of route {route.name} is stored; add 'ttl: 1h', or set cache.mode to http",
            )


def warn(facts: Facts) -> Iterator[Advice]:
    """Everything that is accepted and worth a look."""
    settings, oauth = facts.settings, facts.settings.oauth
    if oauth.client_id == PLACEHOLDER and oauth.grant != "static":
        yield Advice(
            "placeholder", "oauth.client_id", f"is still '{PLACEHOLDER}'; write the id that the provider gave you"
        )
    if oauth.grant == "authorization_code" and oauth.client_auth == "none" and not oauth.pkce:
        yield Advice(
            "public_client_without_pkce",
            "oauth.pkce",
            "is off for a client without a secret: whoever sees a code can redeem it; set it to true",
        )
    if settings.upstream.max_connections < settings.upstream.max_concurrency:
        yield Advice(
            "fewer_connections", "upstream.max_connections", "is less than upstream.max_concurrency, which it bounds"
        )
    if settings.server.trust_network and any(each.beyond_loopback for each in settings.server.listen):
        yield Advice(
            "network_trusted", "server.trust_network", "lets every machine that reaches the listener use the account"
        )
    if settings.upstream.allow_http:
        yield Advice("http_allowed", "upstream.allow_http", "lets tokens travel unencrypted")
    yield from _routes_that_store_nothing(facts)
    for index, route in enumerate(settings.routes):
        if route.override and route.cookies == "pass":
            yield Advice(
                "override_with_cookies",
                f"routes[{index}].override",
                "does not count for requests with a Cookie, which this route passes on (cookies: pass): their answers may be one person's; "
                "remove one of the two where all clients send cookies",
            )
    if facts.check_files:
        yield from exposed(facts)
        yield from alert_command(facts)
    for key, text in unused(settings, facts.layer):
        yield Advice("key_unused", key, text)
