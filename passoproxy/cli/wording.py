"""How the pair's state is said to people, in one way for every command. Never a token."""

from __future__ import annotations

import math
from collections.abc import Mapping

from passoproxy.cli.speaking import moment, number, seconds

Token = Mapping[str, object]
"""`token` of `/api/status`."""


def runway(token: Token) -> str:
    """How long until a person is needed."""
    left = number(token, "runway_seconds")
    if left is not None and not math.isnan(left):
        return f"{seconds(left)} until a person is needed" if left > 0 else "none: a person is needed now"
    if token.get("grant") == "authorization_code" and token.get("access") == "valid":
        return "not known"
    return "no person is ever needed" if token.get("grant") != "authorization_code" else "-"


def in_short(token: Token) -> str:
    """The runway where nothing says that it is one."""
    said = runway(token)
    return "the runway is not known" if said in ("not known", "-") else said


def access(token: Token) -> str:
    """The access token's state and time."""
    state, until = str(token.get("access")), number(token, "access_until")
    if until is None:
        return state if state == "none" else f"{state}, until a time that is not known"
    return f"{state} {'since' if state == 'expired' else 'until'} {moment(until)}"


def chain(token: Token) -> str:
    """The refresh chain's state and what is behind it."""
    reason, error = token.get("reason"), token.get("last_error")
    said = f"{token.get('chain')}" + (f" ({reason})" if reason else "")
    return f"{said}; last error: {error}" if error and error != reason else said
