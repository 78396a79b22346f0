"""What is found at the start: the stored pair, and what a crash left of a refresh (`core/oauth/transaction` knows the way out)."""

from __future__ import annotations

from dataclasses import replace

from passoproxy.core.events import PairFileDamaged
from passoproxy.core.oauth.chain import Chain, Happening, arrival
from passoproxy.core.oauth.notes import floor
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.terms import Terms
from passoproxy.core.oauth.timing import rooted
from passoproxy.core.oauth.transaction import AnswerUnknown, NotCommitted, digest, remembered, spent_since, way_out
from passoproxy.errors import AnswerUnusable, PairStoreFailure
from passoproxy.ports import ChainRecord, Observer, RawAnswer
from passoproxy.tokens.holding import Holding
from passoproxy.tokens.refreshing import Refreshing
from passoproxy.tokens.renewing import Renewing
from passoproxy.tokens.saving import Saving
from passoproxy.tokens.seeding import Seeding

INTERRUPTED = "a refresh was sent before the last stop, and its answer is not known"


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
        issued_to: str,
        observe: Observer,
    ) -> None:
        self._holding = holding
        self._saving = saving
        self._refreshing = refreshing
        self._renewing = renewing
        self._terms = terms
        self._seeding = seeding
        self._issued_to = issued_to
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
            await self._take_up(pair, record, answer)
            await self._seeding.plant(self._saving.damage)
        self._renewing.plan()

    async def _take_up(self, pair: Pair | None, record: ChainRecord, answer: RawAnswer | None) -> None:
        holding = self._holding
        holding.generation = max(holding.generation, pair.generation if pair else 0, floor(record.extra))
        if pair is not None and not self._is_ours(pair):
            pair = answer = None
        record = self._seeding.remembered(pair, record)
        if pair is not None:
            pair = rooted(pair, holding.now(), self._terms)
        holding.record = record
        if pair is not None and self._saving.damage and holding.is_spent(pair) and record.state != Chain.DEAD.value:
            # nobody was asked: the generation that its token was spent for is the damaged one
            record = holding.record = replace(record, reason=self._saving.damage)
        self._renewing.count_before(record.asked_at)
        new = self._readable(answer, pair)
        match way_out(pair, record.intent, answer.previous_generation if new and answer else None):
            case NotCommitted() if new and answer:
                await self._adopt(new, pair, answer)
            case AnswerUnknown(intent=intent) if pair:
                holding.record = replace(record, intent=intent)
                renewable = arrival(pair, holding.is_spent(pair), self._terms) is Happening.OBTAINED
                lost = (Happening.LOST,) if renewable else ()
                holding.use(pair, loaded=True, then=lost, reason=INTERRUPTED if lost else "")
                await self._renewing.follow_time()
            case _:
                if mark := spent_since(record.intent, pair):
                    record = replace(record, spent=remembered(record.spent, mark))
                holding.record = replace(record, intent=None)
                if pair is not None:
                    holding.use(pair, loaded=True)
                if mark:
                    await self._saving.note(holding.record)
        if holding.pair is None and self._saving.damage:
            holding.reason = holding.last_error = self._saving.damage

    def _is_ours(self, pair: Pair) -> bool:
        """Whether a stored pair belongs to the grant that is configured now: a person's and a client's own are not the same identity."""
        own = pair.source == "client_credentials"
        if self._terms.grant == "client_credentials":
            return own and pair.issued_to == self._issued_to
        return not own

    def _readable(self, answer: RawAnswer | None, pair: Pair | None) -> Pair | None:
        """The pair of a kept answer; None without one, or where it cannot be read (then it is a lost one)."""
        try:
            return self._refreshing.read(answer, pair) if answer is not None else None
        except AnswerUnusable:
            return None

    async def _adopt(self, new: Pair, pair: Pair | None, answer: RawAnswer) -> None:
        """A kept answer that was not committed becomes the pair. It is durable already, so it is used even if it cannot be committed."""
        holding, spent = self._holding, self._holding.record.spent
        old = pair.refresh_token if pair and answer.grant == "refresh_token" else None
        if old is not None and old != new.refresh_token:
            spent = remembered(spent, digest(old))
        holding.record = replace(holding.record, intent=None, spent=spent)
        holding.generation = max(holding.generation, answer.previous_generation)
        new = holding.numbered(new)
        await self._renewing.save(new)
        self._renewing.use(new)
