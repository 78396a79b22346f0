"""The news ticker: invented messages about destinations, and product news."""

from datetime import UTC, datetime, timedelta

from passoproxy.sandbox.data.basics import LANGUAGE_NAMES
from passoproxy.sandbox.data.countries import LANGUAGES, countries
from passoproxy.sandbox.data.texts import PHRASES, written

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
