"""Which pair counts when an instance becomes the holder: what the shared store has, or what lies in the instance's own folder.

Only a decision; reading and writing are `redis`'s. Nothing is discarded by it: what does not count is kept aside by whoever carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from passoproxy.core.oauth.chain import Chain
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import unrecorded
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair.fleet_memory import Memory
from passoproxy.stores.pair.redis_records import merged


@dataclass(frozen=True, slots=True)
class Held:
    """What one place holds. `generation` is the highest that it ever had, `erased` that its pair was forgotten on purpose.

    `unrecorded` is why it cannot tell which tokens were spent; '' where it can, and where no pair was ever there.
    """

    pair: Pair | None = None
    answer: RawAnswer | None = None
    record: ChainRecord | None = None
    generation: int = 0
    erased: bool = False
    unrecorded: str = ""

    @property
    def reach(self) -> int:
        """The generation that can be had from here: an answer that was kept and not committed counts as the next one."""
        if self.pair is None:
            return 0
        return self.pair.generation + (self.answer is not None and follows(self.answer, self.pair))


@dataclass(frozen=True, slots=True)
class Settled:
    """What counts from now on. `outdated`: a newer one was heard of, so this one's refresh token is spent and left
    out; it may serve, and is no generation of its own.

    `taken_in`: the folder has to take it over. `forgotten`: the folder has to forget its own. `floor`: new pairs are numbered above.
    """

    pair: Pair | None
    answer: RawAnswer | None
    record: ChainRecord
    generation: int
    floor: int
    outdated: bool = False
    taken_in: bool = False
    forgotten: bool = False


def follows(answer: RawAnswer | None, pair: Pair | None) -> bool:
    """Whether a kept answer is the one after `pair`."""
    return answer is not None and answer.previous_generation == (pair.generation if pair is not None else 0)


def settle(here: Held, there: Held, memory: Memory, now: float) -> Settled:
    """One truth of the folder (`here`) and the shared store (`there`) at `now` (epoch seconds)."""
    forgotten = here.pair is not None and there.erased and here.pair.generation < there.generation
    if forgotten:
        here = replace(here, pair=None, answer=None)
    ours = here.pair is not None and (
        there.pair is None or (memory.shared and here.pair.generation > there.pair.generation)
    )
    pair = here.pair if ours else there.pair
    # the folder's answer counts only beside the folder's own pair: another one's generation may bear the same number
    beside = here.answer if pair is not None and here.pair is not None and _same(here.pair, pair) else None
    kept = there.answer if follows(there.answer, pair) else beside
    answer = kept if follows(kept, pair) else None
    seen = max(memory.seen, there.generation)
    reach = 0 if pair is None else pair.generation + (answer is not None)
    outdated = pair is not None and reach < seen
    generation = there.generation if pair is None or outdated else pair.generation
    if pair is not None and outdated:
        pair = replace(pair, refresh_token=None, refresh_until=None)
    record = merged(here.record, there.record) if here.record and there.record else here.record or there.record
    record = record or ChainRecord(Chain.HEALTHY if pair is not None else Chain.NONE)
    record = replace(record, others=here.record.others if here.record else ())
    # the folder's record may be older than others' presentations, so it does not stand in for the store's
    why = there.unrecorded or ("" if there.record is not None else here.unrecorded)
    if why and pair is not None:
        record = replace(record, state=Chain.UNKNOWN, reason=why, intent=unrecorded(pair, now))
    return Settled(
        pair=pair,
        answer=None if outdated else answer,
        record=record,
        generation=generation,
        floor=max(seen, generation),
        outdated=outdated,
        taken_in=not ours and pair is not None and not (here.pair is not None and _same(here.pair, pair)),
        forgotten=forgotten,
    )


def _same(one: Pair, other: Pair) -> bool:
    return (one.generation, one.refresh_token) == (other.generation, other.refresh_token)
