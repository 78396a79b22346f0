"""What a server says of its limits: `Retry-After` (RFC 9110 §10.2.3), and the RateLimit fields (draft-ietf-httpapi-ratelimit-headers, with the
older forms and the `X-` names that servers still send).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import http_sf

from passoproxy.core.http.messages import Fields
from passoproxy.core.http.syntax import parse_date

LOW = 0.1
"""A quota is low while less than this share of it is left."""

UNTOLD_WINDOW = 60.0
"""Seconds for which a low quota without a window counts: the next answer may tell anew."""

LONGEST_WINDOW = 86400.0
_EPOCH = 1_000_000_000.0
"""A reset beyond this many seconds is a moment, as some servers write it, and no time from now."""


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that `Retry-After` asks to wait, from seconds or a date; None where it says nothing readable. `now` is epoch seconds."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    moment = parse_date(text, now)
    return None if moment is None else max(0.0, moment - now)


def low_quota(fields: Fields, now: float) -> float | None:
    """Seconds for which less than a tenth of a quota is left; 0 where more of each is, None where the fields say nothing of it.

    `now` is epoch seconds.
    """
    if "RateLimit" not in fields and "X-RateLimit-Remaining" not in fields and "RateLimit-Remaining" not in fields:
        return None
    told = list(_told(fields, now))
    if not told:
        return None
    low = [window for left, whole, window in told if left < LOW * whole or left <= 0]
    return max(low, default=0.0)


def _told(fields: Fields, now: float) -> Iterator[tuple[float, float, float]]:
    """Each quota: what is left, the whole, and the seconds until it is whole again."""
    if "RateLimit" in fields:
        yield from _structured(fields, now)
    for prefix in ("X-RateLimit-", "RateLimit-"):
        if (left := _number(fields.get(prefix + "Remaining"))) is None:
            continue
        if (whole := _number(fields.get(prefix + "Limit"))) is not None:
            yield left, whole, _window(_number(fields.get(prefix + "Reset")), now)


def _structured(fields: Fields, now: float) -> Iterator[tuple[float, float, float]]:
    """`"policy";r=5;t=30` with its whole in `RateLimit-Policy`, or `limit=100, remaining=5, reset=30` as older drafts have it."""
    wholes = {name: parameters.get("q") for name, parameters in _items(fields, "RateLimit-Policy")}
    for name, parameters in _items(fields, "RateLimit"):
        left, whole = _number(parameters.get("r")), _number(wholes.get(name))
        if left is not None and (whole is not None or left <= 0):
            yield left, whole or 0.0, _window(_number(parameters.get("t")), now)
    older = _parsed(fields, "RateLimit", "dictionary") or {}
    left, whole, reset = (_number(_first(older.get(name))) for name in ("remaining", "limit", "reset"))
    if left is not None and whole is not None:
        yield left, whole, _window(reset, now)


def _items(fields: Fields, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for value, parameters in _parsed(fields, name, "list") or []:
        yield str(value), parameters


def _parsed(fields: Fields, name: str, kind: str) -> Any:
    try:
        return http_sf.parse(", ".join(fields.getall(name, ())).encode("utf-8", "surrogateescape"), tltype=kind)
    except ValueError:
        return None


def _first(item: object) -> object:
    """A dictionary's value without its parameters."""
    return item[0] if isinstance(item, tuple) and item else item


def _window(reset: float | None, now: float) -> float:
    if reset is None:
        return UNTOLD_WINDOW
    return min(max(0.0, reset - now if reset > _EPOCH else reset), LONGEST_WINDOW)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        text = value.partition(",")[0].partition(";")[0].strip()
        return float(text[:18]) if text.isascii() and text.isdigit() else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
