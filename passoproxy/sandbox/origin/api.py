"""Health, version, the account's plan, and links that log somebody in once.

Lists that hardly change: countries, German places, nationalities, languages, operators, and key lists.

The news: messages about destinations in their own wrapper, and product news as an ordinary page.

The endpoints with which an account and tour operators keep their own texts.

The origin put together: every endpoint of `/api/v2`, sharing one memory of trips, contents and changes.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from html import escape
from urllib.parse import quote

from aiohttp import web

from passoproxy.sandbox.data.catalogue import (
    ADDITIONAL_INFO,
    DOCUMENTS,
    IMMUNIZATIONS,
    LANGUAGE_NAMES,
    TOUR_OPERATORS,
    Country,
    countries,
    nationalities,
    places,
)
from passoproxy.sandbox.data.texts import PHRASES, message, named, product_news, ticker, written
from passoproxy.sandbox.html import page
from passoproxy.sandbox.options import FEATURES, SandboxOptions
from passoproxy.sandbox.origin.changes import Changes, moment
from passoproxy.sandbox.origin.contents import Contents, operators, ordered, own, page_of
from passoproxy.sandbox.origin.fields import Asked, Invalid, read
from passoproxy.sandbox.origin.guard import TOKEN, Guard, Missing
from passoproxy.sandbox.origin.information import Information
from passoproxy.sandbox.origin.records import Records
from passoproxy.sandbox.origin.requirements import RequirementEndpoints
from passoproxy.sandbox.origin.responses import Answers, Members
from passoproxy.sandbox.origin.sharing import Sharing
from passoproxy.sandbox.origin.travel_details import TravelDetails
from passoproxy.sandbox.origin.trips import Trips

LINK_SECONDS = 30.0


class Account:
    """The endpoints about the account and the service itself."""

    def __init__(self, options: SandboxOptions, answers: Answers, clock: Callable[[], float]) -> None:
        self._features, self._answers, self._clock = options.features, answers, clock
        self._links: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        return [
            web.get("/api/v2/health", guard(self.health, free=True)),
            web.get("/api/v2/version", guard(self.version, free=True)),
            web.get("/api/v2/account/subscription", guard(self.subscription)),
            web.get("/api/v2/auth/login/generate_link", guard(self.login_link)),
            web.get("/auth/login/{token}", self.log_in, allow_head=False),
        ]

    async def health(self, request: web.Request) -> web.Response:
        return self._answers.json(request, {"error": False, "status": "healthy"})

    async def version(self, request: web.Request) -> web.Response:
        return self._answers.json(request, {"error": False, "version": "V2.9", "commit_hash": "5a9db0c1"})

    async def subscription(self, request: web.Request) -> web.Response:
        """The plan: premium where it holds every feature."""
        kind = "premium" if set(self._features) >= set(FEATURES) else "standard"
        return self._answers.bare(request, {"type": kind, "features": list(self._features)})

    async def login_link(self, request: web.Request) -> web.Response:
        """A link that is good once, for `LINK_SECONDS`."""
        asked = await read(request)
        user = asked.text("username") or request[TOKEN].chain.subject
        target = asked.text("page") or "/"
        if not target.startswith("/"):
            raise Invalid({"page": "The page field must start with a slash."})
        token = secrets.token_hex(24)
        while len(self._links) >= 1000:
            self._links.popitem(last=False)
        self._links[token] = user, self._clock() + LINK_SECONDS
        place = (
            f"{request.scheme}://{request.host}/auth/login/{token}?user={quote(user, safe='@')}&page={quote(target)}"
        )
        return self._answers.json(request, {"username": user, "link": {"url": place, "token": token}})

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """What the link opens in a browser."""
        user, ends_at = self._links.pop(request.match_info["token"], ("", 0.0))
        if ends_at <= self._clock():
            text, status = "<p>This link was used already, or its 30 seconds are over.</p>", 410
        else:
            text, status = f"<p>You are logged in as <strong>{escape(user)}</strong>.</p>", 200
        body = f'<div class="card"><h1>Sandbox login</h1>{text}</div>'
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        document = page("Sandbox login", body, narrow=True)
        return web.Response(status=status, text=document, content_type="text/html", headers=headers)


_COUNTRY_FIELDS = (
    "code",
    "continent",
    "capital",
    "population",
    "area",
    "coastline",
    "currency",
    "governmentform",
    "dialingprefix",
    "birthrate",
    "deathrate",
    "lifeexpectancy",
)


class Basics:
    """The endpoints of basic data."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        return [
            web.get("/api/v2/countries", guard(self.countries, free=True)),
            web.get("/api/v2/countries/de/locations", guard(self.locations)),
            web.get("/api/v2/nationalities", guard(self.nationalities, free=True)),
            web.get("/api/v2/languages", guard(self.languages, free=True)),
            web.get("/api/v2/tour-operators", guard(self.tour_operators)),
            web.get("/api/v2/entry/documents", guard(self.documents)),
            web.get("/api/v2/entry/additional-info", guard(self.additional_info)),
            web.get("/api/v2/health/immunizations", guard(self.immunizations)),
        ]

    async def countries(self, request: web.Request) -> web.Response:
        asked = await read(request)
        wanted = {code.upper() for code in asked.words("code")}
        language = written((asked.text("language") or "en").lower())
        records = [_country(found, language) for code, found in countries().items() if not wanted or code in wanted]
        chosen = ordered(asked, _active(asked, records), _COUNTRY_FIELDS)
        return self._answers.json(request, page_of(request, asked, chosen))

    async def locations(self, request: web.Request) -> web.Response:
        asked = await read(request)
        wanted = {code.lstrip("0") for name in ("zip_code", "zip_codes") for code in asked.words(name)}
        found = [place for place in places() if not wanted or str(place["zip_code"]) in wanted]
        return self._answers.json(request, page_of(request, asked, found, member="locations", default_size=20))

    async def nationalities(self, request: web.Request) -> web.Response:
        asked = await read(request)
        language = written((asked.text("language") or "en").lower())
        records: list[Members] = [
            {"code": code, "name": found.names[language], "active": 1} for code, found in nationalities().items()
        ]
        chosen = ordered(asked, _active(asked, records), ("code", "name", "active"))
        return self._answers.json(request, page_of(request, asked, chosen))

    async def languages(self, request: web.Request) -> web.Response:
        asked = await read(request)
        records: list[Members] = [
            {"code": code, "content": name, "active": int(code in PHRASES)} for code, name in LANGUAGE_NAMES.items()
        ]
        chosen = ordered(asked, _active(asked, records), ("code", "content", "active"))
        return self._answers.json(request, page_of(request, asked, chosen))

    async def tour_operators(self, request: web.Request) -> web.Response:
        found = [{"code": code, "name": name} for code, name in TOUR_OPERATORS.items()]
        return self._answers.json(request, {"data": found})

    async def documents(self, request: web.Request) -> web.Response:
        return await self._keys(request, "documents", DOCUMENTS)

    async def additional_info(self, request: web.Request) -> web.Response:
        return await self._keys(request, "additional_info", ADDITIONAL_INFO)

    async def immunizations(self, request: web.Request) -> web.Response:
        return await self._keys(request, "immunizations", IMMUNIZATIONS)

    async def _keys(self, request: web.Request, member: str, codes: tuple[str, ...]) -> web.Response:
        language = (await read(request)).language()
        return self._answers.json(request, {member: [{"code": code, "name": named(code, language)} for code in codes]})


def _country(found: Country, language: str) -> Members:
    return {
        "code": found.code,
        "name": found.names[language],
        **{field: getattr(found, field) for field in _COUNTRY_FIELDS[1:]},
        "active": 1,
    }


def _active(asked: Asked, records: list[Members]) -> list[Members]:
    wanted = asked.flag("active")
    return records if wanted is None else [record for record in records if record["active"] == int(wanted)]


_FIRST_CHANGE_ID = 10_000


class Infosystem:
    """Everything under `/infosystem`; every important change is the newest message."""

    def __init__(self, answers: Answers, changes: Changes) -> None:
        self._answers, self._changes = answers, changes

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        return [
            web.get("/api/v2/infosystem/general", guard(self.general)),
            web.get("/api/v2/infosystem/passolution", guard(self.passolution)),
        ]

    async def general(self, request: web.Request) -> web.Response:
        asked = await read(request)
        language = asked.language()
        changed = [
            message(_FIRST_CHANGE_ID + number, code, "change", 9, moment(when), language)
            for number, when, code in self._changes.log
        ]
        found = ordered(asked, [*reversed(changed), *ticker(language)], ("created_at", "tagdate", "id", "country"))
        page = page_of(request, asked, found)
        meta = page["meta"]
        assert isinstance(meta, dict)
        result = {name: meta[name] for name in ("current_page", "last_page", "per_page", "total")}
        return self._answers.json(request, {"code": 0, "message": "success", "result": result | {"data": page["data"]}})

    async def passolution(self, request: web.Request) -> web.Response:
        asked = await read(request)
        found = ordered(asked, product_news(asked.language()), ("id", "date"))
        return self._answers.json(request, page_of(request, asked, found))


_INDIVIDUAL, _OPERATOR = "content.individual", "content.tour_operator"


class OwnContents:
    """`/individual-content` and `/tour-operator/{code}`."""

    def __init__(self, answers: Answers, own: Contents, operators: dict[str, Contents]) -> None:
        self._answers, self._own, self._operators = answers, own, operators

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        own, operator = "/api/v2/individual-content", "/api/v2/tour-operator/{code}"
        return [
            web.get(own, guard(self.read, feature=_INDIVIDUAL)),
            web.post(own, guard(self.write, feature=_INDIVIDUAL)),
            web.delete(own, guard(self.delete, feature=_INDIVIDUAL)),
            web.post(f"{own}/order", guard(self.order, feature=_INDIVIDUAL)),
            web.get(operator, guard(self.read, feature=_OPERATOR)),
            web.post(operator, guard(self.write, feature=_OPERATOR)),
            web.delete(operator, guard(self.delete, feature=_OPERATOR)),
        ]

    async def read(self, request: web.Request) -> web.Response:
        return self._answers.json(request, {"content": self._meant(request).all()})

    async def write(self, request: web.Request) -> web.Response:
        contents, asked = self._meant(request), await read(request)
        return self._answers.json(request, {"content": contents.put(asked.fields.get("content"))})

    async def delete(self, request: web.Request) -> web.Response:
        contents, asked = self._meant(request), await read(request)
        contents.delete(asked.fields.get("content"))
        return self._answers.json(request, {})

    async def order(self, request: web.Request) -> web.Response:
        asked = await read(request)
        self._own.order(asked.fields.get("content"))
        return self._answers.json(request, {})

    def _meant(self, request: web.Request) -> Contents:
        code = request.match_info.get("code")
        if code is None:
            return self._own
        if code.upper() not in self._operators:
            raise Missing
        return self._operators[code.upper()]


def routes(
    options: SandboxOptions, clock: Callable[[], float], answers: Answers, guard: Guard, changes: Changes
) -> list[web.RouteDef]:
    """The routes of the origin, and of the pages that its links open."""
    own_texts, operator_texts = own(clock), operators(clock)
    trips = Trips(clock, changes)
    records = Records(changes, own_texts, operator_texts)
    sharing = Sharing(trips, guard)
    return [
        *Account(options, answers, clock).routes(guard),
        *Basics(answers).routes(guard),
        *RequirementEndpoints(answers, changes, records, sharing, guard).routes(),
        *Information(answers, changes, records, sharing).routes(guard),
        *Infosystem(answers, changes).routes(guard),
        *TravelDetails(answers, trips, records).routes(guard),
        *OwnContents(answers, own_texts, operator_texts).routes(guard),
    ]
