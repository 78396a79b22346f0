"""The pair that a machine is born with (`oauth.seed_file`): taken up once, where nothing is stored, and never again.

A seed that was used is known by the digest of its refresh token, in the record and in the pair that came of it; after a loss nobody can
tell any more, so where a stored file was damaged no seed is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.events import Warned
from passoproxy.core.oauth.importing import read_import
from passoproxy.core.oauth.notes import seeded, seeds
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.terms import Terms
from passoproxy.core.oauth.transaction import digest
from passoproxy.errors import AnswerUnusable, PassoproxyError
from passoproxy.ports import ChainRecord, Observer
from passoproxy.tokens.holding import Holding
from passoproxy.tokens.renewing import Renewing

SOURCE = "seed"
"""`Pair.source` of a seed."""


class Seeding:
    """Plants what `read` gives (a document as for `token import`; it raises a PassoproxyError that says why it cannot)."""

    def __init__(
        self,
        holding: Holding,
        renewing: Renewing,
        terms: Terms,
        salt: Callable[[], str],
        observe: Observer,
        read: Callable[[], bytes] | None,
    ) -> None:
        self._holding = holding
        self._renewing = renewing
        self._terms = terms
        self._salt = salt
        self._observe = observe
        self._read = read

    def remembered(self, pair: Pair | None, record: ChainRecord) -> ChainRecord:
        """The record with the seed that `pair` is, in case a crash came between the two."""
        if pair is None or pair.source != SOURCE:
            return record
        return replace(record, extra=seeded(record.extra, _mark(pair)))

    async def plant(self, damage: str) -> None:
        """Takes the seed up where no pair is held. `damage` names what was found damaged just now, '' where nothing was."""
        holding = self._holding
        if self._read is None or holding.newest is not None or not self._terms.needs_person:
            return
        found = self._found(self._read, damage)
        if found is None:
            return
        pair = holding.numbered(found)
        holding.record = self.remembered(pair, holding.record)
        holding.saved = await self._renewing.save(pair)
        self._renewing.use(pair)

    def _found(self, read: Callable[[], bytes], damage: str) -> Pair | None:
        """The seed, where it may be used; why not is told."""
        record = self._holding.record
        try:
            pair = replace(read_import(read(), self._holding.now(), self._terms, self._salt()), source=SOURCE)
        except AnswerUnusable as fault:
            self._refuse("seed_refused", str(fault).replace("the import", "the pair in oauth.seed_file"))
            return None
        except PassoproxyError as fault:
            self._refuse("seed_refused", str(fault))
            return None
        if _mark(pair) in (*seeds(record.extra), *record.spent):
            self._refuse("seed_spent", "the pair in oauth.seed_file was used before, and is not presented again")
            return None
        if damage:
            self._refuse("seed_unused", f"oauth.seed_file is not used, because a pair was here before: {damage}")
            return None
        return pair

    def _refuse(self, code: str, text: str) -> None:
        self._holding.reason = self._holding.last_error = text
        self._observe(Warned(code, text))


def _mark(pair: Pair) -> str:
    return digest(pair.refresh_token or pair.access_token)
