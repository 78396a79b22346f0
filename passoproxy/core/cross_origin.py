"""Browser pages that ask: which may (contract §3 `allowed_origins`), and what CORS says to those that may (Fetch §3.2).

A page that is not listed is refused before anything is asked of the origin, because a browser sends the request first and hides
only the answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from passoproxy.core.http.grammar import is_token, split_list
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed
from passoproxy.errors import OriginNotAllowed

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
    origins = head.fields.getall("Origin", ())
    sites = head.fields.getall("Sec-Fetch-Site", ())
    if not origins and not sites:
        return None
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
