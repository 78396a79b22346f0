"""An import over a pair that lives: it is proved by a refresh, and only with its success takes the place of the old pair (contract §4).

From just before the proof is sent until its end is known, the imported pair stands in the record as its candidate, with an intent of its own.
Only the keeper's task calls what is here; whether an import needs a proof at all is decided in `obeying`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.events import Warned
from passoproxy.core.oauth.chain import Chain, Happening
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import patience, pause
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.token_response import Dead, Lost, Misconfigured, Retryable, Unsent
from passoproxy.core.oauth.transaction import Candidate, digest, may_present, moved_to, not_handed_over, remembered
from passoproxy.errors import CannotCreate, CommandFailure, ConfigurationError, Fault, ImportRefused, ServiceUnreachable
from passoproxy.ports import ChainRecord, Clock, Observer
from passoproxy.tokens.persistence import Saving
from passoproxy.tokens.refresh import FIRST_REPLAY_WITHIN, REMEDY, Granted, Outcome, Refreshing, Renewing, Unrecorded
from passoproxy.tokens.shutdown import Shutdown
from passoproxy.tokens.state import Holding

LIVING = frozenset({Chain.HEALTHY, Chain.RETRYING, Chain.UNKNOWN})
"""A chain in one of these states is not given up for an import that is not proved."""

AGAIN = "this pair was here before: a refresh with it was sent, and its answer was lost"

_KEPT = "both pairs are kept"


class Imports:
    """Proves what is imported, and repeats a proof whose answer was lost."""

    def __init__(
        self,
        holding: Holding,
        saving: Saving,
        refreshing: Refreshing,
        renewing: Renewing,
        shutdown: Shutdown,
        terms: Terms,
        clock: Clock,
        chance: Callable[[], float],
        observe: Observer,
    ) -> None:
        self._holding = holding
        self._saving = saving
        self._refreshing = refreshing
        self._renewing = renewing
        self._shutdown = shutdown
        self._terms = terms
        self._clock = clock
        self._chance = chance
        self._observe = observe
        self._next_at: float | None = None
        """When the proof is repeated, by the steady clock."""
        self._told = False
        """Whether a candidate was told of that is not known to be done with."""

    def due_in(self) -> float | None:
        """Seconds until the proof is repeated, 0 when it is due, None where it is not."""
        if self._next_at is None or self._shutdown.begun:
            return None
        return max(0.0, self._next_at - self._clock.monotonic(), self._renewing.spacing())

    async def prove(self, pair: Pair) -> None:
        """Proves an imported pair at once, and uses what it brings. Raises CommandFailures that say why the old pair goes on."""
        holding, waiting = self._holding, self._holding.record.candidate
        if waiting is None or waiting.intent.token != digest(pair.refresh_token or ""):
            pair = replace(pair, generation=holding.newest.generation if holding.newest else 0)
        elif self._may_present(waiting):
            pair = waiting.pair
        else:
            raise ServiceUnreachable(f"the answer to this import's proof was lost before; {_KEPT}{self._outlook()}")
        outcome = await self._attempt(pair)
        match outcome:
            case Granted():
                if holding.held is not None:
                    raise CommandFailure(
                        f"the import is proved, and what it brought is held back until it can be saved: {holding.snapshot().remedy}"
                    )
            case Dead(reason=reason):
                raise ImportRefused(f"{reason}, to the imported refresh token; the pair in use is kept")
            case Lost(reason=reason):
                raise ServiceUnreachable(
                    f"the answer to the import's proof was lost: {reason}; {_KEPT}{self._outlook()}"
                )
            case Misconfigured(reason=reason):
                raise ConfigurationError(Fault("", "oauth", reason, f"{REMEDY}; the pair in use is kept"))
            case Unsent(reason=reason) | Retryable(reason=reason):
                raise ServiceUnreachable(f"the import is not proved: {reason}; the pair in use is kept")
            case Unrecorded(reason=reason):
                raise CannotCreate(f"the import is not proved, because that cannot be recorded: {reason}")

    async def repeat(self) -> None:
        """Presents the candidate once more."""
        if (candidate := self._holding.record.candidate) is not None:
            await self._attempt(candidate.pair)

    async def follow_time(self) -> None:
        """What time alone brings: the old pair has died, or a candidate is not to be presented any more and its access token has ended."""
        holding, candidate = self._holding, self._holding.record.candidate
        if candidate is None:
            if self._told:
                self._tell("no imported pair waits for its proof any more", over=True)
            return
        ends = candidate.pair.access_until
        if holding.standing.chain not in LIVING:
            await self._take_unproved(candidate)
        elif not self._may_present(candidate) and ends is not None and holding.now() >= ends:
            holding.record = without_candidate(holding.record)
            text = "an imported pair was given up: the answer to its proof was lost, and its access token has ended"
            self._tell(text, over=True)
            await self._saving.note(holding.record)

    def plan(self) -> None:
        """Sets when the proof is repeated."""
        candidate, now = self._holding.record.candidate, self._holding.now()
        if candidate is None or not self._may_present(candidate):
            self._next_at = None
            return
        presented = candidate.intent.presented
        wait = pause(candidate.pair, now, presented, self._chance())
        self._next_at = self._clock.monotonic() + (min(wait, FIRST_REPLAY_WITHIN) if presented < 2 else wait)

    def _may_present(self, candidate: Candidate) -> bool:
        policy = self._terms.lost_answer_replay
        return may_present(candidate.intent, policy, self._holding.now(), candidate.pair.access_until)

    async def _attempt(self, pair: Pair) -> Outcome:
        holding, before = self._holding, self._holding.record.candidate
        other = before if before is not None and before.pair is not pair else None
        if other is not None:
            holding.record = without_candidate(holding.record)
        outcome = await self._renewing.spaced(lambda: self._presented(pair))
        if other is not None and not isinstance(outcome, Granted) and holding.record.candidate is None:
            # this one came to nothing, and the one that waited goes on waiting
            spent = tuple(mark for mark in holding.record.spent if mark != other.intent.token)
            holding.record = replace(holding.record, candidate=other, spent=spent)
        if isinstance(outcome, Granted):
            holding.record = replace(without_intent(holding.record), extra=not_handed_over(holding.record.extra))
            holding.logins.clear()
            await self._renewing.adopt(outcome)
            text = "the imported pair is proved and in use"
        else:
            holding.last_error = f"the imported pair is not proved: {outcome.reason}"
            text = holding.last_error
            if holding.record.candidate not in (None, other):
                text = f"{text}; {_KEPT}{self._outlook()}"
            await self._saving.note(holding.record)
        self.plan()
        if self._told or holding.record.candidate is not None:
            self._tell(text, over=holding.record.candidate is None)
        return outcome

    async def _presented(self, pair: Pair) -> Outcome:
        holding, now = self._holding, self._holding.now()
        record = replace(holding.record, asked_at=now)
        over = holding.newest or pair
        attempt = await self._refreshing.renew(pair, record, now, patience(pair, now), insist=False, over=over)
        holding.record = attempt.record
        return attempt.outcome

    async def _take_unproved(self, candidate: Candidate) -> None:
        """There is nothing to lose any more."""
        holding = self._holding
        pair = holding.numbered(candidate.pair)
        intent = moved_to(candidate.intent, pair)
        holding.record = replace(
            holding.record, candidate=None, intent=intent, extra=not_handed_over(holding.record.extra)
        )
        holding.held, self._next_at = None, None
        holding.saved = await self._renewing.save(pair)
        self._renewing.use(pair, then=(Happening.LOST,), reason=AGAIN)
        self._tell("the imported pair is in use, unproved, because the one before is lost", over=True)

    def _outlook(self) -> str:
        candidate = self._holding.record.candidate
        if candidate is not None and self._may_present(candidate):
            return ", and the proof is repeated"
        return "; oauth.lost_answer_replay allows no further proof, and 'passoproxy token import --force' takes it unproved"

    def _tell(self, text: str, *, over: bool = False) -> None:
        self._told = not over
        self._observe(Warned("import_unproved", text, over=over))


def without_intent(record: ChainRecord) -> ChainRecord:
    """`record` without the intent of a pair that is given up; its token, which may be spent, is remembered."""
    if record.intent is None:
        return record
    return replace(record, intent=None, spent=remembered(record.spent, record.intent.token))


def without_candidate(record: ChainRecord) -> ChainRecord:
    """`record` without a candidate; its token, which may be spent, is remembered."""
    if record.candidate is None:
        return record
    return replace(record, candidate=None, spent=remembered(record.spent, record.candidate.intent.token))
