"""Requirements as prose: the sections of a destination and nationality, as plain text or HTML, in four languages."""

from collections.abc import Callable
from functools import lru_cache
from html import escape

from passoproxy.sandbox.data.countries import Country
from passoproxy.sandbox.data.phrases import de, en, es, fr
from passoproxy.sandbox.data.rules import Requirements

PHRASES: dict[str, dict[str, str]] = {"de": de.PHRASES, "en": en.PHRASES, "fr": fr.PHRASES, "es": es.PHRASES}
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


def _visa(rules: Requirements, said: dict[str, str], language: str) -> list[str]:
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
    "visa": _visa,
    "transit_visa": _transit_visa,
    "health": _health,
    "final_provisions": _final_provisions,
}
