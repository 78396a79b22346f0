"""Side effects of reads: a `trip` in a request makes a shareable link, a `subscribe` would send e-mails."""

from aiohttp import web

from passoproxy.sandbox.origin.fields import Asked, Invalid
from passoproxy.sandbox.origin.guard import Guard
from passoproxy.sandbox.origin.travel_details import link_to
from passoproxy.sandbox.origin.trips import Trips

_CREATE, _SUBSCRIBE = "customer.travel_detail_link.create", "customer.travel_detail_link.email_subscriptions"


class Sharing:
    """Creates trips where a request asks for it; the sandbox never sends e-mail."""

    def __init__(self, trips: Trips, guard: Guard) -> None:
        self._trips, self._guard = trips, guard

    def share(self, request: web.Request, asked: Asked, *, always: bool = False) -> str | None:
        """The new link where the request holds a `trip`, or always. Raises Forbidden where the plan has no links."""
        trip = asked.object("trip")
        if trip is None and not always:
            return None
        self._guard.needs(_CREATE)
        addresses = _addresses(asked)
        if addresses:
            self._guard.needs(_SUBSCRIBE)
        return link_to(request, self._trips.create(asked, trip or {}, addresses))


def _addresses(asked: Asked) -> list[str]:
    value = asked.fields.get("subscribe")
    found: list[str] = []
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        address = item.get("email_address", item.get("email")) if isinstance(item, dict) else item
        if not isinstance(address, str) or "@" not in address:
            raise Invalid({"subscribe": "Each of the subscribe items must be an e-mail address."})
        found.append(address)
    return found
