"""The endpoints of requirements: `/content/{topic}/{form}` and `/destinations`, with what a request can ask beyond the sections."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

from passoproxy.sandbox.data.catalogue import TOUR_OPERATORS, Country, countries
from passoproxy.sandbox.data.pdf import document
from passoproxy.sandbox.data.texts import (
    COUNTRY_TOPICS,
    FORMS,
    PHRASES,
    SECTIONS,
    Members,
    Requirements,
    country_topic,
    heading,
    matches,
    section,
    written,
)
from passoproxy.sandbox.origin.call import Call, Origin, Reply
from passoproxy.sandbox.origin.fields import Asked, Place
from passoproxy.sandbox.origin.guard import Endpoint

DISCLAIMER = "Sandbox data, not for travel decisions."
HOME = "DE"
"""The nationality that counts if none needs to be named."""

_TEXT_FORMS = ("html", "text", "pdf")
_FORMS_OF = {
    "overview": ("json", "html", "pdf"),
    "entry": ("json", *_TEXT_FORMS),
    "visa": ("json", *_TEXT_FORMS),
    "transit_visa": _TEXT_FORMS,
    "health": ("json", *_TEXT_FORMS),
}

Found = list[tuple[Place, Requirements]]


def endpoints() -> Iterator[Endpoint]:
    """Each read by GET and by POST alike."""
    for form in _TEXT_FORMS:
        yield Endpoint("GET POST", f"/content/all/{form}", _all(form))
    for form in ("html", "pdf"):
        yield Endpoint("GET POST", f"/content/country/{form}", _country(form), feature="content.country")
    for topic, forms in _FORMS_OF.items():
        for form in forms:
            yield Endpoint("GET POST", f"/content/{topic}/{form}", _topic(topic, form))
    yield Endpoint("POST", "/destinations", destinations)


def pairs(origin: Origin, places: Sequence[Place], nationalities: Sequence[str]) -> Found:
    """The rules of every pair that is known, in the order asked for."""
    found = ((place, origin.changes.rules(place.code, code)) for place in places for code in nationalities)
    return [(place, rules) for place, rules in found if rules is not None]


def title(rules: Requirements, language: str) -> str:
    """What a record is about, for people."""
    known = written(language)
    return f"{rules.destination.names[known]} / {rules.nationality.names[known]}"


def parts(rules: Requirements, language: str, form: str) -> list[tuple[str, str]]:
    """Headings and texts of every section."""
    known = written(language)
    return [(heading(name, known), section(rules, name, known, form)) for name in SECTIONS]


def record(place: Place, rules: Requirements, language: str, form: str) -> Members:
    """The record of `/content/all/*`: every section."""
    known = written(language)
    made: Members = {
        "destination": place.code,
        "destination_type": place.type,
        "nationality": rules.nationality.code,
        "title": title(rules, known),
    }
    for name in SECTIONS:
        part: Members = {
            "language": known.upper(),
            "title": heading(name, known),
            "content": section(rules, name, known, form),
        }
        if name not in ("overview", "final_provisions"):
            part["updated_at"] = rules.changed
        made[name] = part
    return made


def additions(
    origin: Origin,
    language: str,
    form: str,
    places: Sequence[Place],
    contents: Sequence[str],
    operators: Sequence[str],
) -> Members:
    """What the account and tour operators add to an answer."""
    codes = [place.code for place in places]
    found: Members = {}
    if sections := origin.own.chosen(codes, contents, language, form):
        found["individual_content"] = {"name": "Sandbox Travel", "success": True, "error": None, "sections": sections}
    if operators:
        told: list[Members] = []
        for code in (code.upper() for code in operators):
            if code in TOUR_OPERATORS:
                texts = origin.operators[code].chosen(codes, (), language, form)
                told.append(
                    {"code": code, "name": TOUR_OPERATORS[code], "success": True, "error": None, "contents": texts}
                )
            else:
                told.append({"code": code, "name": None, "success": False, "error": "not_found", "contents": []})
        found["tour_operators"] = told
    return found


def given(call: Call, places: Sequence[str], nationalities: Sequence[str], members: Members) -> Members:
    """The answer with an id by which `/information/updates` knows it again."""
    requestid = str(uuid.uuid4())
    call.origin.changes.give(requestid, call.request.path, places, nationalities, call.asked.words("states"))
    return members | {"requestid": requestid}


def _given_records(call: Call, found: Found, records: list[Members], **more: object) -> Members:
    places = dict.fromkeys(place.code for place, _ in found)
    passports = dict.fromkeys(rules.nationality.code for _, rules in found)
    return given(call, list(places), list(passports), {"records": records, "disclaimer": DISCLAIMER, **more})


def _all(form: str) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        asked, language = call.asked, call.asked.language()
        found = pairs(call.origin, *asked.pairs())
        if asked.text("cruise_compass_cruise_id") is not None:
            call.needs("content.cruise")
        shared = call.share()
        if not found:
            return None
        if form == "pdf":
            texts = [
                (f"{title(rules, language)}: {name}", text)
                for _, rules in found
                for name, text in parts(rules, language, "text")
            ]
            return document(_names([rules.destination for _, rules in found], written(language)), texts)
        records = [_extended(record(*pair, language, form), pair[1], asked, form) for pair in found]
        chosen = asked.words("individual_contents"), asked.words("tour_operators")
        more = additions(call.origin, language, form, [place for place, _ in found], *chosen)
        return _given_records(call, found, records, **more, **({} if shared is None else {"trip_url": shared}))

    return answer


def _topic(topic: str, form: str) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        language = call.asked.language()
        known = written(language)
        found = pairs(call.origin, *call.asked.pairs(HOME if topic == "health" else None))
        filters = call.asked.object("filters")
        if filters and topic in FORMS:
            found = [pair for pair in found if matches(FORMS[topic](pair[1], known), filters)]
        if not found:
            return None
        if form == "pdf":
            texts = [(title(rules, known), section(rules, topic, known, "text")) for _, rules in found]
            return document(heading(topic, known), [*texts, ("", DISCLAIMER)])
        records: list[Members] = []
        for _, rules in found:
            about: Members = {"destination": rules.destination.code, "nationality": rules.nationality.code}
            if form == "json":
                records.append(about | FORMS[topic](rules, known))
            else:
                content = section(rules, topic, known, form)
                records.append(about | {"language": known.upper(), "title": heading(topic, known), "content": content})
        return _given_records(call, found, records)

    return answer


def _country(form: str) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        known = written(call.asked.language())
        found = [countries()[place.code] for place in call.asked.destinations() if place.code in countries()]
        if not found:
            return None
        if form == "pdf":
            texts = [
                (f"{country.names[known]}: {heading(topic, known)}", country_topic(country, topic, known))
                for country in found
                for topic in COUNTRY_TOPICS
            ]
            return document(_names(found, known), [*texts, ("", DISCLAIMER)])
        members: Members = {
            "records": [_country_record(country, known) for country in found],
            "disclaimer": DISCLAIMER,
        }
        return given(call, [country.code for country in found], (), members)

    return answer


def destinations(call: Call) -> Reply:
    """The destinations whose rules fulfil the filters `entry`, `visa` and `health` for all nationalities named."""
    asked, known, passports = call.asked, written(call.asked.language()), call.asked.nationalities(HOME)
    filters = {name: wanted for name in ("entry", "visa", "health") if (wanted := asked.object(name)) is not None}
    fields = asked.object("fields") or {}
    records: list[Members] = []
    for code, country in countries().items():
        rules = [rule for _, rule in pairs(call.origin, [Place(code)], passports)]
        if rules and all(
            matches(FORMS[name](rule, known), wanted) for rule in rules for name, wanted in filters.items()
        ):
            made: Members = {"code": code, "name": country.names[known]}
            if "travel_advisory" in fields:
                made["travel_advisory"] = {"type": "inactive"}
            records.append(made)
    field = asked.choice("sort_by", ("code", "name"), "code")
    descending = asked.choice("sort_order", ("asc", "desc"), "asc") == "desc"
    return {"destinations": sorted(records, key=lambda each: str(each[field]), reverse=descending)}


def _names(found: Sequence[Country], known: str) -> str:
    return ", ".join(dict.fromkeys(country.names[known] for country in found))


def _extended(made: Members, rules: Requirements, asked: Asked, form: str) -> Members:
    """What a request can ask beyond the sections; each of it changes the answer, so that it belongs into a cache key."""
    if asked.flag("show_country_info"):
        made["country_info"] = _country_record(rules.destination, written(asked.language()))
    if asked.flag("return_regions"):
        made["regions"] = [{"code": f"{rules.destination.code}-1", "name": rules.destination.capital}]
    if states := asked.words("states"):
        made["states"] = states
    for name in ("zip_code", "zip_location", "cruise_compass_cruise_id"):
        if (value := asked.text(name)) is not None:
            made[name] = value
    if form == "html" and asked.choice("target-device", ("mobile", "desktop"), "desktop") == "mobile":
        for part in made.values():
            if isinstance(part, dict) and "content" in part:
                part["content"] = f'<div class="mobile">{part["content"]}</div>'
    return made


def _country_record(country: Country, known: str) -> Members:
    """What there is to say about a destination itself, by topic."""
    topics = {
        topic: {"title": PHRASES[known][topic], "content": f"<p>{country_topic(country, topic, known)}</p>"}
        for topic in COUNTRY_TOPICS
    }
    return {
        "country": country.code,
        "language": known.upper(),
        "title": country.names[known],
        "content": "".join(f"<h3>{topic['title']}</h3>{topic['content']}" for topic in topics.values()),
        "topics": topics,
    }
