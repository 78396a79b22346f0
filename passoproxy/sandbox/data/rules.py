"""What one passport needs for one destination: facts worked out from the tables, and what a change does to them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from passoproxy.sandbox.data.countries import Country, countries
from passoproxy.sandbox.data.nationalities import EUROPEAN, Nationality, nationalities

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
