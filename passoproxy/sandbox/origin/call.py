"""What an endpoint of the origin is given, and what it may answer: the call with its fields, the origin's memory, pages of lists."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web

from passoproxy.sandbox.data.texts import Members
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.origin.changes import Changes
from passoproxy.sandbox.origin.contents import Contents
from passoproxy.sandbox.origin.fields import Asked, Forbidden, Invalid
from passoproxy.sandbox.origin.trips import Trips


@dataclass(frozen=True, slots=True)
class Bare:
    """An answer without `requestid`: errors, and the subscription."""

    members: Members
    status: int = 200


Reply = Members | Bare | bytes | None
"""Members get `requestid` and `responsetime`; bytes are a PDF; None is 204, nothing for this request."""


@dataclass(slots=True)
class Origin:
    """All that the origin remembers."""

    options: SandboxOptions
    clock: Callable[[], float]
    changes: Changes
    own: Contents
    operators: dict[str, Contents]
    trips: Trips
    login_links: OrderedDict[str, tuple[str, float]] = field(default_factory=OrderedDict)
    """The user and the end of each link that is still good, by its token."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request that may be answered. `subject` is whose token it carries, '' without one."""

    origin: Origin
    request: web.Request
    asked: Asked
    subject: str

    @property
    def base(self) -> str:
        """The address that the client named."""
        return f"{self.request.scheme}://{self.request.host}"

    def needs(self, feature: str) -> None:
        """Raises Forbidden if the plan does not hold the feature."""
        if feature not in self.origin.options.features:
            raise Forbidden

    def share(self, *, always: bool = False) -> str | None:
        """The link to a new trip if the request holds a `trip`, or always. E-mail is never sent, though `subscribe` asks for it."""
        trip = self.asked.object("trip")
        if trip is None and not always:
            return None
        self.needs("customer.travel_detail_link.create")
        value = self.asked.fields.get("subscribe")
        addresses: list[str] = []
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            address = item.get("email_address", item.get("email")) if isinstance(item, dict) else item
            if not isinstance(address, str) or "@" not in address:
                raise Invalid({"subscribe": "Each of the subscribe items must be an e-mail address."})
            addresses.append(address)
        if addresses:
            self.needs("customer.travel_detail_link.email_subscriptions")
        made = self.origin.trips.create(self.asked, trip or {}, addresses)
        return f"{self.base}/links/{made.language}?tid={made.tid}"

    def ordered(self, records: Sequence[Members], fields: Sequence[str]) -> list[Members]:
        """The records by `sort_by` and `sort_order`; without `sort_by` as they are."""
        order = self.asked.choice("sort_order", ("asc", "desc"), "asc")
        if self.asked.text("sort_by") is None:
            return list(records)
        name = self.asked.choice("sort_by", fields, "")
        return sorted(records, key=lambda record: _comparable(record.get(name)), reverse=order == "desc")

    def page(
        self, records: Sequence[object], *, member: str = "data", size_field: str = "limit", default_size: int = 10
    ) -> Members:
        """One page as `{member, links, meta}`; the links are absolute and keep the query."""
        size = self.asked.number(size_field, default_size, most=1000)
        number = self.asked.number("page", 1)
        last = max(1, -(-len(records) // size))
        start = (number - 1) * size
        shown = records[start : start + size]
        path = f"{self.base}{self.request.path}"
        kept = [(name, value) for name, value in self.request.query.items() if name != "page"]

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


def _comparable(value: object) -> tuple[int, float, str]:
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, str(value))
