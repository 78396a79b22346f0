"""The origin and the provider: which URLs and credentials the grant needs, and which may go without TLS."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator

from passoproxy.config.addresses import is_loopback, is_metadata_address
from passoproxy.config.findings import Facts, Finding, involving
from passoproxy.config.units import quoted

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


RULES = (what_the_grant_needs, credentials_of_the_grant, without_tls, link_local, redirect, numbers)
