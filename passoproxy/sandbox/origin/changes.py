"""What changed since the sandbox began, and which answers were given before: the memory of `/information/updates`."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from passoproxy.sandbox.data.texts import Requirements, requirements, stamp

_REMEMBERED = 50_000


def moment(epoch: float) -> str:
    """A time as the service writes it, in UTC."""
    return stamp(datetime.fromtimestamp(epoch, UTC))


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given: what it was about, and after which change."""

    endpoint: str
    destinations: tuple[str, ...]
    nationalities: tuple[str, ...]
    states: tuple[str, ...]
    created_at: float
    sequence: int


@dataclass(slots=True)
class Changes:
    """Revisions of destinations, counted in one sequence."""

    clock: Callable[[], float]
    sequence: int = 0
    log: list[tuple[int, float, str]] = field(default_factory=list)
    """The important changes, newest last, as number, time and destination; the ticker shows them."""
    _revisions: dict[str, int] = field(default_factory=dict)
    _changed_at: dict[str, float] = field(default_factory=dict)
    _important: dict[str, tuple[int, float]] = field(default_factory=dict)
    _given: OrderedDict[str, Given] = field(default_factory=OrderedDict)

    def mark(self, codes: Iterable[str], *, important: bool) -> None:
        """Changes what is said about destinations; `important` decides whether earlier answers are flagged."""
        now = self.clock()
        for code in codes:
            self.sequence += 1
            self._revisions[code] = self._revisions.get(code, 0) + 1
            self._changed_at[code] = now
            if important:
                self._important[code] = self.sequence, now
                self.log = [*self.log[-99:], (self.sequence, now, code)]

    def rules(self, destination: str, nationality: str) -> Requirements | None:
        """The rules as they are now; None where a code is unknown."""
        changed = self._changed_at.get(destination)
        when = "" if changed is None else moment(changed)
        return requirements(destination, nationality, self._revisions.get(destination, 0), when)

    def important_at(self, destinations: Iterable[str], after: int = 0) -> float | None:
        """When the last important change of any of the destinations was; None without one after that sequence number."""
        found = (self._important[code] for code in destinations if code in self._important)
        return max((when for sequence, when in found if sequence > after), default=None)

    def give(
        self,
        requestid: str,
        endpoint: str,
        destinations: Sequence[str],
        nationalities: Sequence[str],
        states: Sequence[str] = (),
    ) -> None:
        """Remembers an answer by its id; beyond a bound the oldest are forgotten and become invalid."""
        if len(self._given) >= _REMEMBERED:
            self._given.popitem(last=False)
        about = tuple(destinations), tuple(nationalities), tuple(states)
        self._given[requestid] = Given(endpoint, *about, self.clock(), self.sequence)

    def given(self, requestid: str) -> Given | None:
        return self._given.get(requestid)
