"""What the data service's answers mean for stored entries: the id of an answer, and what `/information/updates` says of earlier ones.

How often it is asked, and what becomes of an entry, is the business of `upkeep.probing`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from passoproxy.values import dataclass

UPDATES = "/api/v2/information/updates"
"""Where the service says which of its earlier answers have changed."""

ROUTE = "information-updates"
"""The preset's route of that path. While another one matches it first, the change probe is switched off."""

TAG = "requirements"
"""The tag of the preset's routes whose answers have ids that the service can be asked about."""

MOST_IDS = 100
"""Ids in one question. The service's own bound is not published."""

# In JSON a quotation mark within a text stands behind a backslash, so this is a member's name wherever it is found.
_REQUEST_ID = re.compile(rb'"requestid"(?<!\\"requestid")\s*:\s*"([0-9A-Za-z-]{8,64})"')


@dataclass(frozen=True, slots=True)
class News:
    """What is said of earlier answers, by their ids: `valid` hold on, `changed` do not, `unknown` are not known to the service (any more)."""

    valid: frozenset[str]
    changed: frozenset[str]
    unknown: frozenset[str]


def request_id(body: bytes) -> str:
    """The id that an answer carries; '' where it has none."""
    found = _REQUEST_ID.search(body)
    return found[1].decode("ascii") if found else ""


def question(ids: Sequence[str]) -> bytes:
    """The body that asks about `ids`."""
    return json.dumps({"request_ids": list(ids)}).encode("ascii")


def news(body: bytes, asked: Iterable[str]) -> News | None:
    """What an answer says about the ids that were `asked`; None where it is not such an answer. What it leaves out is not known."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    told = document.get("requests") if isinstance(document, dict) else None
    if not isinstance(told, list):
        return None
    said = {str(each.get("request_id")): each for each in told if isinstance(each, dict)}
    changed, unknown, valid = set(), set(), set()
    for each in set(asked) & said.keys():
        if said[each].get("is_valid") is False:
            unknown.add(each)
        elif said[each].get("has_important_changes") is True:
            changed.add(each)
        else:
            valid.add(each)
    return News(frozenset(valid), frozenset(changed), frozenset(unknown))
