"""Which pair counts when an instance becomes the holder: what the shared store has, or what lies in the instance's own folder.

Decisions, and the file in which an instance remembers how far its fleet had come. The store that carries a decision out is in `redis`; it keeps
aside what does not count.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from passoproxy.core.oauth.chain import Chain
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import REMEMBERED, Intent, unrecorded
from passoproxy.errors import PairStoreFailure
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair.files import read_secret, write_secret
from passoproxy.values import dataclass

NAME = "fleet.json"
_STAMP = "stamp"


@dataclass(frozen=True, slots=True)
class Memory:
    """`shared`: this folder's pair is the fleet's, not one from before. `seen` is the highest generation ever heard of, `fence` the highest that
    this instance had. `sealed`: the store's content was sealed, so nothing plain is taken from it any more. `client` as `Pair.client`."""

    shared: bool = False
    seen: int = 0
    fence: int = 0
    sealed: bool = False
    client: str = ""


def remembered(path: Path) -> Memory:
    """The memory in a file; of one that cannot be read, only that there was one."""
    try:
        data = read_secret(path)
        if data is None:
            return Memory()
        found = json.loads(data)
        client = str(found.get("client", ""))
        return Memory(found["shared"] is True, int(found["seen"]), int(found["fence"]), found["sealed"] is True, client)
    except (PairStoreFailure, ValueError, TypeError, KeyError):
        return Memory(shared=True)


def remember(path: Path, memory: Memory) -> None:
    """Makes it durable; a full disk does not stop the fleet."""
    with contextlib.suppress(PairStoreFailure):
        write_secret(path, json.dumps(asdict(memory)).encode())


# ---- records ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """When a record was written, in the order of holders and of one holder's writes."""

    fence: int = 0
    serial: int = 0


def stamped(record: ChainRecord, stamp: Stamp) -> ChainRecord:
    """`record` with the moment at which it is written."""
    rest = tuple(pair for pair in record.extra if pair[0] != _STAMP)
    return replace(record, extra=(*rest, (_STAMP, f"{stamp.fence}.{stamp.serial}")))


def stamp_of(record: ChainRecord) -> Stamp:
    """When it was written; the oldest moment of all if it does not say."""
    fence, _, serial = dict(record.extra).get(_STAMP, "").partition(".")
    return Stamp(int(fence), int(serial)) if fence.isdecimal() and serial.isdecimal() else Stamp()


def merged(here: ChainRecord, there: ChainRecord) -> ChainRecord:
    """Two instances' records as one: the younger counts, and no spent token and no presentation is forgotten."""
    older, younger = sorted((here, there), key=stamp_of)
    spent = [mark for mark in older.spent if mark not in younger.spent] + list(younger.spent)
    candidate = younger.candidate
    if candidate is not None and older.candidate is not None:
        candidate = replace(candidate, intent=_counted(candidate.intent, older.candidate.intent))
    return replace(
        younger,
        spent=tuple(spent[-REMEMBERED:]),
        intent=younger.intent and _counted(younger.intent, older.intent),
        candidate=candidate,
        asked_at=max(older.asked_at, younger.asked_at),
    )


def _counted(younger: Intent, older: Intent | None) -> Intent:
    if older is None or younger.lost or (younger.token, younger.generation) != (older.token, older.generation):
        return younger
    return replace(younger, presented=max(younger.presented, older.presented))


# ---- pairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """What one place holds. `generation` is the highest that it ever had; `erased`: its pair was forgotten on purpose.

    `unrecorded` is why it cannot tell which tokens were spent; '' if it can, and if no pair was ever there.
    """

    pair: Pair | None = None
    answer: RawAnswer | None = None
    record: ChainRecord | None = None
    generation: int = 0
    erased: bool = False
    unrecorded: str = ""

    @property
    def reach(self) -> int:
        """The generation that can be had from here: a kept answer that is not committed counts as the next one."""
        return 0 if self.pair is None else self.pair.generation + _follows(self.answer, self.pair)


@dataclass(frozen=True, slots=True)
class Settled:
    """What counts from now on. `outdated`: a newer generation was heard of, so this refresh token is spent and left out; the pair may serve.

    `taken_in`: the folder has to take the pair over. `forgotten`: the folder has to forget its own. `floor`: new pairs are numbered above it.
    """

    pair: Pair | None
    answer: RawAnswer | None
    record: ChainRecord
    generation: int
    floor: int
    outdated: bool = False
    taken_in: bool = False
    forgotten: bool = False


def settle(here: Held, there: Held, memory: Memory, now: float) -> Settled:
    """One truth of the folder (`here`) and the shared store (`there`) at `now` (epoch seconds)."""
    forgotten = here.pair is not None and there.erased and here.pair.generation < there.generation
    if forgotten:
        here = replace(here, pair=None, answer=None)
    ours = here.pair is not None and (
        there.pair is None or (memory.shared and here.pair.generation > there.pair.generation)
    )
    pair = here.pair if ours else there.pair
    is_folders = pair is not None and here.pair is not None and _same(here.pair, pair)
    # The folder's answer counts only beside the folder's own pair: another pair may bear the same number.
    kept = there.answer if _follows(there.answer, pair) else here.answer if is_folders else None
    answer = kept if _follows(kept, pair) else None
    seen = max(memory.seen, there.generation)
    outdated = pair is not None and pair.generation + (answer is not None) < seen
    generation = there.generation if pair is None or outdated else pair.generation
    if pair is not None and outdated:
        pair = replace(pair, refresh_token=None, refresh_until=None)
    record = merged(here.record, there.record) if here.record and there.record else here.record or there.record
    record = record or ChainRecord(Chain.HEALTHY if pair is not None else Chain.NONE)
    record = replace(record, others=here.record.others if here.record else ())
    # The folder's record may be older than other instances' presentations, so it does not stand in for the store's.
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
        taken_in=not ours and pair is not None and not is_folders,
        forgotten=forgotten,
    )


def _follows(answer: RawAnswer | None, pair: Pair | None) -> bool:
    """Whether a kept answer is the one after `pair`."""
    return answer is not None and answer.previous_generation == (pair.generation if pair is not None else 0)


def _same(one: Pair, other: Pair) -> bool:
    return (one.generation, one.refresh_token) == (other.generation, other.refresh_token)
