"""What the scribe is asked to write: one small class for each kind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.disk_bodies import Bodies, Incoming
from passoproxy.stores.entries.disk_rows import Row, Rows
from passoproxy.stores.entries.hints import hints_of, judged
from passoproxy.stores.entries.names import body_name, key_name, mark_of, row_name
from passoproxy.stores.entries.scribe import Changes, Job
from passoproxy.stores.entries.sealing import Seal
from passoproxy.stores.entries.shared_page import ANYTHING, PURGED, SharedPage
from passoproxy.stores.entries.variants import with_variant


@dataclass(frozen=True, slots=True)
class Premises:
    """What jobs work with: a cache folder's parts beside its database."""

    folder: Path
    bodies: Bodies
    page: SharedPage
    seal: Seal

    def opened(self, row: Row) -> Entry | None:
        """The entry in `row`, None if we did not write it."""
        return self.seal.open(row.name, row.hints, row.value)


class Storing(Job):
    """Stores a complete body with its head. The result is the entry as stored, or None where a purge counts against it."""

    def __init__(
        self, premises: Premises, began: Entry, entry: Entry, purges: int, body: Incoming | None, rest: bytes
    ) -> None:
        """`body` is what was written already, `rest` what was not; `purges` the number of the last purge when it began."""
        self._premises, self._began, self._entry, self._purges = premises, began, entry, purges
        self._body, self._rest = body, rest
        self._counted = body.size if body is not None else 0
        self.need, self.rows = len(rest), 1
        self._row = row_name(entry)
        self._file = ""
        self._stored = False

    def prepare(self) -> None:
        bodies = self._premises.bodies
        if self._body is None:
            self._body = bodies.begin()
        self._body.append(self._rest)
        self._entry = replace(self._entry, digest=self._body.digest, size=self._body.size)
        self._file = body_name(self._row, self._entry.digest)
        bodies.settle(self._body, self._file)

    def apply(self, rows: Rows, changes: Changes) -> Entry | None:
        self._stored = False
        if self._is_purged(rows):
            return None
        there = [(row, self._premises.opened(row)) for row in rows.of_key(key_name(self._entry.key))]
        kept = {entry.identifier for entry in with_variant([entry for _, entry in there if entry], self._entry)[1:]}
        mark = mark_of(self._row)
        for row, entry in there:
            if entry is None or entry.identifier not in kept:
                rows.take_out(row, but_not=self._file)
                if mark not in changes.changed:
                    changes.changed.append(mark)
        rows.insert(self._row, self._premises.seal.close(self._entry), hints_of(self._entry))
        changes.added.append(mark)
        changes.stored.append(self._file)
        self._stored = True
        return self._entry

    def _is_purged(self, rows: Rows) -> bool:
        missed = self._premises.page.purges - self._purges
        if missed == 0:
            return False
        purges = rows.purges_after(self._purges)
        return len(purges) < missed or purge_log.counts_against(purges, self._began, self._entry)

    def finish(self, held: bool) -> None:
        if self._body is not None:
            if held and self._stored:
                self._body.release()
            else:
                self._body.drop()
        if self._counted:
            self._premises.page.add_pending(-self._counted)
            self._counted = 0


class Updating(Job):
    """Gives a stored entry another head."""

    rows = 1

    def __init__(self, premises: Premises, entry: Entry) -> None:
        self._premises, self._entry = premises, entry

    def apply(self, rows: Rows, changes: Changes) -> None:
        row = rows.named(row_name(self._entry))
        stored = self._premises.opened(row) if row else None
        if row is None or stored is None:
            return
        entry = replace(self._entry, digest=stored.digest, size=stored.size)
        rows.rewrite(row.rowid, self._premises.seal.close(entry), hints_of(entry))
        changes.changed.append(mark_of(row.name))


class Discarding(Job):
    """Removes one entry; with `if_digest`, only while that is its body's."""

    def __init__(self, premises: Premises, entry: Entry, if_digest: str | None = None) -> None:
        self._premises, self._entry, self._if_digest = premises, entry, if_digest

    def apply(self, rows: Rows, changes: Changes) -> None:
        row = rows.named(row_name(self._entry))
        if row is None:
            return
        stored = self._premises.opened(row)
        if stored is None or self._if_digest is None or stored.digest == self._if_digest:
            rows.take_out(row)
            changes.changed.append(mark_of(row.name))

    def in_need(self, rows: Rows) -> None:
        """An entry without its body is a miss, and a full disk lets files go."""
        name = row_name(self._entry)
        row = rows.named(name)
        if row is not None:
            rows.disk.remove(row.filename)
        self._premises.page.tell([mark_of(name)], changed=True)


class LoggingPurge(Job):
    """Writes a purge down, so that it counts for answers that any process asked for before it."""

    def __init__(self, premises: Premises, selector: Selector) -> None:
        self._premises, self._selector = premises, selector

    def apply(self, rows: Rows, changes: Changes) -> None:
        changes.purges = rows.log_purge(
            max(self._premises.page.purges, changes.purges), purge_log.encode(self._selector)
        )

    def in_need(self, rows: Rows) -> None:
        """A purge that is counted and not in the log means everything that is under way."""
        self._premises.page.raise_purges(self._premises.page.purges + 1)
        self._premises.page.tell([PURGED], changed=False)


class TakingOut(Job):
    """Removes those of the rows at `rowids` that `selector` means; the result is how many visible entries went."""

    def __init__(self, premises: Premises, rowids: Iterable[int], selector: Selector) -> None:
        self._premises, self._rowids, self._selector = premises, tuple(rowids), selector

    def apply(self, rows: Rows, changes: Changes) -> int:
        count = 0
        for row, visible in self._meant(rows):
            rows.take_out(row)
            count += visible
            changes.changed.append(mark_of(row.name))
        return count

    def _meant(self, rows: Rows) -> Iterable[tuple[Row, bool]]:
        for rowid in self._rowids:
            row = rows.at(rowid)
            if row is None:
                continue
            meant = judged(self._selector, row.hints) if self._selector.key is None else None
            if meant is not None:  # the hints tell all that was asked: no need to open a hundred thousand entries
                if meant:
                    yield row, True
                continue
            entry = self._premises.opened(row)
            if entry is None or self._selector.matches(entry):
                yield row, entry is not None

    def in_need(self, rows: Rows) -> int:
        count = 0
        for row, visible in self._meant(rows):
            rows.disk.remove(row.filename)
            count += visible
        self._premises.page.tell([ANYTHING], changed=True, heeded_by_all=True)
        return count


class SweepingOut(Job):
    """Removes those of the rows at `rowids` that are no entries of ours, or whose body is not there."""

    def __init__(self, premises: Premises, rowids: Sequence[int]) -> None:
        self._premises, self._rowids = premises, rowids

    def apply(self, rows: Rows, changes: Changes) -> int:
        count = 0
        for rowid in self._rowids:
            row = rows.at(rowid)
            if row is not None and not self._is_sound(row):
                rows.take_out(row)
                changes.changed.append(mark_of(row.name))
                count += 1
        return count

    def _is_sound(self, row: Row) -> bool:
        entry = self._premises.opened(row)
        if entry is None or row.filename != body_name(row.name, entry.digest):
            return False
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._premises.bodies.folder / row.filename, follow_symlinks=False).st_size == entry.size
        return False


class Correcting(Job):
    """Sums up the bodies' sizes anew, which damage had falsified."""

    def apply(self, rows: Rows, changes: Changes) -> None:
        rows.correct_size()


class MakingRoom(Job):
    """Evicts until `need` bytes fit, as is done before every job; fails where they cannot."""

    def __init__(self, need: int) -> None:
        self.need = need

    def apply(self, rows: Rows, changes: Changes) -> None:
        """Nothing is left to do."""
