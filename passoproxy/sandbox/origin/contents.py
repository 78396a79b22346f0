"""Texts that an account or a tour operator adds to requirements: kept in order, chosen by destination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from passoproxy.sandbox.data.catalogue import LANGUAGE_NAMES, TOUR_OPERATORS
from passoproxy.sandbox.origin.changes import moment
from passoproxy.sandbox.origin.fields import Invalid

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
        if not (
            isinstance(translations, dict)
            and translations
            and all(_is_translation(*pair) for pair in translations.items())
        ):
            raise Invalid(
                {f"{where}.translations": "Each of the translations must have a name and a content by language."}
            )
        return {
            "code": code,
            "main_language": item.get("main_language", next(iter(translations))),
            "filters": item.get("filters"),
            "translations": translations,
            "active": item.get("active", True) is not False,
            "use_by_default": item.get("use_by_default", True) is not False,
            "applies_retrospectively": item.get("applies_retrospectively", False) is True,
            "created_at": self._by_code.get(code, {}).get("created_at", moment(self.clock())[:10]),
        }


def _listed(items: object) -> list[object]:
    if not isinstance(items, list):
        raise Invalid({"content": "The content field must be an array."})
    return items


def _codes(items: object) -> list[str]:
    return [str(item.get("code")) if isinstance(item, dict) else str(item) for item in _listed(items)]


def _is_translation(language: object, text: object) -> bool:
    return (
        language in LANGUAGE_NAMES
        and isinstance(text, dict)
        and isinstance(text.get("name"), str)
        and isinstance(text.get("content"), str)
    )


def _section(item: dict[str, object], language: str, form: str) -> dict[str, object]:
    translations = item["translations"]
    assert isinstance(translations, dict)
    said = translations.get(language) or translations.get(item["main_language"]) or next(iter(translations.values()))
    content = f"<p>{escape(said['content'], quote=False)}</p>" if form == "html" else said["content"]
    return {"code": item["code"], "success": True, "error": None, "name": said["name"], "content": content}


def _fits(item: dict[str, object], destinations: Sequence[str]) -> bool:
    """Whether the rules about destinations hold; rules about anything else are not looked at."""
    filters = item.get("filters")
    group = filters.get("group") if isinstance(filters, dict) else None
    items = group.get("items") if isinstance(group, dict) else None
    for each in items if isinstance(items, list) else []:
        rule = each.get("rule") if isinstance(each, dict) else None
        if not isinstance(rule, dict) or rule.get("subject") != "destination":
            continue
        values = rule.get("values")
        if isinstance(values, list) and not {str(value) for value in values} & set(destinations):
            return False
    return True


def own(clock: Callable[[], float]) -> Contents:
    """What the account has at start."""
    made = Contents(clock)
    rule = {"subject": "destination", "type": "contains_any", "values": ["TR"]}
    german, english = "Unser Büro in Izmir hilft Ihnen gern.", "Our office in Izmir is glad to help."
    filters = {"group": {"items": [{"type": "rule", "rule": rule}]}}
    made.put([{"code": "ic-1", "filters": filters, "translations": _translations("Hint", german, english)}])
    return made


def operators(clock: Callable[[], float]) -> dict[str, Contents]:
    """What every tour operator has at start."""
    found = {}
    for code, name in TOUR_OPERATORS.items():
        german, english = f"{name}: Treffpunkt ist der Schalter am Flughafen.", f"{name}: meet us at the airport desk."
        found[code] = Contents(clock)
        found[code].put([{"code": "c1", "translations": _translations("Note", german, english)}])
    return found


def _translations(name: str, german: str, english: str) -> dict[str, dict[str, str]]:
    return {"de": {"name": "Hinweis", "content": german}, "en": {"name": name, "content": english}}
