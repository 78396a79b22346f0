"""The passports: names in four languages, and how far one gets with them."""

from dataclasses import dataclass
from functools import cache

EUROPEAN, STRONG, MIDDLE, OTHER = range(4)
"""Places of a passport in `Country.visa`."""


@dataclass(frozen=True, slots=True, eq=False)
class Nationality:
    """One passport; `tier` is its place in `Country.visa`."""

    code: str
    names: dict[str, str]
    tier: int


@cache
def nationalities() -> dict[str, Nationality]:
    """Every nationality by its code, in the order of codes."""
    rows = (_nationality(line) for line in _TABLE.strip().splitlines())
    return {found.code: found for found in sorted(rows, key=lambda found: found.code)}


def _nationality(line: str) -> Nationality:
    code, de, en, fr, es, tier = line.split("|")
    return Nationality(code, {"de": de, "en": en, "fr": fr, "es": es}, int(tier))


_TABLE = """
AR|Argentinien|Argentina|Argentine|Argentina|2
AT|Österreich|Austria|Autriche|Austria|0
AU|Australien|Australia|Australie|Australia|1
BE|Belgien|Belgium|Belgique|Bélgica|0
BR|Brasilien|Brazil|Brésil|Brasil|2
CA|Kanada|Canada|Canada|Canadá|1
CH|Schweiz|Switzerland|Suisse|Suiza|0
CN|China|China|Chine|China|3
CZ|Tschechien|Czechia|Tchéquie|Chequia|0
DE|Deutschland|Germany|Allemagne|Alemania|0
DK|Dänemark|Denmark|Danemark|Dinamarca|0
ES|Spanien|Spain|Espagne|España|0
FI|Finnland|Finland|Finlande|Finlandia|0
FR|Frankreich|France|France|Francia|0
GB|Vereinigtes Königreich|United Kingdom|Royaume-Uni|Reino Unido|1
IN|Indien|India|Inde|India|3
IT|Italien|Italy|Italie|Italia|0
JP|Japan|Japan|Japon|Japón|1
KR|Südkorea|South Korea|Corée du Sud|Corea del Sur|1
MX|Mexiko|Mexico|Mexique|México|2
NG|Nigeria|Nigeria|Nigéria|Nigeria|3
NL|Niederlande|Netherlands|Pays-Bas|Países Bajos|0
NO|Norwegen|Norway|Norvège|Noruega|0
PK|Pakistan|Pakistan|Pakistan|Pakistán|3
PL|Polen|Poland|Pologne|Polonia|0
PT|Portugal|Portugal|Portugal|Portugal|0
RS|Serbien|Serbia|Serbie|Serbia|2
SE|Schweden|Sweden|Suède|Suecia|0
TR|Türkei|Turkey|Turquie|Turquía|2
UA|Ukraine|Ukraine|Ukraine|Ucrania|2
US|Vereinigte Staaten|United States|États-Unis|Estados Unidos|1
VN|Vietnam|Vietnam|Viêt Nam|Vietnam|3
ZA|Südafrika|South Africa|Afrique du Sud|Sudáfrica|2
"""
