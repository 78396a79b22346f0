"""One renewal as a transaction, carried out: record, present, keep the raw answer, read it (contract §4).

`core/oauth/transaction` says what each record means. The keeper calls this from its one task and decides what becomes of the pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from passoproxy.core.oauth.answers import IMPORT, read_answer
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.replies import Dead, Lost, Unsent
from passoproxy.core.oauth.terms import Terms
from passoproxy.core.oauth.transaction import Candidate, Intent, begun, digest, lost, remembered, taken_back
from passoproxy.errors import AnswerUnusable, PairStoreFailure, PairStoreUnproven
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.tokens.asking import Asking, Failure
from passoproxy.tokens.saving import Saving
from passoproxy.tokens.shutdown import LEAST_TIME, STOPPING, Shutdown


@dataclass(frozen=True, slots=True)
class Granted:
    """A new pair. `durable`: its raw answer is on disk, so it may be used at once."""

    pair: Pair
    durable: bool


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Nothing was sent, because the record could not be written."""

    reason: str


Outcome = Granted | Unrecorded | Failure


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt came to, and the record that holds from now on."""

    outcome: Outcome
    record: ChainRecord


class Refreshing:
    """Carries out attempts. `steady` turns epoch seconds of the wall clock into the keeper's own time, which does not step."""

    def __init__(
        self,
        asking: Asking,
        saving: Saving,
        terms: Terms,
        salt: Callable[[], str],
        steady: Callable[[float], float],
        shutdown: Shutdown,
    ) -> None:
        self._asking = asking
        self._shutdown = shutdown
        self._saving = saving
        self._terms = terms
        self._salt = salt
        self._steady = steady

    async def renew(
        self, pair: Pair, record: ChainRecord, now: float, timeout: float, insist: bool, *, over: Pair | None = None
    ) -> Attempt:
        """Presents the pair's refresh token. `insist`: also where the record cannot be written (nothing is left to wait for).

        `over`: the pair was imported and is proved while that one is in use. It is the record's candidate, or becomes it with its intent.
        Never where a shared store cannot prove that nobody else presents it. The record is written when the connection stands, so that one
        on the disk says that the token may have left.
        """
        token = pair.refresh_token or ""
        recorded = _of_pair if over is None else _of_candidate
        before = record.intent if over is None else record.candidate.intent if record.candidate else None
        intent = begun(before, token, pair.generation, now)
        sent = recorded(record, pair, intent)
        faults: list[Exception] = []
        is_sent = False

        async def about_to_send() -> bool:
            nonlocal is_sent
            try:
                await self._saving.mark(sent)
            except Exception as fault:
                if not _is_borne(fault, insist):
                    faults.append(fault)
                    return False
            is_sent = self._saving.may_present()
            return is_sent

        if self._shutdown.left < LEAST_TIME:
            return Attempt(Unsent(STOPPING), record)
        if not await self._saving.retry() and not insist:
            # an answer to this one would be written over that of the newest pair, which is all that is on the disk of it
            return Attempt(Unrecorded(self._saving.fault), record)
        try:
            await self._saving.reserve()
        except PairStoreFailure as fault:
            if not _is_borne(fault, insist):
                return Attempt(Unrecorded(str(fault)), record)
        asked = await self._shutdown.bounded(self._asking.refresh(token, timeout, about_to_send), lambda: is_sent)
        match faults:
            case [PairStoreFailure() as unwritten]:
                return Attempt(Unrecorded(str(unwritten)), record)
            case [unforeseen]:
                raise unforeseen
        attempt = await self._read(asked, pair, sent, over)
        match attempt.outcome:
            case Granted(pair=new):
                spent = record.spent if new.refresh_token == token else remembered(record.spent, digest(token))
                after = replace(recorded(sent, pair, None), spent=spent)
            case Dead():
                after = replace(recorded(sent, pair, None), spent=remembered(record.spent, digest(token)))
            case Lost():
                after = recorded(sent, pair, lost(intent))
            case _:
                after = recorded(sent, pair, taken_back(intent))
        return Attempt(attempt.outcome, after)

    async def obtain(self, pair: Pair | None, record: ChainRecord, timeout: float) -> Attempt:
        """Asks for a client's own token: nothing is spent by it, so nothing is recorded before."""
        asked = await self._shutdown.bounded(self._asking.client_credentials(timeout), lambda: False)
        return await self._read(asked, pair, record)

    async def settle(self, answer: RawAnswer, pair: Pair | None, record: ChainRecord) -> Attempt:
        """The answer of a login: kept, then read."""
        if not await self._saving.retry():
            # the answer that is kept is all that is on the disk of the newest pair: only another pair may take its place
            try:
                self.read(answer, pair)
            except AnswerUnusable as fault:
                return Attempt(Lost(str(fault)), record)
        return await self._read(answer, pair, record)

    def read(self, answer: RawAnswer, pair: Pair | None) -> Pair:
        """The pair that a raw answer holds, after `pair`. Raises AnswerUnusable."""
        sent_at = self._steady(answer.sent_at)
        return read_answer(answer.body, answer.content_type, sent_at, answer.grant, pair, self._terms, self._salt())

    async def _read(
        self, asked: RawAnswer | Failure, pair: Pair | None, record: ChainRecord, over: Pair | None = None
    ) -> Attempt:
        if not isinstance(asked, RawAnswer):
            return Attempt(asked, record)
        newest = over or pair
        answer = replace(asked, previous_generation=newest.generation if newest else 0)
        if over is not None:
            answer = replace(answer, grant=IMPORT)
        durable = await self._saving.keep(answer)
        try:
            return Attempt(Granted(self.read(answer, pair), durable), record)
        except AnswerUnusable as fault:
            return Attempt(Lost(str(fault)), record)


def _of_pair(record: ChainRecord, pair: Pair, intent: Intent | None) -> ChainRecord:
    return replace(record, intent=intent)


def _of_candidate(record: ChainRecord, pair: Pair, intent: Intent | None) -> ChainRecord:
    return replace(record, candidate=None if intent is None else Candidate(pair, intent))


def _is_borne(fault: Exception, insist: bool) -> bool:
    """Whether a token is presented in spite of `fault`: on a last stand, where the disk is at fault and no shared store."""
    return insist and isinstance(fault, PairStoreFailure) and not isinstance(fault, PairStoreUnproven)
