"""Requirements as records of an answer: one for each destination and nationality, with what the account adds."""

from collections.abc import Iterator, Sequence

from passoproxy.sandbox.data.catalogue import TOUR_OPERATORS
from passoproxy.sandbox.data.texts import SECTIONS, Requirements, heading, section, written
from passoproxy.sandbox.origin.changes import Changes
from passoproxy.sandbox.origin.contents import Contents
from passoproxy.sandbox.origin.fields import Place
from passoproxy.sandbox.origin.responses import Members


class Records:
    """Makes records from the rules as they are now."""

    def __init__(self, changes: Changes, own: Contents, operators: dict[str, Contents]) -> None:
        self._changes, self._own, self._operators = changes, own, operators

    def pairs(self, places: Sequence[Place], nationalities: Sequence[str]) -> Iterator[tuple[Place, Requirements]]:
        """The rules of every pair that is known, in the order asked for."""
        for place in places:
            for nationality in nationalities:
                rules = self._changes.rules(place.code, nationality)
                if rules is not None:
                    yield place, rules

    def whole(self, place: Place, rules: Requirements, language: str, form: str) -> Members:
        """The record of `/content/all/*`: every section."""
        known = written(language)
        record: Members = {
            "destination": place.code,
            "destination_type": place.type,
            "nationality": rules.nationality.code,
            "title": self.title(rules, known),
        }
        for name in SECTIONS:
            text = section(rules, name, known, form)
            part = {"language": known.upper(), "title": heading(name, known), "content": text}
            if name not in ("overview", "final_provisions"):
                part["updated_at"] = rules.changed
            record[name] = part
        return record

    def one(self, rules: Requirements, name: str, language: str, form: str) -> Members:
        """The record of `/content/{name}/html` and `/text`: one section."""
        known = written(language)
        return {
            "destination": rules.destination.code,
            "nationality": rules.nationality.code,
            "language": known.upper(),
            "title": heading(name, known),
            "content": section(rules, name, known, form),
        }

    def parts(self, rules: Requirements, language: str, form: str) -> list[tuple[str, str]]:
        """Headings and texts of every section."""
        known = written(language)
        return [(heading(name, known), section(rules, name, known, form)) for name in SECTIONS]

    def title(self, rules: Requirements, language: str) -> str:
        """What a record is about, for people."""
        known = written(language)
        return f"{rules.destination.names[known]} / {rules.nationality.names[known]}"

    def additions(
        self, language: str, form: str, places: Sequence[Place], contents: Sequence[str], operators: Sequence[str]
    ) -> Members:
        """What the account and tour operators add to an answer; nothing where they have nothing to say."""
        codes = [place.code for place in places]
        found: Members = {}
        sections = self._own.chosen(codes, contents, language, form)
        if sections:
            found["individual_content"] = {
                "name": "Sandbox Travel",
                "success": True,
                "error": None,
                "sections": sections,
            }
        if operators:
            found["tour_operators"] = [self._operator(code.upper(), codes, language, form) for code in operators]
        return found

    def _operator(self, code: str, codes: list[str], language: str, form: str) -> Members:
        if code not in TOUR_OPERATORS:
            return {"code": code, "name": None, "success": False, "error": "not_found", "contents": []}
        contents = self._operators[code].chosen(codes, (), language, form)
        return {"code": code, "name": TOUR_OPERATORS[code], "success": True, "error": None, "contents": contents}
