"""What the scribe is asked to write: one small class for each kind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from passoproxy.core.cache.entry import Entry
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.disk_bodies import Bodies, Incoming
from passoproxy.stores.entries.disk_rows import Row, Rows
from passoproxy.stores.entries.disk_undone import NONE, Undones
from passoproxy.stores.entries.hints import hints_of
from passoproxy.stores.entries.names import body_name, key_name, mark_of, row_name
from passoproxy.stores.entries.scribe import Changes, Job
from passoproxy.stores.entries.sealing import Seal
from passoproxy.stores.entries.shared_page import SharedPage
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
        there = self._there(rows)
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

    def _there(self, rows: Rows) -> list[tuple[Row, Entry | None]]:
        """The variants of the key; those that a purge took and that lie there still go on the way."""
        found = [(row, self._premises.opened(row)) for row in rows.of_key(key_name(self._entry.key))]
        undone = Undones.of(rows) if found else NONE
        if not undone:
            return found
        there = []
        for row, entry in found:
            taker = undone.taker(row, entry) if entry is not None else 0
            if taker:
                rows.take_out(row, but_not=self._file)
                rows.purging.count_remaining(taker, -1)
            else:
                there.append((row, entry))
        return there

    def _is_purged(self, rows: Rows) -> bool:
        missed = self._premises.page.purges - self._purges
        if missed == 0:
            return False
        purges = rows.purging.since(self._purges)
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
        if row is None or stored is None or Undones.of(rows).means(row, stored):
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
        if stored is not None and Undones.of(rows).means(row, stored):
            return
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
