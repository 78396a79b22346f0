"""The trips that were shared as links, kept in memory, and the filters of a search: `{"like": "REF-7%"}`, `{">=": "2026-05-01"}` or a bare value."""

from __future__ import annotations

import operator
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from passoproxy.sandbox.data.catalogue import TRIPS
from passoproxy.sandbox.origin.changes import Changes, moment
from passoproxy.sandbox.origin.fields import Asked, Invalid, Missing, Place


def _like(text: str, pattern: str) -> bool:
    parts = ".*".join(re.escape(part) for part in pattern.split("%"))
    return re.fullmatch(parts, text, re.IGNORECASE | re.DOTALL) is not None


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "like": _like,
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def condition(name: str, wanted: object) -> Callable[[object], bool]:
    """A filter as a test of a value, None counting as an empty text. Raises Invalid for any other shape."""
    found: list[tuple[Callable[[str, str], bool], str]] = []
    for word, value in (wanted if isinstance(wanted, dict) else {"=": wanted}).items():
        if word not in _OPERATORS or not isinstance(value, str):
            raise Invalid({name: f"The {name} filter takes {', '.join(_OPERATORS)} with a text each."})
        found.append((_OPERATORS[word], value))
    return lambda value: all(holds("" if value is None else str(value), wanted) for holds, wanted in found)


MAX_TRIPS = 10_000
SEARCHABLE = ("tid", "reference_id", "trip_name", "start_date", "end_date", "created_at", "last_change_at", "status")
_TEXTS = ("trip_name", "reference_id", "note", "cover_media")
_DATES = ("start_date", "end_date")


@dataclass(slots=True)
class Trip:
    """One shared trip; times are epoch seconds, dates `YYYY-MM-DD`."""

    tid: str
    created_at: float
    changed_at: float
    language: str = "de"
    destinations: list[Place] = field(default_factory=list)
    nationalities: list[str] = field(default_factory=list)
    texts: dict[str, str | None] = field(default_factory=dict)
    tour_operators: list[str] = field(default_factory=list)
    individual_contents: list[str] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)
    visits: int = 0
    visited_at: float | None = None


class Trips:
    """The store; beyond `MAX_TRIPS` the oldest are forgotten. Unknown ids raise Missing."""

    def __init__(self, clock: Callable[[], float], changes: Changes) -> None:
        self._clock, self._changes = clock, changes
        self._trips: OrderedDict[str, Trip] = OrderedDict()
        self._seed()

    def create(self, asked: Asked, trip: Mapping[str, object], subscribe: Sequence[str] = ()) -> Trip:
        """A trip from a request's `trip` object and its destinations, nationalities and contents."""
        now = self._clock()
        made = Trip(
            _new_tid(),
            now,
            now,
            asked.language(),
            asked.destinations(),
            asked.nationalities(),
            _details(trip),
            asked.words("tour_operators"),
            asked.words("individual_contents"),
            list(subscribe),
        )
        self._keep(made)
        return made

    def find(self, tid: str) -> Trip:
        if tid not in self._trips:
            raise Missing
        return self._trips[tid]

    def update(self, tid: str, asked: Asked) -> Trip:
        """Changes what the request names."""
        trip = self.find(tid)
        details = _details(asked.fields)
        if "destinations" in asked.fields:
            trip.destinations = asked.destinations()
        if "nationalities" in asked.fields:
            trip.nationalities = asked.nationalities()
        for name in ("tour_operators", "individual_contents"):
            if name in asked.fields:
                setattr(trip, name, asked.words(name))
        trip.texts |= details
        trip.changed_at = self._clock()
        return trip

    def delete(self, tid: str) -> None:
        self.find(tid)
        del self._trips[tid]

    def visit(self, trip: Trip) -> None:
        """What `mark_visited` does."""
        trip.visits += 1
        trip.visited_at = self._clock()

    def search(self, asked: Asked) -> list[dict[str, object]]:
        """The trips that fulfil every filter of the request, newest first."""
        tests = [(name, condition(name, asked.fields[name])) for name in SEARCHABLE if name in asked.fields]
        places, passports = set(asked.words("destinations")), set(asked.words("nationalities"))
        found = []
        for trip in reversed(self._trips.values()):
            record = self.describe(trip)
            if (
                all(holds(record[name]) for name, holds in tests)
                and (not places or places & {place.code for place in trip.destinations})
                and (not passports or passports & set(trip.nationalities))
            ):
                found.append(record)
        return found

    def describe(self, trip: Trip) -> dict[str, object]:
        """A trip as answers show it."""
        codes = [place.code for place in trip.destinations]
        important = self._changes.important_at(codes)
        if important is not None and important < trip.created_at:
            important = None
        end = trip.texts.get("end_date")
        return {
            "tid": trip.tid,
            "status": "expired" if end is not None and end < moment(self._clock())[:10] else "active",
            "reference_id": trip.texts.get("reference_id"),
            "trip_name": trip.texts.get("trip_name"),
            "language": trip.language,
            "destinations": codes,
            "nationalities": trip.nationalities,
            "start_date": trip.texts.get("start_date"),
            "end_date": end,
            "tour_operators": trip.tour_operators,
            "individual_contents": trip.individual_contents,
            "cover_media": trip.texts.get("cover_media"),
            "note": trip.texts.get("note"),
            "visits": trip.visits,
            "last_visited_at": None if trip.visited_at is None else moment(trip.visited_at),
            "last_important_change_at": None if important is None else moment(important),
            "last_change_at": moment(max(trip.changed_at, important or 0.0)),
            "created_at": moment(trip.created_at),
        }

    def _keep(self, trip: Trip) -> None:
        if len(self._trips) >= MAX_TRIPS:
            self._trips.popitem(last=False)
        self._trips[trip.tid] = trip

    def _seed(self) -> None:
        """A few trips to look at; their ids are the same in every sandbox."""
        for number, seed in enumerate(TRIPS, 1):
            texts: dict[str, str | None] = {
                "trip_name": seed["trip_name"],
                "reference_id": f"REF-{7000 + number}",
                "start_date": f"2027-{number % 12 + 1:02d}-05",
                "end_date": f"2027-{number % 12 + 1:02d}-19",
            }
            created = self._clock() - 86_400.0 * (len(TRIPS) - number + 1)
            tid = f"SAND-BOX{number % 10}-{number:04d}"
            self._keep(Trip(tid, created, created, "en", [Place(seed["destination"])], [seed["nationality"]], texts))


def _details(fields: Mapping[str, object]) -> dict[str, str | None]:
    """The texts and dates of a trip that are named; `name` and `reference` are the words of the `trip` object."""
    renamed = {
        {"name": "trip_name", "reference": "reference_id"}.get(name, name): value for name, value in fields.items()
    }
    found: dict[str, str | None] = {}
    for name in (*_TEXTS, *_DATES):
        if name not in renamed:
            continue
        value = renamed[name]
        if value is not None and not isinstance(value, str):
            raise Invalid({name: f"The {name} field must be a string."})
        if name in _DATES and value is not None and not _is_date(value):
            raise Invalid({name: f"The {name} field must match the format Y-m-d."})
        found[name] = value
    start, end = found.get("start_date"), found.get("end_date")
    if start is not None and end is not None and end < start:
        raise Invalid({"end_date": "The end_date field must be a date after or equal to start_date."})
    return found


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _new_tid() -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(3))
