"""The older endpoints: search, share, and the question whether earlier answers still hold."""

import zlib

from aiohttp import web

from passoproxy.sandbox.data.catalogue import countries, nationalities
from passoproxy.sandbox.data.texts import Requirements, heading, section, written
from passoproxy.sandbox.origin.changes import Changes, moment
from passoproxy.sandbox.origin.fields import MAX_PAIRS, Invalid, read
from passoproxy.sandbox.origin.guard import Guard
from passoproxy.sandbox.origin.records import Records
from passoproxy.sandbox.origin.responses import Answers, Members, fresh_id
from passoproxy.sandbox.origin.sharing import Sharing

MAX_IDS = 1000
_SECTIONS = {"entry": "entry", "visa": "visa", "transitvisa": "transit_visa", "inoculation": "health"}


class Information:
    """Everything under `/information`."""

    def __init__(self, answers: Answers, changes: Changes, records: Records, sharing: Sharing) -> None:
        self._answers, self._changes, self._records, self._sharing = answers, changes, records, sharing

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        search, updates = guard(self.search), guard(self.updates)
        return [
            web.get("/api/v2/information/search", search),
            web.post("/api/v2/information/search", search),
            web.post("/api/v2/information/share", guard(self.share)),
            web.get("/api/v2/information/updates", updates),
            web.post("/api/v2/information/updates", updates),
        ]

    async def search(self, request: web.Request) -> web.Response:
        """One object for one pair, a list for several."""
        asked = await read(request)
        known = written(asked.language())
        places, passports = asked.destinations(), asked.nationalities()
        if len(places) * len(passports) > MAX_PAIRS:
            raise Invalid({"destinations": f"Destinations and nationalities may not make more than {MAX_PAIRS} pairs."})
        found = list(self._records.pairs(places, passports))
        shared = self._sharing.share(request, asked)
        if not found:
            return self._answers.nothing()
        asked_for = list(dict.fromkeys(rules.destination.code for _, rules in found))
        asked_as = list(dict.fromkeys(rules.nationality.code for _, rules in found))
        results = [_result(rules, known) for _, rules in found]
        if asked.flag("return_regions"):
            results = [result | {"regions": []} for result in results]
        members: Members = {
            "request": {
                "destco": [_named(code, countries()[code].names, known) for code in asked_for],
                "nat": [_named(code, nationalities()[code].names, known) for code in asked_as],
            },
            "response": results[0] if len(results) == 1 else results,
        }
        if shared is not None:
            members["trip_url"] = shared
        requestid = fresh_id()
        self._changes.give(requestid, request.path, asked_for, asked_as, asked.words("states"))
        return self._answers.json(request, members, requestid=requestid)

    async def share(self, request: web.Request) -> web.Response:
        asked = await read(request)
        return self._answers.json(request, {"url": self._sharing.share(request, asked, always=True)})

    async def updates(self, request: web.Request) -> web.Response:
        """What has changed since earlier answers were given, by their ids."""
        ids = (await read(request)).words("request_ids")
        if not ids:
            raise Invalid({"request_ids": "The request_ids field is required."})
        if len(ids) > MAX_IDS:
            raise Invalid({"request_ids": f"The request_ids field must not have more than {MAX_IDS} items."})
        return self._answers.json(request, {"requests": [self._update(requestid) for requestid in ids]})

    def _update(self, requestid: str) -> Members:
        given = self._changes.given(requestid)
        if given is None:
            return {
                "request_id": requestid,
                "is_valid": False,
                "endpoint": None,
                "params": None,
                "created_at": None,
                "has_important_changes": False,
                "last_important_change_at": None,
            }
        changed = self._changes.important_at(given.destinations, given.sequence)
        return {
            "request_id": requestid,
            "is_valid": True,
            "endpoint": given.endpoint,
            "params": {
                "destinations": list(given.destinations),
                "nationalities": list(given.nationalities),
                "states": list(given.states),
            },
            "created_at": moment(given.created_at),
            "has_important_changes": changed is not None,
            "last_important_change_at": None if changed is None else moment(changed),
        }


def _result(rules: Requirements, known: str) -> Members:
    result: Members = {"additionalContent": "", "destco": rules.destination.code, "nat": rules.nationality.code}
    for member, name in _SECTIONS.items():
        number = zlib.crc32(f"{rules.destination.code}{rules.nationality.code}{name}".encode())
        result[member] = {
            "id": str(number % 90_000 + 10_000),
            "version": 1 + number % 20 + rules.revision,
            "status": "active",
            "language": known,
            "headline": heading(name, known),
            "content": section(rules, name, known, "html"),
            "source": "sandbox",
        }
    visa = result["visa"]
    assert isinstance(visa, dict)
    visa["visa_required"] = int(rules.visa_required)
    return result


def _named(code: str, names: dict[str, str], known: str) -> Members:
    return {
        "code": code,
        "countryname": names["de"],
        "countryname_en": names["en"],
        "countryname_translated": names[known],
    }
