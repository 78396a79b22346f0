"""Lists that hardly change: languages, German places, operators, and the keys that other answers use."""

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
