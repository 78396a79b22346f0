"""The older endpoints: search, share, and the question whether earlier answers still hold."""

from __future__ import annotations

import zlib

from passoproxy.sandbox.data.catalogue import countries, nationalities
from passoproxy.sandbox.data.texts import Members, Requirements, heading, section, written
from passoproxy.sandbox.origin.call import Call, Reply
from passoproxy.sandbox.origin.changes import Changes, moment
from passoproxy.sandbox.origin.fields import Invalid
from passoproxy.sandbox.origin.requirements import given, pairs

MAX_IDS = 1000
_SECTIONS = {"entry": "entry", "visa": "visa", "transitvisa": "transit_visa", "inoculation": "health"}


def search(call: Call) -> Reply:
    """One object for one pair, a list for several."""
    asked, known = call.asked, written(call.asked.language())
    found = [rules for _, rules in pairs(call.origin, *asked.pairs())]
    shared = call.share()
    if not found:
        return None
    places = list(dict.fromkeys(rules.destination.code for rules in found))
    passports = list(dict.fromkeys(rules.nationality.code for rules in found))
    results = [_result(rules, known) for rules in found]
    if asked.flag("return_regions"):
        results = [result | {"regions": []} for result in results]
    members: Members = {
        "request": {
            "destco": [_named(code, countries()[code].names, known) for code in places],
            "nat": [_named(code, nationalities()[code].names, known) for code in passports],
        },
        "response": results[0] if len(results) == 1 else results,
    }
    return given(call, places, passports, members if shared is None else members | {"trip_url": shared})


def share(call: Call) -> Reply:
    return {"url": call.share(always=True)}


def updates(call: Call) -> Reply:
    """What has changed since earlier answers were given, by their ids."""
    ids = call.asked.words("request_ids")
    if not ids:
        raise Invalid({"request_ids": "The request_ids field is required."})
    if len(ids) > MAX_IDS:
        raise Invalid({"request_ids": f"The request_ids field must not have more than {MAX_IDS} items."})
    return {"requests": [_update(call.origin.changes, requestid) for requestid in ids]}


def _update(changes: Changes, requestid: str) -> Members:
    answer = changes.given(requestid)
    changed = None if answer is None else changes.important_at(answer.destinations, answer.sequence)
    return {
        "request_id": requestid,
        "is_valid": answer is not None,
        "endpoint": answer and answer.endpoint,
        "params": answer
        and {
            "destinations": list(answer.destinations),
            "nationalities": list(answer.nationalities),
            "states": list(answer.states),
        },
        "created_at": answer and moment(answer.created_at),
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
            **({"visa_required": int(rules.visa_required)} if name == "visa" else {}),
        }
    return result


def _named(code: str, names: dict[str, str], known: str) -> Members:
    return {
        "code": code,
        "countryname": names["de"],
        "countryname_en": names["en"],
        "countryname_translated": names[known],
    }
