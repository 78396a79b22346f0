"""The endpoints of travel details, and the page that a shared link opens."""

from html import escape
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web

from passoproxy.sandbox.data.texts import Requirements, written
from passoproxy.sandbox.html import page
from passoproxy.sandbox.origin.contents import ordered, page_of
from passoproxy.sandbox.origin.fields import Invalid, read
from passoproxy.sandbox.origin.guard import Guard, Missing
from passoproxy.sandbox.origin.records import Records
from passoproxy.sandbox.origin.responses import Answers, Members
from passoproxy.sandbox.origin.trips import SEARCHABLE, Trip, Trips

_MANAGE = "customer.travel_detail_link.manage"
_MEDIA = (
    "Beach",
    "Mountains",
    "Old town",
    "Safari",
    "Harbour",
    "Desert",
    "Market",
    "Temple",
    "Skyline",
    "Reef",
    "Forest",
)


def link_to(request: web.Request, trip: Trip) -> str:
    """The address of a trip's page."""
    return f"{request.scheme}://{request.host}/links/{trip.language}?tid={trip.tid}"


class TravelDetails:
    """Reads, searches, changes and deletes shared trips."""

    def __init__(self, answers: Answers, trips: Trips, records: Records) -> None:
        self._answers, self._trips, self._records = answers, trips, records

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        one = "/api/v2/travel-details/{tid}"
        return [
            web.post("/api/v2/travel-details", guard(self.search, feature=_MANAGE)),
            web.post("/api/v2/travel-details/media", guard(self.media, feature=_MANAGE)),
            web.get(one, guard(self.read, feature=_MANAGE)),
            web.post(one, guard(self.update, feature=_MANAGE)),
            web.delete(one, guard(self.delete, feature=_MANAGE)),
            web.get("/links/{language}", self.show),
        ]

    async def search(self, request: web.Request) -> web.Response:
        asked = await read(request)
        found = ordered(asked, self._trips.search(asked), SEARCHABLE)
        return self._answers.json(request, page_of(request, asked, found, size_field="per_page"))

    async def media(self, request: web.Request) -> web.Response:
        asked = await read(request)
        found = [
            {"id": str(uuid5(NAMESPACE_URL, name)), "name": name, "type": "video" if name == "Reef" else "image"}
            for name in _MEDIA
        ]
        return self._answers.json(request, page_of(request, asked, found, size_field="per_page"))

    async def read(self, request: web.Request) -> web.Response:
        asked = await read(request)
        trip = self._trips.find(request.match_info["tid"])
        form = asked.choice("content_type", ("html", "text"), "html")
        parts = asked.words("with")
        for part in parts:
            if part not in ("requirements", "subscriptions"):
                raise Invalid({"with": "The with field may hold requirements and subscriptions."})
        if asked.flag("mark_visited"):
            self._trips.visit(trip)
        nationalities = [{"code": code, "inherent": True, "added_by_user": False} for code in trip.nationalities]
        places = [{"destination": place.code, "type": place.type} for place in trip.destinations]
        data = self._trips.describe(trip) | {"destinations_list": places, "nationalities_meta": nationalities}
        members: Members = {"data": data}
        if "requirements" in parts:
            pairs = self._records.pairs(trip.destinations, trip.nationalities)
            members["requirements"] = [self._records.whole(place, rules, trip.language, form) for place, rules in pairs]
            members |= self._records.additions(
                trip.language, form, trip.destinations, trip.individual_contents, trip.tour_operators
            )
        if "subscriptions" in parts:
            members["subscriptions"] = [
                {
                    "email_address": address,
                    "language": trip.language,
                    "created_at": str(data["created_at"])[:10],
                    "verified_at": None,
                }
                for address in trip.subscriptions
            ]
        return self._answers.json(request, members)

    async def update(self, request: web.Request) -> web.Response:
        trip = self._trips.update(request.match_info["tid"], await read(request))
        return self._answers.json(request, {"data": self._trips.describe(trip)})

    async def delete(self, request: web.Request) -> web.Response:
        self._trips.delete(request.match_info["tid"])
        return self._answers.nothing()

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The page behind a shared link, as a traveller sees it."""
        try:
            trip = self._trips.find(request.query.get("tid", ""))
        except Missing:
            body = '<div class="card"><h1>No such trip</h1><p>It was deleted, or the link is not complete.</p></div>'
            return web.Response(status=404, text=page("No such trip", body, narrow=True), content_type="text/html")
        language = written(request.match_info["language"])
        cards = [self._card(rules, language) for _, rules in self._records.pairs(trip.destinations, trip.nationalities)]
        title = trip.texts.get("trip_name") or trip.tid
        document = page(title, f"<h1>{escape(title)}</h1>" + "".join(cards), language=language)
        return web.Response(text=document, content_type="text/html")

    def _card(self, rules: Requirements, language: str) -> str:
        parts = self._records.parts(rules, language, "html")
        told = "".join(f"<h3>{escape(title)}</h3>{content}" for title, content in parts)
        return f'<div class="card"><h2>{escape(self._records.title(rules, language))}</h2>{told}</div>'
