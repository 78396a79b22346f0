"""Runs every check of `checks` over the settings: what is wrong, and what is worth a warning."""

from __future__ import annotations

from collections.abc import Iterator

from passoproxy.config.checks import files, listening, reaching, storing
from passoproxy.config.findings import Advice, Facts, Finding
from passoproxy.config.settings import RouteSettings
from passoproxy.config.unused import unused

_WITHOUT_STORING = ("bypass_when", "cookies", "client_authorization", "private", "purges")
"""What a route may be there for without storing anything."""

PLACEHOLDER = "your-client-id"


def check(facts: Facts) -> Iterator[Finding]:
    """Every fault, in the order of the file; files are looked at only where the facts allow it."""
    for rule in (*reaching.RULES, *listening.RULES, *storing.RULES, *(files.RULES if facts.check_files else ())):
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
        yield from files.exposed(facts)
        yield from files.alert_command(facts)
    for key, text in unused(settings, facts.layer):
        yield Advice("key_unused", key, text)
