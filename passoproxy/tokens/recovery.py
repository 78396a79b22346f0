"""The pair that a machine is born with (`oauth.seed_file`): taken up once, where nothing is stored, and never again.

A seed that was used is known by the digest of its refresh token, in the record and in the pair that came of it; after a loss nobody can
tell any more, so where a stored file was damaged no seed is used.

What is found at the start: the stored pair, and what a crash left of a refresh (`core/oauth/transaction` knows the way out).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.events import PairFileDamaged, Warned
from passoproxy.core.oauth.chain import Chain, Happening, arrival
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import rooted
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.token_response import IMPORT, read_import
from passoproxy.core.oauth.transaction import (
    AnswerUnknown,
    NotCommitted,
    concerns,
    digest,
    floor,
    lost,
    moved_to,
    not_handed_over,
    proved_since,
    remembered,
    seeded,
    seeds,
    spent_since,
    unrecorded,
    way_out,
)
from passoproxy.errors import AnswerUnusable, PairStoreFailure, PassoproxyError
from passoproxy.ports import ChainRecord, Observer, RawAnswer
from passoproxy.tokens.imports import without_candidate
from passoproxy.tokens.persistence import Saving
from passoproxy.tokens.refresh import Refreshing, Renewing
from passoproxy.tokens.state import Holding

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


INTERRUPTED = "a refresh was sent before the last stop, and its answer is not known"
SILENT = "the stored record says nothing of the stored pair, so it is not known which tokens were spent"


class Recovering:
    """Loads the store into `holding`. `unread` stays True while the store cannot be read."""

    def __init__(
        self,
        holding: Holding,
        saving: Saving,
        refreshing: Refreshing,
        renewing: Renewing,
        terms: Terms,
        seeding: Seeding,
        observe: Observer,
    ) -> None:
        self._holding = holding
        self._saving = saving
        self._refreshing = refreshing
        self._renewing = renewing
        self._terms = terms
        self._seeding = seeding
        self._observe = observe
        self.unread = False

    async def load(self) -> None:
        """Takes up what is stored; a store that cannot be read is told once, and may be tried again."""
        try:
            pair, record, answer = await self._saving.load()
        except PairStoreFailure as fault:
            if not self.unread:
                self._holding.reason = self._holding.last_error = str(fault)
                self._observe(PairFileDamaged(str(fault)))
            self.unread = True
        else:
            if self.unread:
                self._holding.reason = self._holding.last_error = ""
            self.unread = False
            self._holding.kept = await self._saving.kept()
            await self._take_up(pair, record, answer)
            self._tell_changes()
            await self._seeding.plant(self._saving.damage)
        self._renewing.plan()

    async def _take_up(self, pair: Pair | None, record: ChainRecord, answer: RawAnswer | None) -> None:
        holding = self._holding
        holding.generation = max(holding.generation, pair.generation if pair else 0, floor(record.extra))
        # a record that was written, and says nothing of the pair beside it
        is_silent = pair is not None and record.client != "" and record.state == Chain.NONE
        unknown = self._saving.unrecorded or (SILENT if is_silent else "")
        record = self._seeding.remembered(pair, record.of(holding.client))
        if pair is not None:
            pair = rooted(pair, holding.now(), self._terms)
        holding.record = record
        if pair is not None and self._saving.damage and holding.is_spent(pair) and record.state != Chain.DEAD.value:
            # nobody was asked: the generation that its token was spent for is the damaged one
            record = holding.record = replace(record, reason=self._saving.damage)
        self._renewing.count_before(record.asked_at)
        answered = self._answered(answer, pair)
        new = self._readable(answer, answered)
        if new and answer and way_out(pair, record.intent, answer.previous_generation) == NotCommitted():
            pair = new = self._adopted(new, answered, answer)
        else:
            new = None
        is_proved = self._take_up_candidate(pair)
        if unknown and (intent := unrecorded(pair, holding.now())):
            holding.record = replace(holding.record, state=Chain.UNKNOWN, reason=unknown, intent=intent)
        mark = ""
        match way_out(pair, holding.record.intent, None):
            case AnswerUnknown(intent=intent) if pair:
                was_unknown = holding.record.state == Chain.UNKNOWN
                reason = (holding.record.reason if was_unknown else "") or INTERRUPTED
                holding.record = replace(holding.record, intent=intent)
                renewable = arrival(pair, holding.is_spent(pair), self._terms) is Happening.OBTAINED
                lost = (Happening.LOST,) if renewable else ()
                holding.use(pair, loaded=new is None, then=lost, reason=reason if lost else "")
            case _:
                if mark := spent_since(holding.record.intent, pair):
                    spent = remembered(holding.record.spent, mark)
                    holding.record = replace(holding.record, spent=spent)
                holding.record = replace(holding.record, intent=None)
                if pair is not None:
                    holding.use(pair, loaded=new is None)
        if new is not None:
            await self._renewing.save(new)
        elif mark or is_proved or (pair and unknown):
            await self._saving.note(holding.record)
        await self._renewing.follow_time()
        if holding.pair is None and self._saving.damage:
            holding.reason = holding.last_error = self._saving.damage

    def _tell_changes(self) -> None:
        holding = self._holding
        if holding.waiting:
            names = "; ".join(f"the pair of {pair.client}" for pair in holding.waiting)
            said = f"{names}: kept until its own configuration is back, and sent nowhere; the configuration names {holding.client}"
            self._observe(Warned("pair_kept", said))
        before = holding.pair.upstream if holding.pair is not None else ""
        if before not in ("", holding.upstream) and holding.upstream:
            said = f"upstream.url was {before} when the pair was obtained: it is kept, and its access token goes to {holding.upstream}"
            self._observe(Warned("upstream_changed", said))

    def _presented(self, answer: RawAnswer | None) -> Pair | None:
        """The pair of another client that was presented to this provider by force, and that `answer` is the answer to."""
        if answer is None:
            return None
        followed = [pair for pair in self._holding.kept if pair.generation == answer.previous_generation]
        intents = {other.client: other.intent for other in self._holding.record.others}
        begun = (pair for pair in followed if concerns(intents.get(pair.client), pair))
        return next(begun, followed[0] if followed else None)

    def _answered(self, answer: RawAnswer | None, pair: Pair | None) -> Pair | None:
        """The pair that a kept answer follows: the stored one, the candidate where its proof was answered, or one that is kept for others."""
        if answer is None or answer.grant != IMPORT:
            return pair or self._presented(answer)
        candidate = self._holding.record.candidate
        return candidate.pair if candidate is not None else None

    def _take_up_candidate(self, pair: Pair | None) -> bool:
        """What is left of an import that was not proved yet; whether it is done with. `pair` is the newest one now."""
        holding, candidate = self._holding, self._holding.record.candidate
        if candidate is None:
            return False
        if proved_since(candidate, pair):
            holding.record = without_candidate(holding.record)
        else:
            candidate = replace(
                candidate, pair=rooted(candidate.pair, holding.now(), self._terms), intent=lost(candidate.intent)
            )
            holding.record = replace(holding.record, candidate=candidate)
        return holding.record.candidate is None

    def _readable(self, answer: RawAnswer | None, pair: Pair | None) -> Pair | None:
        """The pair of a kept answer; None without one, or where it cannot be read (then it is a lost one)."""
        try:
            return self._refreshing.read(answer, pair) if answer is not None else None
        except AnswerUnusable:
            return None

    def _adopted(self, new: Pair, pair: Pair | None, answer: RawAnswer) -> Pair:
        """A kept answer that was not committed becomes the pair. It is durable already, so it is used even if it cannot be committed.

        Where that could not be done before either, its token may have been presented since: what the record says of that is kept.
        """
        holding, record = self._holding, self._holding.record
        holding.generation = max(holding.generation, answer.previous_generation)
        new = holding.numbered(new)
        if answer.grant == IMPORT:
            record = replace(record, candidate=None, extra=not_handed_over(record.extra))
        old = pair.refresh_token if pair and answer.grant in {"refresh_token", IMPORT} else None
        if old is not None and old != new.refresh_token:
            record = replace(record, spent=remembered(record.spent, digest(old)))
        if record.intent is not None and record.intent.generation > answer.previous_generation:
            record = replace(record, intent=moved_to(record.intent, new))
        holding.record = record
        return new
