"""What a request can ask beyond the sections of requirements: regions, states, the country itself, forms for telephones.

The endpoints of requirements: `/content/{topic}/{form}` and `/destinations`.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from passoproxy.sandbox.data.catalogue import Country, countries
from passoproxy.sandbox.data.pdf import document
from passoproxy.sandbox.data.texts import (
    COUNTRY_TOPICS,
    FORMS,
    PHRASES,
    Requirements,
    country_topic,
    heading,
    matches,
    section,
    written,
)
from passoproxy.sandbox.origin.changes import Changes
from passoproxy.sandbox.origin.fields import MAX_PAIRS, Asked, Invalid, Place, read
from passoproxy.sandbox.origin.guard import Guard, Handler
from passoproxy.sandbox.origin.records import Records
from passoproxy.sandbox.origin.responses import Answers, Members, fresh_id
from passoproxy.sandbox.origin.sharing import Sharing


def extended(record: Members, rules: Requirements, asked: Asked, form: str) -> Members:
    """What a request can ask beyond the sections; each of it changes the answer, so that it belongs into a cache key."""
    if asked.flag("show_country_info"):
        record["country_info"] = country_record(rules.destination, written(asked.language()))
    if asked.flag("return_regions"):
        record["regions"] = [{"code": f"{rules.destination.code}-1", "name": rules.destination.capital}]
    states = asked.words("states")
    if states:
        record["states"] = states
    for name in ("zip_code", "zip_location", "cruise_compass_cruise_id"):
        value = asked.text(name)
        if value is not None:
            record[name] = value
    if form == "html" and asked.choice("target-device", ("mobile", "desktop"), "desktop") == "mobile":
        for part in record.values():
            if isinstance(part, dict) and "content" in part:
                part["content"] = f'<div class="mobile">{part["content"]}</div>'
    return record


def country_record(country: Country, known: str) -> Members:
    """What there is to say about a destination itself, by topic."""
    topics = {
        topic: {"title": PHRASES[known][topic], "content": f"<p>{country_topic(country, topic, known)}</p>"}
        for topic in COUNTRY_TOPICS
    }
    content = "".join(f"<h3>{topic['title']}</h3>{topic['content']}" for topic in topics.values())
    return {
        "country": country.code,
        "language": known.upper(),
        "title": country.names[known],
        "content": content,
        "topics": topics,
    }


DISCLAIMER = "Sandbox data, not for travel decisions."
HOME = "DE"
"""The nationality that counts where none needs to be named."""

_TEXT_TOPICS = {
    "overview": ("html", "pdf"),
    "entry": ("html", "text", "pdf"),
    "visa": ("html", "text", "pdf"),
    "transit_visa": ("html", "text", "pdf"),
    "health": ("html", "text", "pdf"),
}

Found = list[tuple[Place, Requirements]]


class RequirementEndpoints:
    """Everything under `/content`, and `/destinations`."""

    def __init__(self, answers: Answers, changes: Changes, records: Records, sharing: Sharing, guard: Guard) -> None:
        self._answers, self._changes, self._records, self._sharing, self._guard = (
            answers,
            changes,
            records,
            sharing,
            guard,
        )

    def routes(self) -> list[web.RouteDef]:
        """Each read by GET and by POST alike."""
        found = self._both("/content/all/html", self._all("html"))
        found += self._both("/content/all/text", self._all("text"))
        found += self._both("/content/all/pdf", self._all("pdf"))
        found += self._both("/content/country/html", self._country("html"), "content.country")
        found += self._both("/content/country/pdf", self._country("pdf"), "content.country")
        for topic in FORMS:
            found += self._both(f"/content/{topic}/json", self._topic(topic, "json"))
        for topic, forms in _TEXT_TOPICS.items():
            for form in forms:
                found += self._both(f"/content/{topic}/{form}", self._topic(topic, form))
        return [*found, web.post("/api/v2/destinations", self._guard(self.destinations))]

    def _both(self, path: str, handler: Handler, feature: str | None = None) -> list[web.RouteDef]:
        guarded = self._guard(handler, feature=feature)
        return [web.get(f"/api/v2{path}", guarded), web.post(f"/api/v2{path}", guarded)]

    def _all(self, form: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            asked = await read(request)
            language, found = asked.language(), self._found(asked)
            if asked.text("cruise_compass_cruise_id") is not None:
                self._guard.needs("content.cruise")
            shared = self._sharing.share(request, asked)
            if not found:
                return self._answers.nothing()
            if form == "pdf":
                return self._answers.pdf(request, self._whole_pdf(found, language))
            records = [extended(self._records.whole(*pair, language, form), pair[1], asked, form) for pair in found]
            members: Members = {"records": records, "disclaimer": DISCLAIMER}
            members |= self._records.additions(
                language,
                form,
                [place for place, _ in found],
                asked.words("individual_contents"),
                asked.words("tour_operators"),
            )
            return self._given(request, asked, found, members if shared is None else members | {"trip_url": shared})

        return answer

    def _topic(self, topic: str, form: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            asked = await read(request)
            language = asked.language()
            found = _filtered(topic, self._found(asked, HOME if topic == "health" else None), asked, language)
            if not found:
                return self._answers.nothing()
            if form == "pdf":
                return self._answers.pdf(request, self._topic_pdf(found, topic, language))
            if form == "json":
                records = [_who(rules) | FORMS[topic](rules, written(language)) for _, rules in found]
            else:
                records = [self._records.one(rules, topic, language, form) for _, rules in found]
            return self._given(request, asked, found, {"records": records, "disclaimer": DISCLAIMER})

        return answer

    def _country(self, form: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            asked = await read(request)
            known = written(asked.language())
            found = [countries()[place.code] for place in asked.destinations() if place.code in countries()]
            if not found:
                return self._answers.nothing()
            if form == "pdf":
                parts = [
                    (f"{country.names[known]}: {heading(topic, known)}", country_topic(country, topic, known))
                    for country in found
                    for topic in COUNTRY_TOPICS
                ]
                return self._answers.pdf(request, document(_title(found, known), [*parts, ("", DISCLAIMER)]))
            records = [country_record(country, known) for country in found]
            requestid = fresh_id()
            self._changes.give(requestid, request.path, [country.code for country in found], ())
            members: Members = {"records": records, "disclaimer": DISCLAIMER}
            return self._answers.json(request, members, requestid=requestid)

        return answer

    async def destinations(self, request: web.Request) -> web.Response:
        """The destinations whose rules fulfil the filters `entry`, `visa` and `health` for all nationalities named."""
        asked = await read(request)
        language, passports = asked.language(), asked.nationalities(HOME)
        filters = {name: asked.object(name) for name in ("entry", "visa", "health")}
        fields = asked.object("fields") or {}
        records: list[Members] = []
        for code, country in countries().items():
            rules = [rule for _, rule in self._records.pairs([Place(code)], passports)]
            if rules and all(_fulfils(rule, filters, written(language)) for rule in rules):
                record: Members = {"code": code, "name": country.names[written(language)]}
                if "travel_advisory" in fields:
                    record["travel_advisory"] = {"type": "inactive"}
                records.append(record)
        field, reverse = (
            asked.choice("sort_by", ("code", "name"), "code"),
            asked.choice("sort_order", ("asc", "desc"), "asc"),
        )
        records.sort(key=lambda record: str(record[field]), reverse=reverse == "desc")
        return self._answers.json(request, {"destinations": records})

    def _found(self, asked: Asked, nationality: str | None = None) -> Found:
        places, passports = asked.destinations(), asked.nationalities(nationality)
        if len(places) * len(passports) > MAX_PAIRS:
            raise Invalid({"destinations": f"Destinations and nationalities may not make more than {MAX_PAIRS} pairs."})
        return list(self._records.pairs(places, passports))

    def _given(self, request: web.Request, asked: Asked, found: Found, members: Members) -> web.Response:
        requestid = fresh_id()
        places = dict.fromkeys(place.code for place, _ in found)
        passports = dict.fromkeys(rules.nationality.code for _, rules in found)
        self._changes.give(requestid, request.path, list(places), list(passports), asked.words("states"))
        return self._answers.json(request, members, requestid=requestid)

    def _whole_pdf(self, found: Found, language: str) -> bytes:
        parts = [
            (f"{self._records.title(rules, language)}: {title}", text)
            for _, rules in found
            for title, text in self._records.parts(rules, language, "text")
        ]
        return document(_title([rules.destination for _, rules in found], written(language)), parts)

    def _topic_pdf(self, found: Found, topic: str, language: str) -> bytes:
        known = written(language)
        parts = [(self._records.title(rules, known), section(rules, topic, known, "text")) for _, rules in found]
        return document(heading(topic, known), [*parts, ("", DISCLAIMER)])


def _who(rules: Requirements) -> Members:
    return {"destination": rules.destination.code, "nationality": rules.nationality.code}


def _title(found: Sequence[Country], known: str) -> str:
    return ", ".join(dict.fromkeys(country.names[known] for country in found))


def _filtered(topic: str, found: Found, asked: Asked, language: str) -> Found:
    """The pairs whose `json` form fulfils the body's `filters`."""
    filters = asked.object("filters")
    if not filters or topic not in FORMS:
        return found
    return [pair for pair in found if matches(FORMS[topic](pair[1], written(language)), filters)]


def _fulfils(rules: Requirements, filters: dict[str, Members | None], known: str) -> bool:
    return all(wanted is None or matches(FORMS[name](rules, known), wanted) for name, wanted in filters.items())
