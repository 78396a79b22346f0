"""How the scribe's jobs are carried out: room first, then files, then one transaction, then word to everyone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.change_feed import PURGED
from passoproxy.stores.entries.disk.index import Damaged, Database, OwnFault, Rows, translated
from passoproxy.stores.entries.disk.lookup import OnFailure
from passoproxy.stores.entries.disk.writer import Asked, Changes, Outcome, Premises, StartingAnew
from passoproxy.stores.entries.serialization import key_name, mark_of

TOUCH_SECONDS = 5.0
GIVE_BACK_SECONDS = 0.2
_PAGES_TOGETHER = 250
_MOST_TOUCHES = 4096
_TOUCHES_TOGETHER = 64
_JOURNAL_BYTES = 1 << 20


class Committing:
    """Lives in the scribe's thread. `touches` gives so many of the primary keys that were asked for, each once for any number of times."""

    def __init__(
        self,
        premises: Premises,
        database: Database,
        max_bytes: int,
        touches: Callable[[int], list[str]],
        on_evicted: Callable[[int], None],
        on_failure: OnFailure,
        on_stored: Callable[[Sequence[str]], None],
        on_loss: Callable[[], None],
    ) -> None:
        self._premises, self._database, self._touches = premises, database, touches
        self._together_bytes = max(1 << 20, max_bytes // 16)
        self._on_evicted, self._on_failure, self._on_stored = on_evicted, on_failure, on_stored
        self._on_loss = on_loss
        self._touched_at = self._gave_back_at = time.monotonic()

    def carry_out(self, asked: Sequence[Asked]) -> list[Outcome]:
        """Does the jobs, as many together as have room together."""
        outcomes = [Outcome(each) for each in asked]
        for batch in self._split(outcomes):
            self._carry_out(batch)
        return outcomes

    def _split(self, outcomes: Sequence[Outcome]) -> Iterator[list[Outcome]]:
        batch: list[Outcome] = []
        need = 0
        for outcome in outcomes:
            job = outcome.asked.job
            if batch and (job.alone or batch[0].asked.job.alone or need + job.need > self._together_bytes):
                yield batch
                batch, need = [], 0
            batch.append(outcome)
            need += job.need
        yield batch

    def _carry_out(self, batch: list[Outcome]) -> None:
        job = batch[0].asked.job
        if isinstance(job, StartingAnew):
            self._start_anew(job, batch[0])
        else:
            self._carry_out_together(batch)

    def _start_anew(self, job: StartingAnew, outcome: Outcome) -> None:
        try:
            outcome.result = job.instead(self._database)
            self._on_loss()  # what was set aside is to be removed
        except EntryStoreFailure as failure:
            self._on_failure(str(failure), pause=True)
            outcome.error = failure

    def _carry_out_together(self, batch: list[Outcome]) -> None:
        changes, held = Changes(), False
        try:
            rows = self._database.rows()
            self._make_room(rows, batch)
            able = self._prepared(batch)
            changes = self._commit(rows, able)
            held = True
        except EntryStoreFailure as failure:
            self._in_need([outcome for outcome in batch if outcome.error is None], failure)
        finally:
            for outcome in batch:
                outcome.asked.job.finish(held and outcome.error is None)
        self._tell(changes)

    # ---- the steps --------------------------------------------------------------------------------------------------

    def _make_room(self, rows: Rows, batch: Sequence[Outcome]) -> None:
        need, count = sum(each.asked.job.need for each in batch), sum(each.asked.job.rows for each in batch)
        if not need and not count:
            return
        try:
            with translated(self._premises.folder):
                if not rows.has_room(need, count):
                    self._write_touches()  # or what is used would go before what was stored since it was last written down
                gone, fits = rows.make_room(need, count)
        except Damaged:
            return  # the transaction will find it too, and mend it
        except EntryStoreFailure:
            if self._database.is_current(rows):
                raise
            return  # replaced by another process: the transaction will find that too
        if gone:
            for name in gone:
                self._premises.bodies.forget(name)
            self._premises.page.tell([mark_of(name) for name in gone], changed=True, heeded_by_all=True)
            self._on_evicted(len(gone))
        if not fits:
            self._on_loss()  # unless large bodies are under way, what is counted is wrong
            for outcome in batch:
                if outcome.asked.job.need:
                    outcome.error = EntryStoreFailure(
                        f"{self._premises.folder}: full of answers that are being stored right now"
                    )

    def _prepared(self, batch: Sequence[Outcome]) -> list[Outcome]:
        able = []
        for outcome in [outcome for outcome in batch if outcome.error is None]:
            try:
                with translated(self._premises.folder):
                    outcome.asked.job.prepare()
            except EntryStoreFailure as failure:
                outcome.error = failure
                self._on_failure(str(failure), pause=True)
            else:
                able.append(outcome)
        return able

    def _commit(self, rows: Rows, able: Sequence[Outcome]) -> Changes:
        """One transaction; where the database turns out damaged or replaced, once more in the new one; where one job is at fault, one for each."""
        try:
            return self._transact(rows, able)
        except OwnFault as fault:
            return self._one_by_one(able) if len(able) > 1 else self._at_fault(able[0], fault)
        except Damaged as damage:
            self._on_failure(str(damage), pause=False)
            self._database.condemn(rows, damage)
            return self._transact(self._database.rows(), able)
        except EntryStoreFailure:
            if self._database.is_current(rows):
                raise
            return self._transact(self._database.rows(), able)

    def _one_by_one(self, able: Sequence[Outcome]) -> Changes:
        whole = Changes()
        for outcome in able:
            whole.add(self._commit(self._database.rows(), [outcome]))
        return whole

    def _at_fault(self, outcome: Outcome, fault: OwnFault) -> Changes:
        outcome.error = fault
        self._on_failure(str(fault), pause=False)
        return Changes()

    def _transact(self, rows: Rows, able: Sequence[Outcome]) -> Changes:
        changes = Changes()
        try:
            with translated(self._premises.folder), rows.transaction():
                for outcome in able:
                    outcome.result = outcome.asked.job.apply(rows, changes)
        except EntryStoreFailure:
            self._database.leave()  # a transaction that could not be ended ends with its connection
            raise
        return changes

    def _in_need(self, outcomes: Sequence[Outcome], failure: EntryStoreFailure) -> None:
        self._on_failure(str(failure), pause=True)
        for outcome in outcomes:
            try:
                with translated(self._premises.folder):
                    outcome.result = outcome.asked.job.in_need(self._database.rows())
            except EntryStoreFailure:
                outcome.error = failure

    def _tell(self, changes: Changes) -> None:
        with contextlib.suppress(OSError):
            if changes.purges:
                self._premises.page.raise_purges(changes.purges)
                self._premises.page.tell([PURGED], changed=False)
            if changes.changed:
                self._premises.page.tell(changes.changed, changed=True)
            if changes.added:
                self._premises.page.tell(changes.added, changed=False)
        if changes.stored or changes.changed:
            self._on_stored(changes.stored)

    # ---- now and then ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Writes down what was asked for, keeps the journal short, notices that the folder was taken away."""
        now = time.monotonic()
        with contextlib.suppress(OSError):
            self._premises.page.mend()
        if now - self._gave_back_at >= GIVE_BACK_SECONDS:
            self._gave_back_at = now
            self._give_back()
        if now - self._touched_at >= TOUCH_SECONDS:
            self._touched_at = now
            self._write_touches()

    def _give_back(self) -> None:
        try:
            rows = self._database.rows()
            with translated(self._premises.folder):
                rows.give_back(_PAGES_TOGETHER, keep=True)
        except EntryStoreFailure:
            self._database.leave()  # a file that is larger than it need be is no loss

    def _write_touches(self) -> None:
        keys = [key_name(key) for key in self._touches(_MOST_TOUCHES)]
        moment = time.time()
        try:
            rows = self._database.rows()
            with translated(self._premises.folder):
                for at in range(0, len(keys), _TOUCHES_TOGETHER):
                    with rows.transaction():
                        rows.used(keys[at : at + _TOUCHES_TOGETHER], moment)
                rows.shorten_journal(_JOURNAL_BYTES)
        except EntryStoreFailure:
            self._database.leave()  # who was asked for when is no loss

    def leave(self) -> None:
        """The end: nothing stays in the journal that can be in the database."""
        self._write_touches()
        self._database.leave()
