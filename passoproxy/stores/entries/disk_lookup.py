"""What is done in the readers' threads: finding entries, opening bodies, and the pieces of large bodies on their way in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol, TypeVar

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body
from passoproxy.stores.entries.disk_bodies import Incoming
from passoproxy.stores.entries.disk_database import Database
from passoproxy.stores.entries.disk_jobs import Premises
from passoproxy.stores.entries.disk_reading import open_body
from passoproxy.stores.entries.disk_rows import Row, Rows
from passoproxy.stores.entries.disk_sifting import Sifting
from passoproxy.stores.entries.faults import Damaged, translated
from passoproxy.stores.entries.lanes import Lane
from passoproxy.stores.entries.names import key_name
from passoproxy.stores.entries.variants import youngest_first

T = TypeVar("T")


class OnFailure(Protocol):
    """Is told what failed; with `pause`, that nothing can be written now."""

    def __call__(self, detail: str, pause: bool) -> None: ...


class Lookup:
    """Every method blocks. Raises EntryStoreFailure while the folder cannot be used; a damaged database holds nothing."""

    def __init__(self, premises: Premises, database: Database, lane: Lane, on_failure: OnFailure) -> None:
        self._premises, self._database, self._lane, self._on_failure = premises, database, lane, on_failure
        self._folder = premises.folder

    def _ask(self, question: Callable[[Rows], T], nothing: T) -> T:
        """What `question` finds; `nothing` where the database is damaged, which is then begun anew."""
        rows = self._database.rows()
        try:
            with translated(self._folder):
                return question(rows)
        except Damaged as damage:
            self._on_failure(str(damage), pause=False)
            self._database.condemn(rows)
            return nothing

    def select(self, key: str) -> tuple[tuple[Entry, ...], list[int]]:
        """The variants of a primary key, and where rows lie among them that are not ours."""
        rows: list[Row] = self._ask(lambda rows: rows.of_key(key_name(key)), [])
        opened = [(row, self._premises.opened(row)) for row in rows]
        found = [entry for _, entry in opened if entry is not None and entry.key == key]
        return youngest_first(found), [row.rowid for row, entry in opened if entry is None]

    def open_body(self, entry: Entry) -> Body | None:
        """See `disk_reading.open_body`."""
        with translated(self._folder):
            return open_body(self._premises.bodies, self._lane, entry)

    def sift(self, sifting: Sifting) -> list[int]:
        """Where the next rows lie."""
        return self._ask(sifting.rowids, [])

    def sifted(self, sifting: Sifting, selector: Selector) -> list[Entry]:
        """The entries in the next rows that `selector` really means."""
        rows: list[Row] = self._ask(sifting.rows, [])
        opened = (self._premises.opened(row) for row in rows)
        return [entry for entry in opened if entry is not None and selector.matches(entry)]

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
