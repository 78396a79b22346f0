"""State, cache, store, routes, alerts and the gateway."""

from __future__ import annotations

import importlib.util
import urllib.parse
from collections.abc import Iterator

from passoproxy.config.findings import Facts, Finding, involving
from passoproxy.config.units import quoted, show_share, show_size
from passoproxy.errors import missing_library

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


RULES = (folders, cache_sizes, route_names, routes, shared_store, sealing, runway, gateway)
