"""The basic data, read from the JSON files beside this module: destinations, passports, languages, and the lists of other answers.

The figures are rounded and the rules invented. The rules of a row of `countries.json`:

- `visa`: what EU and EFTA citizens, other favoured passports, those in between and all others need, in this order;
  `freeN` N days without visa, `evisaN`, `arrivalN`, `embassyN`, `move` freedom of movement
- `passport_months`: months that the passport must be valid beyond arrival, 0 for the stay; `id_card`: whether EU identity cards are accepted
- `yellow_fever`: `no`, `risk` (coming from a risk area) or `all`; `malaria`: `no`, `parts` or `all`
- `insurance` and `registration`: whether they are demanded; `transit`: what others need, `none`, `airside` or `visa`
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


def read(name: str) -> Any:
    """The content of a JSON file of this folder."""
    return json.loads(resources.files(__package__).joinpath(name).read_text("utf-8"))


_LISTS = read("lists.json")
LANGUAGE_NAMES: dict[str, str] = _LISTS["languages"]
"""Every language that can be asked for; those without texts of their own are answered in English."""
LANGUAGES = ("de", "en", "fr", "es")
"""The languages that have texts of their own."""
TOUR_OPERATORS: dict[str, str] = _LISTS["tour_operators"]
DOCUMENTS: list[str] = _LISTS["documents"]
ADDITIONAL_INFO: list[str] = _LISTS["additional_info"]
IMMUNIZATIONS: list[str] = _LISTS["immunizations"]
PLACES: list[dict[str, object]] = _LISTS["places"]
"""German places; the postal code is a number, so that a leading zero is lost, as it is in the real service."""
TRIPS: list[dict[str, str]] = _LISTS["trips"]
"""The shared trips that every sandbox has at start."""


@dataclass(frozen=True, slots=True, eq=False)
class Country:
    """One destination."""

    code: str
    names: dict[str, str]
    continent: str
    capital: str
    population: int
    area: int
    coastline: int
    currency: str
    governmentform: str
    dialingprefix: str
    birthrate: float
    deathrate: float
    lifeexpectancy: float
    visa: list[str]
    passport_months: int
    id_card: bool
    yellow_fever: str
    malaria: str
    insurance: bool
    registration: bool
    transit: str
    vaccinations: list[str]
    """Codes of recommended ones."""


EUROPEAN = 0
"""The place of EU and EFTA passports in `Country.visa`."""


@dataclass(frozen=True, slots=True, eq=False)
class Nationality:
    """One passport; `tier` is its place in `Country.visa`."""

    code: str
    names: dict[str, str]
    tier: int


@cache
def countries() -> dict[str, Country]:
    """Every destination by its code, in the order of codes."""
    return {row["code"]: Country(**row) for row in read("countries.json")}


@cache
def nationalities() -> dict[str, Nationality]:
    """Every nationality by its code, in the order of codes."""
    return {row["code"]: Nationality(**row) for row in read("nationalities.json")}
