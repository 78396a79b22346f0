"""The endpoints of `/api/v2` as one table, and the small ones among them: account, basic data, news, own texts."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from html import escape
from urllib.parse import quote

from aiohttp import web

from passoproxy.sandbox.data.catalogue import (
    ADDITIONAL_INFO,
    DOCUMENTS,
    IMMUNIZATIONS,
    LANGUAGE_NAMES,
    PLACES,
    TOUR_OPERATORS,
    countries,
    nationalities,
)
from passoproxy.sandbox.data.texts import PHRASES, Members, message, named, product_news, ticker, written
from passoproxy.sandbox.faults import FaultSet
from passoproxy.sandbox.html import page
from passoproxy.sandbox.options import FEATURES
from passoproxy.sandbox.origin import information, requirements, travel_details
from passoproxy.sandbox.origin.call import Bare, Call, Origin, Reply
from passoproxy.sandbox.origin.changes import moment
from passoproxy.sandbox.origin.contents import Contents
from passoproxy.sandbox.origin.fields import Invalid, Missing
from passoproxy.sandbox.origin.guard import Endpoint, Guard
from passoproxy.sandbox.provider.grants import Grants

LINK_SECONDS = 30.0
MAX_LINKS = 1000

# ---- the account and the service itself ------------------------------------------------------------------------------


def subscription(call: Call) -> Reply:
    """The plan: premium if it holds every feature."""
    features = list(call.origin.options.features)
    return Bare({"type": "premium" if set(features) >= set(FEATURES) else "standard", "features": features})


def login_link(call: Call) -> Reply:
    """A link that is good once, for `LINK_SECONDS`."""
    user, target, links = (
        call.asked.text("username") or call.subject,
        call.asked.text("page") or "/",
        call.origin.login_links,
    )
    if not target.startswith("/"):
        raise Invalid({"page": "The page field must start with a slash."})
    token = secrets.token_hex(24)
    while len(links) >= MAX_LINKS:
        links.popitem(last=False)
    links[token] = user, call.origin.clock() + LINK_SECONDS
    url = f"{call.base}/auth/login/{token}?user={quote(user, safe='@')}&page={quote(target)}"
    return {"username": user, "link": {"url": url, "token": token}}


def log_in(origin: Origin, request: web.Request) -> web.Response:
    """What such a link opens in a browser."""
    user, ends_at = origin.login_links.pop(request.match_info["token"], ("", 0.0))
    text, status = f"<p>You are logged in as <strong>{escape(user)}</strong>.</p>", 200
    if ends_at <= origin.clock():
        text, status = "<p>This link was used already, or its 30 seconds are over.</p>", 410
    document = page("Sandbox login", f'<div class="card"><h1>Sandbox login</h1>{text}</div>', narrow=True)
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=status, text=document, content_type="text/html", headers=headers)


# ---- basic data ------------------------------------------------------------------------------------------------------

_COUNTRY_FIELDS = (
    *("code", "continent", "capital", "population", "area", "coastline", "currency"),
    *("governmentform", "dialingprefix", "birthrate", "deathrate", "lifeexpectancy"),
)


def _language(call: Call) -> str:
    """Of the lists that are free, in which any language may be asked for."""
    return written((call.asked.text("language") or "en").lower())


def _listed(call: Call, records: list[Members], fields: tuple[str, ...]) -> Members:
    """A page of records that have a flag `active`."""
    wanted = call.asked.flag("active")
    chosen = [record for record in records if wanted is None or record["active"] == int(wanted)]
    return call.page(call.ordered(chosen, fields))


def country_list(call: Call) -> Reply:
    language, codes = _language(call), {code.upper() for code in call.asked.words("code")}
    records: list[Members] = [
        {
            "code": code,
            "name": country.names[language],
            **{name: getattr(country, name) for name in _COUNTRY_FIELDS[1:]},
            "active": 1,
        }
        for code, country in countries().items()
        if not codes or code in codes
    ]
    return _listed(call, records, _COUNTRY_FIELDS)


def locations(call: Call) -> Reply:
    wanted = {code.lstrip("0") for name in ("zip_code", "zip_codes") for code in call.asked.words(name)}
    found = [place for place in PLACES if not wanted or str(place["zip_code"]) in wanted]
    return call.page(found, member="locations", default_size=20)


def nationality_list(call: Call) -> Reply:
    language = _language(call)
    records: list[Members] = [
        {"code": code, "name": passport.names[language], "active": 1} for code, passport in nationalities().items()
    ]
    return _listed(call, records, ("code", "name", "active"))


def language_list(call: Call) -> Reply:
    records: list[Members] = [
        {"code": code, "content": name, "active": int(code in PHRASES)} for code, name in LANGUAGE_NAMES.items()
    ]
    return _listed(call, records, ("code", "content", "active"))


def _keys(member: str, codes: list[str]) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        language = call.asked.language()
        return {member: [{"code": code, "name": named(code, language)} for code in codes]}

    return answer


# ---- news ------------------------------------------------------------------------------------------------------------

_FIRST_CHANGE_ID = 10_000


def news(call: Call) -> Reply:
    """Messages about destinations; every important change is the newest one."""
    language = call.asked.language()
    changed = [
        message(_FIRST_CHANGE_ID + number, code, "change", 9, moment(when), language)
        for number, when, code in reversed(call.origin.changes.log)
    ]
    found = call.page(call.ordered([*changed, *ticker(language)], ("created_at", "tagdate", "id", "country")))
    meta = found["meta"]
    assert isinstance(meta, dict)
    result = {name: meta[name] for name in ("current_page", "last_page", "per_page", "total")}
    return {"code": 0, "message": "success", "result": result | {"data": found["data"]}}


def product(call: Call) -> Reply:
    return call.page(call.ordered(product_news(call.asked.language()), ("id", "date")))


# ---- texts of the account and of tour operators ----------------------------------------------------------------------


def _contents(call: Call) -> Contents:
    code = call.request.match_info.get("code")
    if code is None:
        return call.origin.own
    if code.upper() not in call.origin.operators:
        raise Missing
    return call.origin.operators[code.upper()]


def read_contents(call: Call) -> Reply:
    return {"content": _contents(call).all()}


def write_contents(call: Call) -> Reply:
    return {"content": _contents(call).put(call.asked.fields.get("content"))}


def delete_contents(call: Call) -> Reply:
    _contents(call).delete(call.asked.fields.get("content"))
    return {}


def order_contents(call: Call) -> Reply:
    _contents(call).order(call.asked.fields.get("content"))
    return {}


# ---- the table -------------------------------------------------------------------------------------------------------

_INDIVIDUAL, _OPERATOR, _MANAGE = "content.individual", "content.tour_operator", "customer.travel_detail_link.manage"


def endpoints() -> Iterator[Endpoint]:
    yield Endpoint("GET", "/health", lambda _: {"error": False, "status": "healthy"}, free=True)
    version: Members = {"error": False, "version": "V2.9", "commit_hash": "5a9db0c1"}
    yield Endpoint("GET", "/version", lambda _: version, free=True)
    yield Endpoint("GET", "/account/subscription", subscription)
    yield Endpoint("GET", "/auth/login/generate_link", login_link)

    yield Endpoint("GET", "/countries", country_list, free=True)
    yield Endpoint("GET", "/countries/de/locations", locations)
    yield Endpoint("GET", "/nationalities", nationality_list, free=True)
    yield Endpoint("GET", "/languages", language_list, free=True)
    operators: Members = {"data": [{"code": code, "name": name} for code, name in TOUR_OPERATORS.items()]}
    yield Endpoint("GET", "/tour-operators", lambda _: operators)
    yield Endpoint("GET", "/entry/documents", _keys("documents", DOCUMENTS))
    yield Endpoint("GET", "/entry/additional-info", _keys("additional_info", ADDITIONAL_INFO))
    yield Endpoint("GET", "/health/immunizations", _keys("immunizations", IMMUNIZATIONS))

    yield from requirements.endpoints()
    yield Endpoint("GET POST", "/information/search", information.search)
    yield Endpoint("POST", "/information/share", information.share)
    yield Endpoint("GET POST", "/information/updates", information.updates)
    yield Endpoint("GET", "/infosystem/general", news)
    yield Endpoint("GET", "/infosystem/passolution", product)

    yield Endpoint("POST", "/travel-details", travel_details.search, feature=_MANAGE)
    yield Endpoint("POST", "/travel-details/media", travel_details.media, feature=_MANAGE)
    yield Endpoint("GET", "/travel-details/{tid}", travel_details.read, feature=_MANAGE)
    yield Endpoint("POST", "/travel-details/{tid}", travel_details.update, feature=_MANAGE)
    yield Endpoint("DELETE", "/travel-details/{tid}", travel_details.delete, feature=_MANAGE)

    for path, feature in (("/individual-content", _INDIVIDUAL), ("/tour-operator/{code}", _OPERATOR)):
        yield Endpoint("GET", path, read_contents, feature=feature)
        yield Endpoint("POST", path, write_contents, feature=feature)
        yield Endpoint("DELETE", path, delete_contents, feature=feature)
    yield Endpoint("POST", "/individual-content/order", order_contents, feature=_INDIVIDUAL)


def routes(
    origin: Origin, grants: Grants, faults: FaultSet, sleep: Callable[[float], Awaitable[object]]
) -> list[web.RouteDef]:
    """Every endpoint behind one guard, and the pages that the origin's links open."""
    guard = Guard(origin, grants, faults, sleep)

    async def link(request: web.Request) -> web.Response:
        return travel_details.show(origin, request)

    async def login(request: web.Request) -> web.Response:
        return log_in(origin, request)

    return [
        *(route for endpoint in endpoints() for route in guard.routes(endpoint)),
        web.get("/links/{language}", link),
        web.get("/auth/login/{token}", login, allow_head=False),
    ]
