"""What one passport needs for one destination: facts worked out from the tables, and what a change does to them.

Requirements as prose: the sections of a destination and nationality, as plain text or HTML, in four languages.

The news ticker: invented messages about destinations, and product news.

Requirements as flags and figures: the `json` forms of overview, entry, visa and health.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from html import escape
from importlib import resources
from typing import Literal

from passoproxy.sandbox.data.catalogue import (
    EUROPEAN,
    LANGUAGE_NAMES,
    LANGUAGES,
    Country,
    Nationality,
    countries,
    nationalities,
)

VisaKind = Literal["own", "move", "free", "evisa", "arrival", "embassy"]
TransitKind = Literal["none", "airside", "visa"]

_EUROPE = frozenset({"AT", "CH", "DE", "ES", "FR", "GR", "HR", "IT", "NL", "PT"})
_TROPICAL = frozenset(
    {"BR", "CR", "CU", "DO", "ID", "IN", "KE", "KH", "LK", "MV", "MX", "MY", "NP", "PE", "PH", "TH", "TZ", "VN"}
)


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
    """Of the visa, in US dollars; 0 where none is needed."""
    passport_days: int | None
    """How long the passport must be valid beyond arrival; None: during the stay."""
    id_card: bool
    blank_pages: int
    transit: TransitKind
    vaccinations: tuple[str, ...]
    """Codes of recommended ones."""
    yellow_fever: str
    malaria: str
    insurance: bool
    registration: bool
    revision: int
    changed: str
    """When the rules changed last, as `YYYY-MM-DD HH:MM:SS`."""

    @property
    def visa_required(self) -> bool:
        return self.visa in ("evisa", "arrival", "embassy")


@lru_cache(maxsize=4096)
def requirements(destination: str, nationality: str, revision: int = 0, changed: str = "") -> Requirements | None:
    """The rules; None where a code is unknown. Every revision moves the passport's validity and the visa's fee."""
    country, passport = countries().get(destination), nationalities().get(nationality)
    if country is None or passport is None:
        return None
    visa, stay = _visa(country, passport)
    months = country.passport_months + revision % 4
    spread = sum(map(ord, country.code + passport.code))
    needed = visa in ("evisa", "arrival", "embassy")
    return Requirements(
        country,
        passport,
        visa,
        stay,
        (1 + spread % 3, 4 + spread % 9) if visa != "embassy" else (5 + spread % 6, 15 + spread % 10),
        20 + 5 * (spread % 14) + 10 * revision if needed else 0,
        months * 30 if months and visa not in ("own", "move") else None,
        visa in ("own", "move") or (country.id_card and passport.tier == EUROPEAN),
        2 if visa == "embassy" else 1,
        "none" if visa in ("own", "move", "free") else _transit(country, visa),
        _vaccinations(country),
        country.yellow_fever,
        country.malaria,
        country.insurance,
        country.registration,
        revision,
        changed
        or f"2026-{1 + spread % 6:02d}-{1 + spread % 28:02d} {7 + spread % 11:02d}:{spread % 60:02d}:{spread * 7 % 60:02d}",
    )


def _visa(country: Country, passport: Nationality) -> tuple[VisaKind, int | None]:
    if country.code == passport.code:
        return "own", None
    rule = country.visa[passport.tier]
    if rule == "move":
        return "move", None
    for kind in _LIMITED:
        if rule.startswith(kind):
            return kind, int(rule.removeprefix(kind))
    raise ValueError(f"country {country.code}: visa rule {rule!r} cannot be read")


_LIMITED: tuple[VisaKind, ...] = ("free", "evisa", "arrival", "embassy")


def _transit(country: Country, visa: VisaKind) -> TransitKind:
    if country.transit == "visa":
        return "visa"
    return "airside" if country.transit == "airside" or visa == "embassy" else "none"


def _vaccinations(country: Country) -> tuple[str, ...]:
    found = ["measles", "tetanus"]
    if country.code not in _EUROPE:
        found.append("hepatitis_a")
    if country.code in _TROPICAL or country.continent == "AF":
        found += ["typhoid", "hepatitis_b", "rabies"]
    if country.code in ("DE", "AT", "CH", "HR"):
        found.append("tick_borne_encephalitis")
    if country.continent == "AS" and country.code in _TROPICAL:
        found.append("japanese_encephalitis")
    return tuple(found)


PHRASES: dict[str, dict[str, str]] = {
    language: json.loads(
        resources.files("passoproxy.sandbox.data").joinpath("phrases", f"{language}.json").read_text("utf-8")
    )
    for language in ("de", "en", "fr", "es")
}
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
    said = PHRASES[written(language)]
    paragraphs = _WRITERS[name](rules, said, written(language))
    if form == "html":
        return _list(paragraphs) if name == "overview" else _paragraphs(paragraphs)
    return "\n".join(f"- {line}" for line in paragraphs) if name == "overview" else "\n\n".join(paragraphs)


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


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line, quote=False)}</li>" for line in lines) + "</ul>"


def _paragraphs(lines: list[str]) -> str:
    return "".join(f"<p>{escape(line, quote=False)}</p>" for line in lines)


def _validity(rules: Requirements, said: dict[str, str]) -> str:
    if rules.passport_days is None:
        return said["validity_stay"]
    return said["validity_days"].format(days=rules.passport_days)


def _overview(rules: Requirements, said: dict[str, str], language: str) -> list[str]:
    return [
        said["possible"],
        said["short_visa_yes" if rules.visa_required else "short_visa_no"],
        said["short_passport"].format(validity=_validity(rules, said)),
        said["short_id_yes" if rules.id_card else "short_id_no"],
        said["short_yellow_no" if rules.yellow_fever == "no" else "short_yellow_yes"],
        said["insurance_yes" if rules.insurance else "insurance_no"],
        *_changed(rules, said),
    ]


def _entry(rules: Requirements, said: dict[str, str], language: str) -> list[str]:
    return [
        _pair(rules, said, language),
        said["possible"],
        *_changed(rules, said),
        said["documents"],
        said["passport"].format(validity=_validity(rules, said), pages=rules.blank_pages),
        said["temporary"],
        said["id_card_yes" if rules.id_card else "id_card_no"],
        said["child"],
        said["ticket"],
        said["register_yes" if rules.registration else "register_no"],
        said["minors"],
        said["loss"],
        said["money"],
    ]


def _visa_text(rules: Requirements, said: dict[str, str], language: str) -> list[str]:
    told = [_pair(rules, said, language), said[f"visa_{rules.visa}"].format(days=rules.stay_days)]
    if rules.visa_required:
        least, most = rules.handling_days
        told += [
            said["handling"].format(least=least, most=most, fee=rules.fee),
            said["visa_papers"].format(pages=rules.blank_pages),
        ]
    if rules.visa not in ("own", "move"):
        told += [said["visa_extend"], said["visa_purpose"]]
    return told


def _transit_visa(rules: Requirements, said: dict[str, str], language: str) -> list[str]:
    key = "transit_visa_needed" if rules.transit == "visa" else f"transit_{rules.transit}"
    return [_pair(rules, said, language), said[key], said["transit_land"]]


def _health(rules: Requirements, said: dict[str, str], language: str) -> list[str]:
    names = ", ".join(named(code, language) for code in rules.vaccinations)
    return [
        said[f"yellow_{rules.yellow_fever}"],
        said["recommended"].format(names=names),
        said[f"malaria_{rules.malaria}"],
        said["insurance_yes" if rules.insurance else "insurance_no"],
        said["water"],
        said["pregnant"],
        *_changed(rules, said),
    ]


def _final_provisions(rules: Requirements, said: dict[str, str], language: str) -> list[str]:
    return [said["final"], said["disclaimer"]]


def _pair(rules: Requirements, said: dict[str, str], language: str) -> str:
    return said["pair"].format(
        destination=rules.destination.names[language], nationality=rules.nationality.names[language]
    )


def _changed(rules: Requirements, said: dict[str, str]) -> list[str]:
    return [said["change"].format(when=rules.changed, revision=rules.revision)] if rules.revision else []


_WRITERS: dict[str, Callable[[Requirements, dict[str, str], str], list[str]]] = {
    "overview": _overview,
    "entry": _entry,
    "visa": _visa_text,
    "transit_visa": _transit_visa,
    "health": _health,
    "final_provisions": _final_provisions,
}


_TAGS = ("transport", "entry", "health", "weather")
_NEWEST = datetime(2026, 5, 4, 7, 30, tzinfo=UTC)
_MESSAGES = 80
_PRODUCT_MESSAGES = 12


def stamp(moment: datetime) -> str:
    """A moment as the service writes it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def ticker(language: str) -> list[dict[str, object]]:
    """The messages about destinations, newest first."""
    codes = list(countries())
    return [
        message(
            9000 + _MESSAGES - number,
            codes[number * 7 % len(codes)],
            _TAGS[number % len(_TAGS)],
            number % len(_TAGS),
            stamp(_NEWEST - timedelta(hours=5 * number)),
            language,
        )
        for number in range(_MESSAGES)
    ]


def message(number: int, code: str, tag: str, tagtype: int, created: str, language: str) -> dict[str, object]:
    """One message about a destination."""
    said, country = PHRASES[written(language)], countries()[code]
    title, text = said[f"news_{tag}"], said.get(f"news_{tag}_text", said["final"])
    return {
        "id": number,
        "position": 0,
        "appearance": 0,
        "country": code,
        "country_name": {known: country.names[known] for known in LANGUAGES},
        "lang": written(language),
        "language_code": written(language),
        "language_content": LANGUAGE_NAMES[written(language)],
        "tagtype": tagtype,
        "tagtext": title,
        "tagdate": created[:10],
        "header": f"{country.names[written(language)]} - {title}",
        "content": text,
        "archive": 0,
        "active": 1,
        "categories": [{"name": title}],
        "created_at": created,
    }


def product_news(language: str) -> list[dict[str, object]]:
    """What changed in the product, newest first."""
    said = PHRASES[written(language)]
    return [
        {
            "id": 300 + number,
            "date": stamp(_NEWEST - timedelta(days=21 * (_PRODUCT_MESSAGES - number))),
            "headline": said["product"].format(number=number),
            "content": said["product_text"],
        }
        for number in range(_PRODUCT_MESSAGES, 0, -1)
    ]


Members = dict[str, object]


def overview(rules: Requirements, language: str) -> Members:
    """`/content/overview/json`: what is allowed and required, as flags."""
    return {
        "language": language,
        "entry": {
            "allowed": True,
            "additional_content": [],
            "registration": {"required": rules.registration, "additional_content": []},
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
            "insurance": {"required": rules.insurance, "additional_content": []},
            "vaccination": {"required": rules.yellow_fever != "no", "additional_content": []},
        },
    }


def entry(rules: Requirements, language: str) -> Members:
    """`/content/entry/json`: status, documents, minors, additional information."""
    validity: Members = {"type": "during_stay", "days": None}
    if rules.passport_days is not None:
        validity = {"type": "on_arrival", "days": rules.passport_days}
    info = (
        [{"code": "registration", "title": named("registration", language), "content": []}]
        if rules.registration
        else []
    )
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
        "additional_info": {
            "list": [*info, {"code": "return_ticket", "title": named("return_ticket", language), "content": []}]
        },
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
    immunizations = {code: _immunization(code, language, recommended=True) for code in rules.vaccinations}
    immunizations["yellow_fever"] = _immunization("yellow_fever", language, required=rules.yellow_fever == "all")
    if rules.yellow_fever == "risk":
        immunizations["yellow_fever"]["required_if"] = [{"code": "arrival_from_risk_area"}]
    risks = [] if rules.malaria == "no" else [{"code": "malaria", "name": named("malaria", language)}]
    return {
        "status": "available",
        "additional_content": [],
        "immunizations": immunizations,
        "medication": {"information": risks, "additional_content": []},
        "risk_groups": {
            "pregnant": {"has_risk": bool(risks), "risks": risks},
            "child": {"has_risk": rules.malaria == "all", "risks": risks if rules.malaria == "all" else []},
        },
        "insurance": {"required": rules.insurance},
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
