"""Lists that hardly change: languages, German places, operators, and the keys that other answers use.

The destinations: names in four languages, figures, and the facts from which entry rules follow.

The figures are rounded and the rules invented; a row is what one would change to make another story. The rules of a row:

- visa: what EU and EFTA citizens, other favoured passports, those in between and all others need, in this order;
  `freeN` N days without visa, `evisaN`, `arrivalN`, `embassyN`, `move` freedom of movement
- passport: months that it must be valid beyond arrival, 0 for the stay; id: whether EU identity cards are accepted
- yellow fever: `no`, `risk` (coming from a risk area) or `all`; malaria: `no`, `parts` or `all`
- insurance and registration: whether they are demanded; transit: what others need, `none`, `airside` or `visa`

The passports: names in four languages, and how far one gets with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

DOCUMENTS = ("passport", "temporary_passport", "id_card", "child_passport")
ADDITIONAL_INFO = ("registration", "return_ticket", "customs_declaration")
IMMUNIZATIONS = (
    "yellow_fever",
    "measles",
    "tetanus",
    "hepatitis_a",
    "hepatitis_b",
    "typhoid",
    "rabies",
    "tick_borne_encephalitis",
    "japanese_encephalitis",
)

LANGUAGE_NAMES = {
    "bg": "Bulgarian",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hu": "Hungarian",
    "it": "Italian",
    "nb": "Norwegian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sv": "Swedish",
    "tr": "Turkish",
}
"""Every language that can be asked for; those without texts of their own are answered in English."""

TOUR_OPERATORS = {
    "SUNX": "Sun Example Tours",
    "NORD": "Nordlicht Beispielreisen",
    "ALPA": "Alpenpfad Sandbox Reisen",
    "MARE": "Mare Sample Cruises",
    "SAVA": "Savanna Sandbox Safaris",
}

_PLACES = """
1067 Dresden|Saxony
4109 Leipzig|Saxony
6108 Halle (Saale)|Saxony-Anhalt
7743 Jena|Thuringia
9111 Chemnitz|Saxony
10115 Berlin|Berlin
12683 Berlin|Berlin
14467 Potsdam|Brandenburg
18055 Rostock|Mecklenburg-Western Pomerania
20095 Hamburg|Hamburg
24103 Kiel|Schleswig-Holstein
28195 Bremen|Bremen
30159 Hanover|Lower Saxony
34117 Kassel|Hesse
38100 Brunswick|Lower Saxony
39104 Magdeburg|Saxony-Anhalt
40213 Düsseldorf|North Rhine-Westphalia
44135 Dortmund|North Rhine-Westphalia
45127 Essen|North Rhine-Westphalia
48143 Münster|North Rhine-Westphalia
50667 Cologne|North Rhine-Westphalia
53111 Bonn|North Rhine-Westphalia
55116 Mainz|Rhineland-Palatinate
60311 Frankfurt am Main|Hesse
65183 Wiesbaden|Hesse
66111 Saarbrücken|Saarland
68159 Mannheim|Baden-Württemberg
69117 Heidelberg|Baden-Württemberg
70173 Stuttgart|Baden-Württemberg
72070 Tübingen|Baden-Württemberg
76133 Karlsruhe|Baden-Württemberg
78267 Aach|Baden-Württemberg
79098 Freiburg|Baden-Württemberg
80331 Munich|Bavaria
86150 Augsburg|Bavaria
89073 Ulm|Baden-Württemberg
90402 Nuremberg|Bavaria
93047 Regensburg|Bavaria
97070 Würzburg|Bavaria
99084 Erfurt|Thuringia
"""


def places() -> list[dict[str, object]]:
    """German places; the postal code is a number, so that a leading zero is lost, as it is in the real service."""
    found: list[dict[str, object]] = []
    for line in _PLACES.strip().splitlines():
        code, _, rest = line.partition(" ")
        name, _, state = rest.partition("|")
        found.append({"name": name, "zip_code": int(code), "state": state})
    return found


# ruff: noqa: E501 (a sentence or a row a line is easier to compare)


LANGUAGES = ("de", "en", "fr", "es")
"""The languages that have texts of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Country:
    """One destination, as its row says."""

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
    visa: tuple[str, str, str, str]
    passport_months: int
    id_card: bool
    yellow_fever: str
    malaria: str
    insurance: bool
    registration: bool
    transit: str


@cache
def countries() -> dict[str, Country]:
    """Every destination by its code, in the order of codes."""
    rows = (_country(line) for line in _COUNTRIES.strip().splitlines())
    return {country.code: country for country in sorted(rows, key=lambda country: country.code)}


def _country(line: str) -> Country:
    cells = [cell.strip() for cell in line.split("|")]
    code, de, en, fr, es, continent, capital, people, area, coast, currency, government, dial, birth, death, life = (
        cells[:16]
    )
    visa, months, id_card, yellow, malaria, insurance, registration, transit = cells[16:]
    eu, strong, middle, other = visa.split()
    return Country(
        code,
        {"de": de, "en": en, "fr": fr, "es": es},
        continent,
        capital,
        int(people) * 1000,
        int(area),
        int(coast),
        currency,
        government,
        dial,
        float(birth),
        float(death),
        float(life),
        (eu, strong, middle, other),
        int(months),
        id_card == "id",
        yellow,
        malaria,
        insurance == "yes",
        registration == "yes",
        transit,
    )


_COUNTRIES = """
AE|Vereinigte Arabische Emirate|United Arab Emirates|Émirats arabes unis|Emiratos Árabes Unidos|AS|Abu Dhabi|9900|83600|1318|AED|federal monarchy|+971|10.8|1.6|79.6|free90 free30 evisa30 evisa30|6|-|risk|no|-|-|none
AR|Argentinien|Argentina|Argentine|Argentina|SA|Buenos Aires|46200|2780400|4989|ARS|presidential republic|+54|15.4|7.3|78.3|free90 free90 free90 embassy90|0|-|no|no|yes|-|none
AT|Österreich|Austria|Autriche|Austria|EU|Vienna|9100|83871|0|EUR|parliamentary republic|+43|9.4|9.8|82.3|move free90 free90 embassy90|3|id|no|no|-|yes|airside
AU|Australien|Australia|Australie|Australia|OC|Canberra|26000|7741220|25760|AUD|constitutional monarchy|+61|12.2|6.8|83.3|evisa90 evisa90 evisa90 embassy90|0|-|risk|no|-|-|visa
BR|Brasilien|Brazil|Brésil|Brasil|SA|Brasília|215000|8515770|7491|BRL|presidential republic|+55|13.2|6.9|76.1|free90 evisa90 free90 embassy90|6|-|risk|parts|-|-|airside
CA|Kanada|Canada|Canada|Canadá|NA|Ottawa|38900|9984670|202080|CAD|constitutional monarchy|+1|10.1|8.1|83.8|evisa180 free180 embassy180 embassy180|0|-|no|no|-|-|visa
CH|Schweiz|Switzerland|Suisse|Suiza|EU|Bern|8800|41277|0|CHF|federal republic|+41|10.3|8.4|83.2|move free90 free90 embassy90|3|id|no|no|-|-|airside
CN|China|China|Chine|China|AS|Beijing|1412000|9596960|14500|CNY|one-party republic|+86|9.7|7.9|78.5|free30 embassy30 embassy30 embassy30|6|-|risk|parts|-|yes|airside
CR|Costa Rica|Costa Rica|Costa Rica|Costa Rica|NA|San José|5200|51100|1290|CRC|presidential republic|+506|14.3|5.0|79.9|free180 free180 free90 embassy30|0|-|risk|parts|-|-|visa
CU|Kuba|Cuba|Cuba|Cuba|NA|Havana|11000|110860|3735|CUP|one-party republic|+53|10.0|9.4|79.9|evisa90 evisa90 evisa90 embassy30|6|-|risk|no|yes|yes|none
DE|Deutschland|Germany|Allemagne|Alemania|EU|Berlin|84300|357022|2389|EUR|federal parliamentary republic|+49|9.0|12.2|81.7|move free90 embassy90 embassy90|3|id|no|no|-|yes|airside
DO|Dominikanische Republik|Dominican Republic|République dominicaine|República Dominicana|NA|Santo Domingo|10700|48670|1288|DOP|presidential republic|+1809|17.9|6.3|72.8|free30 free30 free30 embassy30|6|-|risk|parts|-|yes|none
EG|Ägypten|Egypt|Égypte|Egipto|AF|Cairo|107800|1001450|2450|EGP|presidential republic|+20|20.5|4.3|74.5|arrival30 arrival30 evisa30 embassy30|6|id|risk|no|-|-|airside
ES|Spanien|Spain|Espagne|España|EU|Madrid|47200|505370|4964|EUR|parliamentary monarchy|+34|7.1|9.9|82.8|move free90 free90 embassy90|3|id|no|no|-|-|airside
FR|Frankreich|France|France|Francia|EU|Paris|68300|643801|4853|EUR|semi-presidential republic|+33|11.6|9.7|82.6|move free90 free90 embassy90|3|id|no|no|-|-|airside
GB|Vereinigtes Königreich|United Kingdom|Royaume-Uni|Reino Unido|EU|London|67800|243610|12429|GBP|constitutional monarchy|+44|10.8|9.1|82.1|evisa180 evisa180 embassy180 embassy180|0|-|no|no|-|-|visa
GR|Griechenland|Greece|Grèce|Grecia|EU|Athens|10500|131957|13676|EUR|parliamentary republic|+30|7.6|12.0|81.5|move free90 free90 embassy90|3|id|no|no|-|-|airside
HR|Kroatien|Croatia|Croatie|Croacia|EU|Zagreb|3900|56594|5835|EUR|parliamentary republic|+385|8.6|13.0|77.7|move free90 free90 embassy90|3|id|no|no|-|yes|airside
ID|Indonesien|Indonesia|Indonésie|Indonesia|AS|Jakarta|277300|1904569|54716|IDR|presidential republic|+62|15.1|6.8|73.3|arrival30 arrival30 arrival30 evisa30|6|-|risk|parts|-|-|visa
IL|Israel|Israel|Israël|Israel|AS|Jerusalem|9000|21937|273|ILS|parliamentary republic|+972|17.3|5.3|83.5|evisa90 evisa90 embassy90 embassy90|6|-|no|no|-|-|visa
IN|Indien|India|Inde|India|AS|New Delhi|1399000|3287263|7000|INR|federal parliamentary republic|+91|16.5|9.7|67.7|evisa30 evisa30 evisa30 embassy30|6|-|risk|all|-|yes|airside
IT|Italien|Italy|Italie|Italia|EU|Rome|61000|301340|7600|EUR|parliamentary republic|+39|7.0|11.2|82.8|move free90 free90 embassy90|3|id|no|no|-|yes|airside
JO|Jordanien|Jordan|Jordanie|Jordania|AS|Amman|11100|89342|26|JOD|constitutional monarchy|+962|22.6|3.5|76.3|arrival30 arrival30 arrival30 embassy30|6|-|risk|no|-|-|none
JP|Japan|Japan|Japon|Japón|AS|Tokyo|123700|377915|29751|JPY|constitutional monarchy|+81|6.9|11.6|85.0|free90 free90 embassy90 embassy15|0|-|no|no|-|yes|none
KE|Kenia|Kenya|Kenya|Kenia|AF|Nairobi|57000|580367|536|KES|presidential republic|+254|26.0|5.0|70.0|evisa90 evisa90 evisa90 evisa60|6|-|risk|all|-|-|none
KH|Kambodscha|Cambodia|Cambodge|Camboya|AS|Phnom Penh|16900|181035|443|KHR|constitutional monarchy|+855|18.9|5.7|70.9|arrival30 arrival30 evisa30 embassy30|6|-|risk|parts|-|yes|visa
KR|Südkorea|South Korea|Corée du Sud|Corea del Sur|AS|Seoul|51900|99720|2413|KRW|presidential republic|+82|7.0|7.3|83.0|free90 free90 evisa90 embassy90|0|-|no|no|-|yes|none
LK|Sri Lanka|Sri Lanka|Sri Lanka|Sri Lanka|AS|Sri Jayewardenepura Kotte|23300|65610|1340|LKR|presidential republic|+94|14.3|7.5|78.0|evisa30 evisa30 evisa30 embassy30|6|-|risk|no|-|-|none
MA|Marokko|Morocco|Maroc|Marruecos|AF|Rabat|37100|716550|2945|MAD|constitutional monarchy|+212|17.1|6.6|73.7|free90 free90 evisa30 embassy90|0|-|no|no|-|-|airside
MU|Mauritius|Mauritius|Maurice|Mauricio|AF|Port Louis|1300|2040|177|MUR|parliamentary republic|+230|9.9|8.9|74.9|free90 free90 free60 arrival30|0|-|risk|no|-|-|none
MV|Malediven|Maldives|Maldives|Maldivas|AS|Malé|390|298|644|MVR|presidential republic|+960|15.5|4.2|77.2|arrival30 arrival30 arrival30 arrival30|1|-|risk|no|-|yes|none
MX|Mexiko|Mexico|Mexique|México|NA|Mexico City|129900|1964375|9330|MXN|federal republic|+52|14.6|7.7|73.5|free180 free180 embassy180 embassy180|0|-|no|parts|-|yes|visa
MY|Malaysia|Malaysia|Malaisie|Malasia|AS|Kuala Lumpur|34200|329847|4675|MYR|constitutional monarchy|+60|14.2|5.7|76.4|free90 free90 free30 evisa30|6|-|risk|parts|-|yes|visa
NA|Namibia|Namibia|Namibie|Namibia|AF|Windhoek|2700|824292|1572|NAD|presidential republic|+264|25.0|7.2|65.8|arrival90 arrival90 arrival90 embassy90|6|-|risk|parts|-|-|none
NL|Niederlande|Netherlands|Pays-Bas|Países Bajos|EU|Amsterdam|17500|41543|451|EUR|constitutional monarchy|+31|11.0|9.6|82.0|move free90 free90 embassy90|3|id|no|no|-|-|airside
NP|Nepal|Nepal|Népal|Nepal|AS|Kathmandu|30900|147181|0|NPR|federal republic|+977|17.3|5.6|72.4|arrival90 arrival90 arrival90 embassy30|6|-|risk|parts|yes|-|none
NZ|Neuseeland|New Zealand|Nouvelle-Zélande|Nueva Zelanda|OC|Wellington|5100|268838|15134|NZD|constitutional monarchy|+64|12.6|6.9|82.7|evisa90 evisa90 evisa90 embassy90|3|-|no|no|-|yes|visa
OM|Oman|Oman|Oman|Omán|AS|Muscat|3800|309500|2092|OMR|absolute monarchy|+968|21.7|3.2|77.2|free14 free14 evisa30 embassy30|6|-|risk|no|yes|-|none
PE|Peru|Peru|Pérou|Perú|SA|Lima|32400|1285216|2414|PEN|presidential republic|+51|17.1|11.3|68.9|free90 free90 free90 embassy90|6|-|no|parts|-|-|airside
PH|Philippinen|Philippines|Philippines|Filipinas|AS|Manila|116400|300000|36289|PHP|presidential republic|+63|22.3|6.5|70.4|free30 free30 embassy59 embassy59|6|-|risk|parts|-|yes|none
PT|Portugal|Portugal|Portugal|Portugal|EU|Lisbon|10200|92090|1793|EUR|semi-presidential republic|+351|8.0|10.9|81.7|move free90 free90 embassy90|3|id|no|no|-|yes|airside
SC|Seychellen|Seychelles|Seychelles|Seychelles|AF|Victoria|97|455|491|SCR|presidential republic|+248|12.4|7.0|76.5|evisa90 evisa90 evisa90 evisa30|0|-|risk|no|-|yes|none
SG|Singapur|Singapore|Singapour|Singapur|AS|Singapore|5900|719|193|SGD|parliamentary republic|+65|8.9|4.2|86.5|free90 free90 free30 evisa30|6|-|risk|no|-|yes|airside
TH|Thailand|Thailand|Thaïlande|Tailandia|AS|Bangkok|69800|513120|3219|THB|constitutional monarchy|+66|10.0|7.8|77.9|free60 free60 free60 arrival15|6|-|risk|parts|-|yes|none
TN|Tunesien|Tunisia|Tunisie|Túnez|AF|Tunis|11900|163610|1148|TND|presidential republic|+216|14.6|6.4|76.8|free90 free90 free90 embassy30|3|id|no|no|-|yes|none
TR|Türkei|Turkey|Turquie|Turquía|AS|Ankara|85300|783562|7200|TRY|presidential republic|+90|14.4|6.1|76.5|free90 free90 evisa30 embassy30|5|id|no|no|-|-|airside
TZ|Tansania|Tanzania|Tanzanie|Tanzania|AF|Dodoma|63600|947300|1424|TZS|presidential republic|+255|33.3|5.1|70.2|evisa90 evisa90 evisa90 embassy90|6|-|risk|all|yes|-|none
US|Vereinigte Staaten|United States|États-Unis|Estados Unidos|NA|Washington, D.C.|333300|9833517|19924|USD|federal republic|+1|12.2|8.4|80.6|evisa90 evisa90 embassy180 embassy180|0|-|no|no|-|yes|visa
VN|Vietnam|Vietnam|Viêt Nam|Vietnam|AS|Hanoi|104800|331210|3444|VND|one-party republic|+84|15.5|5.8|75.5|free45 evisa90 evisa90 evisa30|6|-|risk|parts|-|yes|airside
ZA|Südafrika|South Africa|Afrique du Sud|Sudáfrica|AF|Pretoria|58000|1219090|2798|ZAR|parliamentary republic|+27|18.6|9.3|65.3|free90 free90 free30 embassy30|1|-|risk|parts|-|-|airside
"""


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
    rows = (_nationality(line) for line in _NATIONALITIES.strip().splitlines())
    return {found.code: found for found in sorted(rows, key=lambda found: found.code)}


def _nationality(line: str) -> Nationality:
    code, de, en, fr, es, tier = line.split("|")
    return Nationality(code, {"de": de, "en": en, "fr": fr, "es": es}, int(tier))


_NATIONALITIES = """
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
