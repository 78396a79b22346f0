"""The endpoints of shared trips: search, reading, changing, and the page that a link opens."""

from __future__ import annotations

from html import escape
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web

from passoproxy.sandbox.data.texts import Members, written
from passoproxy.sandbox.html import page
from passoproxy.sandbox.origin import requirements
from passoproxy.sandbox.origin.call import Call, Origin, Reply
from passoproxy.sandbox.origin.fields import Invalid, Missing
from passoproxy.sandbox.origin.trips import SEARCHABLE

_MEDIA = (
    *("Beach", "Mountains", "Old town", "Safari", "Harbour", "Desert"),
    *("Market", "Temple", "Skyline", "Reef", "Forest"),
)


def search(call: Call) -> Reply:
    found = call.ordered(call.origin.trips.search(call.asked), SEARCHABLE)
    return call.page(found, size_field="per_page")


def media(call: Call) -> Reply:
    found = [
        {"id": str(uuid5(NAMESPACE_URL, name)), "name": name, "type": "video" if name == "Reef" else "image"}
        for name in _MEDIA
    ]
    return call.page(found, size_field="per_page")


def read(call: Call) -> Reply:
    origin, asked = call.origin, call.asked
    trip = origin.trips.find(call.request.match_info["tid"])
    form = asked.choice("content_type", ("html", "text"), "html")
    wanted = asked.words("with")
    if not set(wanted) <= {"requirements", "subscriptions"}:
        raise Invalid({"with": "The with field may hold requirements and subscriptions."})
    if asked.flag("mark_visited"):
        origin.trips.visit(trip)
    data = origin.trips.describe(trip) | {
        "destinations_list": [{"destination": place.code, "type": place.type} for place in trip.destinations],
        "nationalities_meta": [{"code": code, "inherent": True, "added_by_user": False} for code in trip.nationalities],
    }
    members: Members = {"data": data}
    if "requirements" in wanted:
        found = requirements.pairs(origin, trip.destinations, trip.nationalities)
        members["requirements"] = [requirements.record(place, rules, trip.language, form) for place, rules in found]
        chosen = trip.destinations, trip.individual_contents, trip.tour_operators
        members |= requirements.additions(origin, trip.language, form, *chosen)
    if "subscriptions" in wanted:
        shared: Members = {
            "language": trip.language,
            "created_at": str(data["created_at"])[:10],
            "verified_at": None,
        }
        members["subscriptions"] = [{"email_address": address} | shared for address in trip.subscriptions]
    return members


def update(call: Call) -> Reply:
    trips = call.origin.trips
    return {"data": trips.describe(trips.update(call.request.match_info["tid"], call.asked))}


def delete(call: Call) -> Reply:
    call.origin.trips.delete(call.request.match_info["tid"])
    return None


def show(origin: Origin, request: web.Request) -> web.Response:
    """The page behind a shared link, as a traveller sees it."""
    try:
        trip = origin.trips.find(request.query.get("tid", ""))
    except Missing:
        body = '<div class="card"><h1>No such trip</h1><p>It was deleted, or the link is not complete.</p></div>'
        return web.Response(status=404, text=page("No such trip", body, narrow=True), content_type="text/html")
    language = written(request.match_info["language"])
    name = trip.texts.get("trip_name") or trip.tid
    body = f"<h1>{escape(name)}</h1>"
    for _, rules in requirements.pairs(origin, trip.destinations, trip.nationalities):
        told = "".join(
            f"<h3>{escape(title)}</h3>{content}" for title, content in requirements.parts(rules, language, "html")
        )
        body += f'<div class="card"><h2>{escape(requirements.title(rules, language))}</h2>{told}</div>'
    return web.Response(text=page(name, body, language=language), content_type="text/html")
