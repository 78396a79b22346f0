"""Which redirect addresses a client may name (RFC 6749 §3.1.2, RFC 8252 §7.3), and what a refusal sends there."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlencode, urlsplit


def allowed(address: str, registered: tuple[str, ...]) -> bool:
    """Whether the address may be redirected to: a registered one, or without any registration one on the loopback.

    A registered loopback address matches with any port, as RFC 8252 §7.3 asks.
    """
    try:
        asked = urlsplit(address)
        _ = asked.port
    except ValueError:
        return False
    if asked.scheme not in ("http", "https") or not asked.hostname or "#" in address or asked.username is not None:
        return False
    if not registered:
        return asked.scheme == "http" and is_loopback(asked.hostname)
    return any(address == known or _differ_in_port_only(asked, urlsplit(known)) for known in registered)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _differ_in_port_only(asked: SplitResult, known: SplitResult) -> bool:
    return is_loopback(asked.hostname or "") and (asked.scheme, asked.hostname, asked.path, asked.query) == (
        known.scheme,
        known.hostname,
        known.path,
        known.query,
    )


def extended(address: str, parameters: dict[str, str | None]) -> str:
    """The address with parameters added to its query; those that are None are left out."""
    added = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{address}{'&' if '?' in address else '?'}{added}"
