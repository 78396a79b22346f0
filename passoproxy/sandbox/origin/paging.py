"""Pages of a list, with the absolute links that the real framework writes into them."""

from collections.abc import Sequence
from urllib.parse import urlencode

from aiohttp import web

from passoproxy.sandbox.origin.asking import Asked


def page_of(
    request: web.Request,
    asked: Asked,
    records: Sequence[object],
    *,
    member: str = "data",
    size_field: str = "limit",
    default_size: int = 10,
) -> dict[str, object]:
    """One page as `{member, links, meta}`; the links keep the query, and name the host that the client named."""
    size = asked.number(size_field, default_size, most=1000)
    number = asked.number("page", 1)
    last = max(1, -(-len(records) // size))
    start = (number - 1) * size
    shown = records[start : start + size]
    path = f"{request.scheme}://{request.host}{request.path}"
    kept = [(name, value) for name, value in request.query.items() if name != "page"]

    def link(wanted: int) -> str | None:
        return f"{path}?{urlencode([*kept, ('page', str(wanted))])}" if 1 <= wanted <= last else None

    return {
        member: list(shown),
        "links": {"first": link(1), "prev": link(number - 1), "next": link(number + 1), "last": link(last)},
        "meta": {
            "current_page": number,
            "from": start + 1 if shown else None,
            "last_page": last,
            "path": path,
            "per_page": size,
            "to": start + len(shown) if shown else None,
            "total": len(records),
        },
    }


def ordered(asked: Asked, records: Sequence[dict[str, object]], fields: Sequence[str]) -> list[dict[str, object]]:
    """The records by `sort_by` and `sort_order`; without `sort_by` as they are."""
    order = asked.choice("sort_order", ("asc", "desc"), "asc")
    if asked.text("sort_by") is None:
        return list(records)
    field = asked.choice("sort_by", fields, "")
    return sorted(records, key=lambda record: _comparable(record.get(field)), reverse=order == "desc")


def _comparable(value: object) -> tuple[int, float, str]:
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, str(value))
