"""Our member of `Cache-Status` (RFC 9211, contract §6 and §7), and `Age` where it belongs to an answer that did not come from the store."""

from __future__ import annotations

from functools import lru_cache

from passoproxy.core.http.messages import Fields

NAME = "passoproxy"

STALE_ERROR = "STALE_ERROR"
STALE_REVALIDATING = "STALE_REVALIDATING"
STALE_UNAUTHORIZED = "STALE_UNAUTHORIZED"
OVERRIDE = "OVERRIDE"


@lru_cache(maxsize=1024)
def hit(ttl: int | str, detail: str = "") -> str:
    """Served without asking (RFC 9211 §2.1); `ttl` in seconds, negative where stale (§2.5)."""
    return f"{NAME}; hit; ttl={ttl}; detail={detail}" if detail else f"{NAME}; hit; ttl={ttl}"


def forwarded(
    why: str,
    *,
    status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    ttl: float | None = None,
    detail: str = "",
) -> str:
    """Sent on for the reason `why` (RFC 9211 §2.2); `status` is the origin's (§2.3)."""
    parts = [NAME, f"fwd={why}"]
    if status is not None:
        parts.append(f"fwd-status={status}")
    if stored:
        parts.append("stored")
    if collapsed:
        parts.append("collapsed")
    if ttl is not None:
        parts.append(f"ttl={int(ttl // 1)}")
    if detail:
        parts.append(f"detail={detail}")
    return "; ".join(parts)


def appended(fields: Fields, member: str) -> str:
    """The value of `Cache-Status` with `member` behind the members that `fields` have already."""
    if "Cache-Status" not in fields:
        return member
    return ", ".join((*fields.getall("Cache-Status"), member))
