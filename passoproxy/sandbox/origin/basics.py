"""Lists that hardly change: countries, German places, nationalities, languages, operators, and key lists."""

from aiohttp import web

from passoproxy.sandbox.data.basics import (
    ADDITIONAL_INFO,
    DOCUMENTS,
    IMMUNIZATIONS,
    LANGUAGE_NAMES,
    TOUR_OPERATORS,
    places,
)
from passoproxy.sandbox.data.countries import Country, countries
from passoproxy.sandbox.data.nationalities import nationalities
from passoproxy.sandbox.data.texts import PHRASES, named, written
from passoproxy.sandbox.origin.answering import Answers, Members
from passoproxy.sandbox.origin.asking import Asked
from passoproxy.sandbox.origin.guard import Guard
from passoproxy.sandbox.origin.paging import ordered, page_of
from passoproxy.sandbox.origin.reading import read

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
