"""What one passport needs for one destination, as facts, as prose in four languages, and as flags and figures; and the invented news.

The facts follow from the rows of `catalogue`; the sentences are in `phrases/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from html import escape
from typing import Literal, cast

from passoproxy.sandbox.data.catalogue import (
    EUROPEAN,
    LANGUAGE_NAMES,
    LANGUAGES,
    Country,
    Nationality,
    countries,
    nationalities,
    read,
)

VisaKind = Literal["own", "move", "free", "evisa", "arrival", "embassy"]
TransitKind = Literal["none", "airside", "visa"]
Members = dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class Requirements:
    """The rules for one destination and nationality. `revision` counts the changes since the sandbox began."""

    destination: Country
    nationality: Nationality
    visa: VisaKind
    stay_days: int | None
    """How long one may stay; None: without limit."""
    handling_days: tuple[int, int]
    fee: int
    """Of the visa, in US dollars; 0 if none is needed."""
    passport_days: int | None
    """How long the passport must be valid beyond arrival; None: during the stay."""
    id_card: bool
    blank_pages: int
    transit: TransitKind
    revision: int
    changed: str
    """When the rules changed last, as `YYYY-MM-DD HH:MM:SS`."""

    @property
    def visa_required(self) -> bool:
        return self.visa in ("evisa", "arrival", "embassy")


@lru_cache(maxsize=4096)
def requirements(destination: str, nationality: str, revision: int = 0, changed: str = "") -> Requirements | None:
    """The rules; None for an unknown code. Every revision moves the passport's validity and the visa's fee."""
    country, passport = countries().get(destination), nationalities().get(nationality)
    if country is None or passport is None:
        return None
    rule = "own" if country.code == passport.code else country.visa[passport.tier]
    visa = cast(VisaKind, rule.rstrip("0123456789"))
    days = rule.removeprefix(visa)
    resident = visa in ("own", "move")
    months = country.passport_months + revision % 4
    spread = sum(map(ord, country.code + passport.code))
    transit: TransitKind = "none"
    if not resident and visa != "free":
        transit = cast(TransitKind, "airside" if visa == "embassy" and country.transit == "none" else country.transit)
    return Requirements(
        country,
        passport,
        visa,
        stay_days=int(days) if days else None,
        handling_days=(5 + spread % 6, 15 + spread % 10) if visa == "embassy" else (1 + spread % 3, 4 + spread % 9),
        fee=20 + 5 * (spread % 14) + 10 * revision if visa in ("evisa", "arrival", "embassy") else 0,
        passport_days=months * 30 if months and not resident else None,
        id_card=resident or (country.id_card and passport.tier == EUROPEAN),
        blank_pages=2 if visa == "embassy" else 1,
        transit=transit,
        revision=revision,
        changed=changed
        or f"2026-{1 + spread % 6:02d}-{1 + spread % 28:02d} {7 + spread % 11:02d}:{spread % 60:02d}:{spread * 7 % 60:02d}",
    )


# ---- prose -----------------------------------------------------------------------------------------------------------

PHRASES: dict[str, dict[str, str]] = {language: read(f"phrases/{language}.json") for language in LANGUAGES}
SECTIONS = ("overview", "entry", "visa", "transit_visa", "health", "final_provisions")
COUNTRY_TOPICS = ("geography", "climate", "currency", "communication", "customs", "safety")


def written(language: str) -> str:
    """The language that texts are really in: the one asked for, or English."""
    return language if language in PHRASES else "en"


def named(key: str, language: str) -> str:
    """The name of a document, vaccination or the like."""
    return PHRASES[written(language)][f"name_{key}"]


def heading(section: str, language: str) -> str:
    """The title of a section or topic."""
    return PHRASES[written(language)][section]


@lru_cache(maxsize=16384)
def section(rules: Requirements, name: str, language: str, form: str) -> str:
    """The text of one section; `form` is `html` or `text`."""
    paragraphs = _sentences(rules, written(language))[name]
    match name, form:
        case "overview", "html":
            return "<ul>" + "".join(f"<li>{escape(line, quote=False)}</li>" for line in paragraphs) + "</ul>"
        case _, "html":
            return "".join(f"<p>{escape(line, quote=False)}</p>" for line in paragraphs)
        case "overview", _:
            return "\n".join(f"- {line}" for line in paragraphs)
        case _:
            return "\n\n".join(paragraphs)


def country_topic(country: Country, topic: str, language: str) -> str:
    """One topic about a country, as plain text."""
    return PHRASES[written(language)][f"{topic}_text"].format(
        capital=country.capital,
        area=country.area,
        coast=country.coastline,
        people=country.population,
        government=country.governmentform,
        currency=country.currency,
        life=country.lifeexpectancy,
        dial=country.dialingprefix,
    )


@lru_cache(maxsize=4096)
def _sentences(rules: Requirements, language: str) -> dict[str, list[str]]:
    """The sentences of every section, in a language that has texts."""
    said, country = PHRASES[language], rules.destination
    pair = said["pair"].format(destination=country.names[language], nationality=rules.nationality.names[language])
    validity = said["validity_stay" if rules.passport_days is None else "validity_days"].format(
        days=rules.passport_days
    )
    insurance = said["insurance_yes" if country.insurance else "insurance_no"]
    changed = [said["change"].format(when=rules.changed, revision=rules.revision)] if rules.revision else []
    visa = [pair, said[f"visa_{rules.visa}"].format(days=rules.stay_days)]
    if rules.visa_required:
        least, most = rules.handling_days
        visa += [
            said["handling"].format(least=least, most=most, fee=rules.fee),
            said["visa_papers"].format(pages=rules.blank_pages),
        ]
    if rules.visa not in ("own", "move"):
        visa += [said["visa_extend"], said["visa_purpose"]]
    return {
        "overview": [
            said["possible"],
            said["short_visa_yes" if rules.visa_required else "short_visa_no"],
            said["short_passport"].format(validity=validity),
            said["short_id_yes" if rules.id_card else "short_id_no"],
            said["short_yellow_no" if country.yellow_fever == "no" else "short_yellow_yes"],
            insurance,
            *changed,
        ],
        "entry": [
            pair,
            said["possible"],
            *changed,
            said["documents"],
            said["passport"].format(validity=validity, pages=rules.blank_pages),
            said["temporary"],
            said["id_card_yes" if rules.id_card else "id_card_no"],
            said["child"],
            said["ticket"],
            said["register_yes" if country.registration else "register_no"],
            *(said[name] for name in ("minors", "loss", "money")),
        ],
        "visa": visa,
        "transit_visa": [
            pair,
            said["transit_visa_needed" if rules.transit == "visa" else f"transit_{rules.transit}"],
            said["transit_land"],
        ],
        "health": [
            said[f"yellow_{country.yellow_fever}"],
            said["recommended"].format(names=", ".join(named(code, language) for code in country.vaccinations)),
            said[f"malaria_{country.malaria}"],
            insurance,
            said["water"],
            said["pregnant"],
            *changed,
        ],
        "final_provisions": [said["final"], said["disclaimer"]],
    }


# ---- news ------------------------------------------------------------------------------------------------------------

_TAGS = ("transport", "entry", "health", "weather")
_NEWEST = datetime(2026, 5, 4, 7, 30, tzinfo=UTC)


def stamp(moment: datetime) -> str:
    """A moment as the service writes it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def ticker(language: str) -> list[Members]:
    """The 80 messages about destinations, newest first."""
    codes = list(countries())
    return [
        message(
            9080 - number,
            codes[number * 7 % len(codes)],
            _TAGS[number % len(_TAGS)],
            number % len(_TAGS),
            stamp(_NEWEST - timedelta(hours=5 * number)),
            language,
        )
        for number in range(80)
    ]


def message(number: int, code: str, tag: str, tagtype: int, created: str, language: str) -> Members:
    """One message about a destination."""
    known, names = written(language), countries()[code].names
    said = PHRASES[known]
    title = said[f"news_{tag}"]
    return {
        "id": number,
        "position": 0,
        "appearance": 0,
        "country": code,
        "country_name": names,
        "lang": known,
        "language_code": known,
        "language_content": LANGUAGE_NAMES[known],
        "tagtype": tagtype,
        "tagtext": title,
        "tagdate": created[:10],
        "header": f"{names[known]} - {title}",
        "content": said.get(f"news_{tag}_text", said["final"]),
        "archive": 0,
        "active": 1,
        "categories": [{"name": title}],
        "created_at": created,
    }


def product_news(language: str) -> list[Members]:
    """What changed in the product: 12 messages, newest first."""
    said = PHRASES[written(language)]
    return [
        {
            "id": 300 + number,
            "date": stamp(_NEWEST - timedelta(days=21 * (12 - number))),
            "headline": said["product"].format(number=number),
            "content": said["product_text"],
        }
        for number in range(12, 0, -1)
    ]


# ---- flags and figures: the `json` forms of overview, entry, visa and health -------------------------------------------


def overview(rules: Requirements, language: str) -> Members:
    """`/content/overview/json`: what is allowed and required, as flags."""
    return {
        "language": language,
        "entry": {
            "allowed": True,
            "additional_content": [],
            "registration": {"required": rules.destination.registration, "additional_content": []},
            "documents": {
                "passport": {"allowed": True},
                "temporary_passport": {"allowed": True},
                "id_card": {"allowed": rules.id_card},
            },
            "documents_additional_content": [],
            "minors": {"documents_required": True, "additional_content": []},
        },
        "visa": {"required": rules.visa_required, "additional_content": []},
        "health": {
            "insurance": {"required": rules.destination.insurance, "additional_content": []},
            "vaccination": {"required": rules.destination.yellow_fever != "no", "additional_content": []},
        },
    }


def entry(rules: Requirements, language: str) -> Members:
    """`/content/entry/json`: status, documents, minors, additional information."""
    validity: Members = {"type": "during_stay", "days": None}
    if rules.passport_days is not None:
        validity = {"type": "on_arrival", "days": rules.passport_days}
    asked = (["registration"] if rules.destination.registration else []) + ["return_ticket"]
    return {
        "status": "possible",
        "documents": {
            "passport": _document("passport", language, allowed=True, validity=validity)
            | {"unused_pages": rules.blank_pages},
            "temporary_passport": _document("temporary_passport", language, allowed=True, validity=validity),
            "id_card": _document(
                "id_card", language, allowed=rules.id_card, validity={"type": "during_stay", "days": None}
            ),
        },
        "minors": {
            "documents": [],
            "documents_required": [{"code": "child_passport", "name": named("child_passport", language)}],
        },
        "additional_info": {"list": [{"code": code, "title": named(code, language), "content": []} for code in asked]},
        "additional_content": [],
        "updated_at": rules.changed,
    }


def _document(code: str, language: str, *, allowed: bool, validity: Members) -> Members:
    return {"name": named(code, language), "entry_allowed": allowed, "validity": validity, "additional_content": []}


def visa(rules: Requirements, language: str) -> Members:
    """`/content/visa/json`: whether, from when on, and how to apply."""
    least, most = rules.handling_days
    papers = ("passport", "photograph", "return_ticket", "bank_statement") if rules.visa_required else ()
    return {
        "required": {"status": "required" if rules.visa_required else "not_required", "additional_content": []},
        "required_if": [],
        "required_after_days": rules.stay_days if rules.visa == "free" else None,
        "application": {
            "foreign_representation": {
                "available": rules.visa == "embassy",
                "handling_time": {"from": least, "to": most, "unit": "day"},
            },
            "e_visa": {
                "available": rules.visa == "evisa",
                "application_url": f"https://evisa.{rules.destination.code.lower()}.example/"
                if rules.visa == "evisa"
                else None,
            },
            "on_arrival": {"available": rules.visa == "arrival"},
        },
        "fee": {"amount": rules.fee, "currency": "USD"} if rules.visa_required else None,
        "documents": {"list": [{"code": code, "name": named(code, language)} for code in papers]},
        "footnotes": [],
        "updated_at": rules.changed,
    }


def health(rules: Requirements, language: str) -> Members:
    """`/content/health/json`: immunizations, medication, groups at risk."""
    immunizations = {code: _immunization(code, language, recommended=True) for code in rules.destination.vaccinations}
    immunizations["yellow_fever"] = _immunization(
        "yellow_fever", language, required=rules.destination.yellow_fever == "all"
    )
    if rules.destination.yellow_fever == "risk":
        immunizations["yellow_fever"]["required_if"] = [{"code": "arrival_from_risk_area"}]
    risks = [] if rules.destination.malaria == "no" else [{"code": "malaria", "name": named("malaria", language)}]
    return {
        "status": "available",
        "additional_content": [],
        "immunizations": immunizations,
        "medication": {"information": risks, "additional_content": []},
        "risk_groups": {
            "pregnant": {"has_risk": bool(risks), "risks": risks},
            "child": {
                "has_risk": rules.destination.malaria == "all",
                "risks": risks if rules.destination.malaria == "all" else [],
            },
        },
        "insurance": {"required": rules.destination.insurance},
        "updated_at": rules.changed,
    }


def _immunization(code: str, language: str, *, required: bool = False, recommended: bool = False) -> Members:
    return {
        "name": named(code, language),
        "required": required,
        "required_if": [],
        "recommended": recommended,
        "recommended_if": [],
        "additional_content": [],
    }


FORMS = {"overview": overview, "entry": entry, "visa": visa, "health": health}


def matches(found: object, wanted: object) -> bool:
    """Whether a record fulfils a filter: objects by each member that the filter names, lists by holding, else equality."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and matches(found[name], part) for name, part in wanted.items()
        )
    if isinstance(wanted, list):
        return found in wanted if not isinstance(found, list) else all(part in found for part in wanted)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found == wanted
