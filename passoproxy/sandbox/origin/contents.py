"""Texts that an account or a tour operator adds to requirements: kept in order, chosen by destination.

Pages of a list, with the absolute links that the real framework writes into them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from urllib.parse import urlencode

from aiohttp import web

from passoproxy.sandbox.data.catalogue import LANGUAGE_NAMES, TOUR_OPERATORS
from passoproxy.sandbox.origin.changes import moment
from passoproxy.sandbox.origin.fields import Asked, Invalid

MAX_CONTENTS = 500


@dataclass(slots=True)
class Contents:
    """An ordered set of texts by their code."""

    clock: Callable[[], float]
    _by_code: dict[str, dict[str, object]] = field(default_factory=dict)

    def all(self) -> list[dict[str, object]]:
        return list(self._by_code.values())

    def put(self, items: object) -> list[dict[str, object]]:
        """Adds or replaces texts and gives them back; raises Invalid where one of them cannot be used."""
        made = [self._made(number, item) for number, item in enumerate(_listed(items))]
        if len(self._by_code.keys() | {str(item["code"]) for item in made}) > MAX_CONTENTS:
            raise Invalid({"content": f"The content field may not hold more than {MAX_CONTENTS} items."})
        self._by_code |= {str(item["code"]): item for item in made}
        return made

    def delete(self, items: object) -> None:
        """Removes texts by their codes; unknown ones are ignored."""
        for code in _codes(items):
            self._by_code.pop(code, None)

    def order(self, items: object) -> None:
        """Puts the named texts first, in this order."""
        named = [code for code in dict.fromkeys(_codes(items)) if code in self._by_code]
        rest = [code for code in self._by_code if code not in named]
        self._by_code = {code: self._by_code[code] for code in [*named, *rest]}

    def chosen(
        self, destinations: Sequence[str], codes: Sequence[str], language: str, form: str
    ) -> list[dict[str, object]]:
        """The active texts that are named, or used by default, and fit one of the destinations, as sections."""
        return [
            _section(item, language, form)
            for code, item in self._by_code.items()
            if item["active"]
            and (code in codes or (not codes and item["use_by_default"]))
            and _fits(item, destinations)
        ]

    def _made(self, number: int, item: object) -> dict[str, object]:
        where = f"content.{number}"
        if not isinstance(item, dict):
            raise Invalid({where: f"The {where} field must be an object."})
        code, translations = item.get("code", f"ic-{len(self._by_code) + number + 1}"), item.get("translations")
        if not isinstance(code, str) or not code:
            raise Invalid({f"{where}.code": f"The {where}.code field must be a string."})
        if (
            not isinstance(translations, dict)
            or not translations
            or not all(map(_is_translation, translations.items()))
        ):
            raise Invalid(
                {f"{where}.translations": "Each of the translations must have a name and a content by language."}
            )
        before = self._by_code.get(code, {})
        return {
            "code": code,
            "main_language": item.get("main_language", next(iter(translations))),
            "filters": item.get("filters"),
            "translations": translations,
            "active": item.get("active", True) is not False,
            "use_by_default": item.get("use_by_default", True) is not False,
            "applies_retrospectively": item.get("applies_retrospectively", False) is True,
            "created_at": before.get("created_at", moment(self.clock())[:10]),
        }


def _listed(items: object) -> list[object]:
    if not isinstance(items, list):
        raise Invalid({"content": "The content field must be an array."})
    return items


def _codes(items: object) -> list[str]:
    return [str(item.get("code")) if isinstance(item, dict) else str(item) for item in _listed(items)]


def _is_translation(pair: tuple[object, object]) -> bool:
    language, text = pair
    if language not in LANGUAGE_NAMES or not isinstance(text, dict):
        return False
    return isinstance(text.get("name"), str) and isinstance(text.get("content"), str)


def _section(item: dict[str, object], language: str, form: str) -> dict[str, object]:
    translations = item["translations"]
    assert isinstance(translations, dict)
    said = translations.get(language) or translations.get(item["main_language"]) or next(iter(translations.values()))
    content = f"<p>{escape(said['content'], quote=False)}</p>" if form == "html" else said["content"]
    return {"code": item["code"], "success": True, "error": None, "name": said["name"], "content": content}


def _fits(item: dict[str, object], destinations: Sequence[str]) -> bool:
    """Whether the rules about destinations hold; rules about anything else are not looked at."""
    return all(bool(set(values) & set(destinations)) for values in _wanted(item.get("filters")))


def _wanted(filters: object) -> list[list[str]]:
    group = filters.get("group") if isinstance(filters, dict) else None
    items = group.get("items") if isinstance(group, dict) else None
    rules = [item.get("rule") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [
        [str(value) for value in rule["values"]]
        for rule in rules
        if isinstance(rule, dict) and rule.get("subject") == "destination" and isinstance(rule.get("values"), list)
    ]


def own(clock: Callable[[], float]) -> Contents:
    """What the account has at start."""
    made = Contents(clock)
    made.put(
        [
            _seed(
                "ic-1",
                "TR",
                "Hinweis",
                "Unser Büro in Izmir hilft Ihnen gern.",
                "Hint",
                "Our office in Izmir is glad to help.",
            )
        ]
    )
    return made


def operators(clock: Callable[[], float]) -> dict[str, Contents]:
    """What every tour operator has at start."""
    found = {code: Contents(clock) for code in TOUR_OPERATORS}
    for code, name in TOUR_OPERATORS.items():
        text_de, text_en = f"{name}: Treffpunkt ist der Schalter am Flughafen.", f"{name}: meet us at the airport desk."
        found[code].put([_seed("c1", None, "Hinweis", text_de, "Note", text_en)])
    return found


def _seed(
    code: str, destination: str | None, name_de: str, text_de: str, name_en: str, text_en: str
) -> dict[str, object]:
    rule = {"subject": "destination", "type": "contains_any", "values": [destination]}
    return {
        "code": code,
        "main_language": "de",
        "filters": None if destination is None else {"group": {"items": [{"type": "rule", "rule": rule}]}},
        "translations": {"de": {"name": name_de, "content": text_de}, "en": {"name": name_en, "content": text_en}},
    }


def page_of(
    request: web.Request,
    asked: Asked,
    records: Sequence[object],
    *,
    member: str = "data",
    size_field: str = "limit",
    default_size: int = 10,
) -> dict[str, object]:
    """One page as `{member, links, meta}`; the links keep the query, and name the host that the client named."""
    size = asked.number(size_field, default_size, most=1000)
    number = asked.number("page", 1)
    last = max(1, -(-len(records) // size))
    start = (number - 1) * size
    shown = records[start : start + size]
    path = f"{request.scheme}://{request.host}{request.path}"
    kept = [(name, value) for name, value in request.query.items() if name != "page"]

    def link(wanted: int) -> str | None:
        return f"{path}?{urlencode([*kept, ('page', str(wanted))])}" if 1 <= wanted <= last else None

    return {
        member: list(shown),
        "links": {"first": link(1), "prev": link(number - 1), "next": link(number + 1), "last": link(last)},
        "meta": {
            "current_page": number,
            "from": start + 1 if shown else None,
            "last_page": last,
            "path": path,
            "per_page": size,
            "to": start + len(shown) if shown else None,
            "total": len(records),
        },
    }


def ordered(asked: Asked, records: Sequence[dict[str, object]], fields: Sequence[str]) -> list[dict[str, object]]:
    """The records by `sort_by` and `sort_order`; without `sort_by` as they are."""
    order = asked.choice("sort_order", ("asc", "desc"), "asc")
    if asked.text("sort_by") is None:
        return list(records)
    field = asked.choice("sort_by", fields, "")
    return sorted(records, key=lambda record: _comparable(record.get(field)), reverse=order == "desc")


def _comparable(value: object) -> tuple[int, float, str]:
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, str(value))
