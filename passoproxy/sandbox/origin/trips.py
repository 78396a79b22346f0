"""Filters of searches: `{"like": "REF-7%"}`, `{">=": "2026-05-01", "<": "2026-06-01"}`, or a bare value.

Travel details: the trips that were shared as links, kept in memory, with what a search can ask of them.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from passoproxy.sandbox.origin.changes import Changes, moment
from passoproxy.sandbox.origin.fields import Asked, Invalid, Place
from passoproxy.sandbox.origin.guard import Missing

_OPERATORS = ("like", "=", "<", "<=", ">", ">=")


def conditions(name: str, wanted: object) -> list[tuple[str, str]]:
    """A filter as operators and values; a bare value means equality. Raises Invalid for any other shape."""
    found: list[tuple[str, str]] = []
    for operator, value in (wanted if isinstance(wanted, dict) else {"=": wanted}).items():
        if operator not in _OPERATORS or not isinstance(value, str):
            raise Invalid({name: f"The {name} filter takes {', '.join(_OPERATORS)} with a text each."})
        found.append((operator, value))
    return found


def holds(found: object, wanted: list[tuple[str, str]]) -> bool:
    """Whether a value fulfils every condition; None counts as an empty text."""
    text = "" if found is None else str(found)
    return all(_compares(text, operator, value) for operator, value in wanted)


def _compares(text: str, operator: str, value: str) -> bool:
    match operator:
        case "like":
            pattern = ".*".join(re.escape(part) for part in value.split("%"))
            return re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL) is not None
        case "=":
            return text == value
        case "<":
            return text < value
        case "<=":
            return text <= value
        case ">":
            return text > value
        case _:
            return text >= value


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
        wanted = [(name, conditions(name, asked.fields[name])) for name in SEARCHABLE if name in asked.fields]
        places, passports = set(asked.words("destinations")), set(asked.words("nationalities"))
        found = [self.describe(trip) for trip in reversed(self._trips.values())]
        return [
            record
            for record in found
            if all(holds(record[name], each) for name, each in wanted)
            and (not places or places & {str(code) for code in _listed(record["destinations"])})
            and (not passports or passports & {str(code) for code in _listed(record["nationalities"])})
        ]

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
        for number, (name, place, passport) in enumerate(_SEEDS, 1):
            texts: dict[str, str | None] = {
                "trip_name": name,
                "reference_id": f"REF-{7000 + number}",
                "start_date": f"2027-{number % 12 + 1:02d}-05",
                "end_date": f"2027-{number % 12 + 1:02d}-19",
            }
            created = self._clock() - 86_400.0 * (len(_SEEDS) - number + 1)
            tid = f"SAND-BOX{number % 10}-{number:04d}"
            self._keep(Trip(tid, created, created, "en", [Place(place)], [passport], texts))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


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
        if name in _DATES and value is not None:
            _check_date(name, value)
        found[name] = value
    start, end = found.get("start_date"), found.get("end_date")
    if start is not None and end is not None and end < start:
        raise Invalid({"end_date": "The end_date field must be a date after or equal to start_date."})
    return found


def _check_date(name: str, value: str) -> None:
    try:
        right = date.fromisoformat(value).isoformat() == value
    except ValueError:
        right = False
    if not right:
        raise Invalid({name: f"The {name} field must match the format Y-m-d."})


def _new_tid() -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(3))


_SEEDS = (
    ("Autumn on the Bosporus", "TR", "DE"),
    ("Garden Route", "ZA", "DE"),
    ("City and desert", "AE", "AT"),
    ("Temples and beaches", "TH", "CH"),
    ("Great migration", "KE", "DE"),
    ("Andes", "PE", "FR"),
    ("Island time", "MV", "GB"),
    ("Cherry blossom", "JP", "DE"),
    ("West coast", "US", "DE"),
    ("Nile cruise", "EG", "AT"),
    ("Monsoon", "IN", "NL"),
    ("Souks", "MA", "ES"),
)
