"""The listeners: who may reach them, and what has to be there before other machines may."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterator

from passoproxy.config.addresses import Address, TcpAddress
from passoproxy.config.findings import Facts, Finding, involving
from passoproxy.config.units import quoted

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


RULES = (proxy_beyond_loopback, admin_beyond_loopback, one_socket_each, tls, limits, hosts, unix_peers)
