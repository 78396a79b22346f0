"""What is done in the readers' threads: finding entries, opening bodies, and the pieces of large bodies on their way in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol, TypeVar

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body
from passoproxy.stores.entries.disk.files import Incoming, open_body
from passoproxy.stores.entries.disk.index import (
    NONE,
    Damaged,
    Database,
    Row,
    Rows,
    Sifting,
    Undones,
    meant,
    not_meant,
    perhaps,
    translated,
)
from passoproxy.stores.entries.disk.threads import Lane
from passoproxy.stores.entries.disk.writer import Premises
from passoproxy.stores.entries.serialization import key_name, youngest_first

T = TypeVar("T")
_Found = tuple[Undones, list[Row]]


class OnFailure(Protocol):
    """Is told what failed; with `pause`, that nothing can be written now."""

    def __call__(self, detail: str, pause: bool) -> None: ...


class Lookup:
    """Every method blocks. Raises EntryStoreFailure while the folder cannot be used; a damaged database holds nothing."""

    def __init__(self, premises: Premises, database: Database, lane: Lane, on_failure: OnFailure) -> None:
        self._premises, self._database, self._lane, self._on_failure = premises, database, lane, on_failure
        self._folder = premises.folder
        self._none_undone_at = -1

    def _ask(self, question: Callable[[Rows], T], nothing: T) -> T:
        """What `question` finds; `nothing` where the database is damaged, which is then begun anew.

        Where another process has put a database in its place meanwhile, that one is asked.
        """
        rows = self._database.rows()
        try:
            return self._answer(question, rows)
        except Damaged as damage:
            self._on_failure(str(damage), pause=False)
            self._database.condemn(rows, damage)
            return nothing
        except EntryStoreFailure:
            if self._database.is_current(rows):
                raise
            return self._answer(question, self._database.rows())

    def _answer(self, question: Callable[[Rows], T], rows: Rows) -> T:
        with translated(self._folder):
            return question(rows)

    def select(self, key: str) -> tuple[tuple[Entry, ...], list[int]]:
        """The variants of a primary key, and where rows lie among them that are not ours."""
        nothing: _Found = NONE, []
        undone, rows = self._ask(lambda rows: (self._undone(rows), rows.of_key(key_name(key))), nothing)
        opened = [(row, self._premises.opened(row)) for row in rows]
        found = [
            entry
            for row, entry in opened
            if entry is not None and entry.key == key and not (undone and undone.means(row, entry))
        ]
        return youngest_first(found), [row.rowid for row, entry in opened if entry is None]

    def _undone(self, rows: Rows) -> Undones:
        """The purges in force and not carried out; asked for before the rows, so that none that ends meanwhile is missed.

        With the number of the last purge at which there were none, there are none: it costs nothing to know that.
        """
        purges = self._premises.page.purges
        if purges == self._none_undone_at:
            return NONE
        undone = Undones.of(rows)
        if not undone:
            self._none_undone_at = purges
        return undone

    def open_body(self, entry: Entry) -> Body | None:
        """See `disk_reading.open_body`."""
        with translated(self._folder):
            return open_body(self._premises.bodies, self._lane, entry)

    def sift(self, sifting: Sifting) -> list[int]:
        """Where the next rows lie."""
        return self._ask(sifting.rowids, [])

    def sifted(self, sifting: Sifting, selector: Selector) -> list[Entry]:
        """The entries in the next rows that `selector` really means."""
        nothing: _Found = NONE, []
        undone, rows = self._ask(lambda rows: (self._undone(rows), sifting.rows(rows)), nothing)
        opened = ((row, self._premises.opened(row)) for row in rows)
        return [
            entry
            for row, entry in opened
            if entry is not None and selector.matches(entry) and not (undone and undone.means(row, entry))
        ]

    def few(self, selector: Selector, most: int) -> list[int] | None:
        """Where all rows lie that `selector` may mean; None where those that it means for certain (of private ones: that have to be
        asked) are more than `most`.
        """
        nothing: list[int] | None = []
        return self._ask(lambda rows: self._few(rows, selector, most), nothing)

    def _few(self, rows: Rows, selector: Selector, most: int) -> list[int] | None:
        if selector.private:
            found = rows.purging.meeting(perhaps(selector), most + 1)
            return None if len(found) > most else found
        found = rows.purging.meeting(meant(selector), most + 1)
        return None if len(found) > most else [*found, *rows.purging.meeting(perhaps(selector), -1)]

    def purged_by(self, selector: Selector, number: int) -> int:
        """How many entries went with that purge, which has just begun: without those that earlier ones took, whose rows lie there still."""
        return self._ask(lambda rows: self._purged_by(rows, selector, number), 0)

    def _purged_by(self, rows: Rows, selector: Selector, number: int) -> int:
        undone = Undones.of(rows)
        earlier = [not_meant(other, before) for before, other in undone.purges if before < number]
        asked = [row for rowid in rows.purging.meeting(perhaps(selector), -1) if (row := rows.at(rowid)) is not None]
        others = Undones([(before, other) for before, other in undone.purges if before < number])
        opened = ((row, self._premises.opened(row)) for row in asked)
        vague = sum(
            entry is not None and selector.matches(entry) and not others.means(row, entry) for row, entry in opened
        )
        return rows.purging.count(meant(selector), *earlier) + vague

    def counted(self) -> tuple[int, int]:
        """How many entries there are, and the bytes of all files."""
        return self._ask(lambda rows: (rows.entry_count(), rows.volume()), (0, 0))

    def has_room(self, need: int) -> bool:
        """Whether `need` bytes more fit without evicting."""
        return self._ask(lambda rows: rows.has_room(need), True)

    def append(self, body: Incoming | None, piece: bytes) -> Incoming:
        """Writes a piece of a large body, which it begins where there is none."""
        began = None
        try:
            with translated(self._folder):
                if body is None:
                    body = began = self._premises.bodies.begin()
                body.append(piece)
                self._premises.page.add_pending(len(piece))
        except EntryStoreFailure as failure:
            if began is not None:
                began.drop()
            self._on_failure(str(failure), pause=True)
            raise
        return body

    def drop(self, body: Incoming) -> None:
        """Gives a large body up."""
        with contextlib.suppress(OSError):
            self._premises.page.add_pending(-body.size)
        body.drop()
