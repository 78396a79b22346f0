"""What can happen, as values. Observers (logs, metrics, recent, alerts) see the same ones; none of them holds a secret."""

from __future__ import annotations

from dataclasses import replace

from passoproxy.core.http.trace_context import Trace, trace_id, traceparent_in
from passoproxy.values import dataclass, value

CACHE_WORDS = ("hit", "stale", "miss", "pass", "error")
"""What the cache had to do with an answer."""


@value
class RequestAnswered:
    """A client's request was answered. `duration` is seconds from the first byte of its head to the last of the answer.

    `cache` is one of CACHE_WORDS; `outcome` is 'complete', 'broken' (the answer broke off) or 'abandoned' (the client left). `code` is that of a refusal or ''.
    `origin_seconds` is the time until the origin's heads came, `queue_seconds` the wait for a place at the origin. `request_id` is the
    trace id of the client's `traceparent`, else one that was made; '' leaves it to the observer of a batch to make one. `trace` is there
    if traces are sent, and stays in this process.
    """

    client: str
    method: str
    target: str
    status: int
    route: str
    cache: str
    cache_status: str
    duration: float
    sent_bytes: int
    outcome: str = "complete"
    code: str = ""
    origin_seconds: float = 0.0
    queue_seconds: float = 0.0
    request_id: str = ""
    trace: Trace | None = None


TTL = "\0"


class Repeated:
    """What all hits of one answer that is kept as bytes have in common: `client` is '' unless a key named it, and `TTL` stands in `cache_status`
    for seconds. An observer keeps here what it made of it, so that a hit costs it little."""

    __slots__ = ("event", "labels", "line")

    def __init__(self, event: RequestAnswered) -> None:
        self.event = event
        self.labels: tuple[str, str, int] | None = None
        self.line: tuple[object, str, str, str] | None = None


Answered = tuple[Repeated | RequestAnswered, float, str, int, float, bytes]
"""A request that was answered: the moment in epoch seconds, the peer's address, the seconds for `TTL`, the duration, and the field lines that may
have its `traceparent`."""


def event_of(answered: Answered) -> RequestAnswered:
    """The whole event."""
    told, _, address, ttl, duration, lines = answered
    if isinstance(told, RequestAnswered):
        return told
    event = told.event
    status = event.cache_status.replace(TTL, str(ttl))
    client, request_id = event.client or address, trace_id(traceparent_in(lines))
    return replace(event, client=client, cache_status=status, duration=duration, request_id=request_id)


@dataclass(frozen=True, slots=True)
class RequestRejected:
    """Something on the proxy or admin listener was refused before or on the road; `code` is that of the contract.

    `listener` is `admin`, or '' for the proxy's: what is refused there is no client's request.
    """

    code: str
    detail: str
    client: str = ""
    request_id: str = ""
    listener: str = ""


@value
class OriginAnswered:
    """The origin answered a request of ours; `duration` is seconds to its head, `request_id` that of the client's request ('' for background work)."""

    method: str
    target: str
    status: int
    duration: float
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class OriginFailed:
    """A request of ours got no answer; `code` is that of the refusal it became."""

    method: str
    target: str
    code: str
    detail: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class TokenRefreshed:
    """A new generation is in use. `access_until` and `runway` as in `/api/status`; `grant` tells how it came, `duration` how long a refresh took."""

    generation: int
    grant: str
    access_until: float | None
    runway: float | None
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class RefreshFailed:
    """An attempt did not give a pair. `outcome` is unsent, answered, lost, refused or misconfigured; `retry_at` epoch seconds or None.

    `duration` is how long it took, in seconds.
    """

    outcome: str
    reason: str
    attempt: int
    retry_at: float | None
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class ChainChanged:
    """The refresh chain or the access token went from one state into another. `before` is the chain's state that was recorded last, here or by an
    earlier owner, if it was another one; '' where this process follows."""

    access: str
    chain: str
    reason: str
    runway: float | None
    remedy: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True)
class PairErased:
    """A logout erased the pair. `revocation` tells what became of it at the provider."""

    revocation: str


@dataclass(frozen=True, slots=True)
class RunwayWarned:
    """A warning before the pair dies. `kind` is raised, repeated or recovered, `level` log, notify, page or none (on recovery).

    `deadline` is by when a person is needed, in epoch seconds, None if that is unknown.
    """

    kind: str
    level: str
    reason: str
    remedy: str
    runway: float | None
    deadline: float | None


@dataclass(frozen=True, slots=True)
class AlertFailed:
    """An alert did not get out by `hook` (command or webhook); told once until one does again."""

    hook: str
    detail: str


@dataclass(frozen=True, slots=True)
class PairNotSaved:
    """The pair lives in memory only, because its folder cannot be written; `detail` names the file."""

    detail: str


@dataclass(frozen=True, slots=True)
class PairFileDamaged:
    """A stored pair could not be understood; `detail` names the file and where it was kept."""

    detail: str


@dataclass(frozen=True, slots=True)
class OwnershipChanged:
    """Who holds the pair. `role` is `owner` (this process renews it from now on) or `following` (another one does; `detail` names it)."""

    role: str
    detail: str = ""


@value
class EntryStored:
    """An answer was stored."""

    key: str
    route: str
    size: int


@dataclass(frozen=True, slots=True)
class EntriesWarmed:
    """The most used entries were revalidated because the runway shrinks. `asked` requests were sent, `renewed` of them answered well.

    `ended_by` is the code of the refusal that ended the pass early, or ''.
    """

    asked: int
    renewed: int
    ended_by: str = ""


@dataclass(frozen=True, slots=True)
class EntriesEvicted:
    """Entries went to make room."""

    count: int
    tier: str = "disk"


@dataclass(frozen=True, slots=True)
class EntriesPurged:
    """Entries went because someone or something asked; `why` is command, soft purge (made stale), invalidation, revoked, damaged or changed."""

    count: int
    why: str


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The cache could not be read or written: a miss or a pass for the client."""

    detail: str


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The daemon itself: `phase` is starting, ready, reloading, reloaded, draining, stopped."""

    phase: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something an operator should know, with what to do; `code` is a stable word (`state_volatile`, `daily_budget`).

    `over`: what was warned of under that code is so no longer, and `detail` says so. `about` tells warnings of one code apart that stand
    side by side, such as the keys of a configuration.
    """

    code: str
    detail: str
    over: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class Audited:
    """The pair or the daemon was changed, or a change was tried: `action` on `target`, by `who` from `peer` (an address or a socket).

    `outcome` is done, failed, refused, abandoned, or the code of what went wrong.
    """

    action: str
    who: str
    peer: str = ""
    target: str = ""
    outcome: str = "done"


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A task that must live on met a fault it did not expect; `where` names the task, `detail` the fault without secrets.

    `listener` as in RequestRejected; `request_id` if it was a client's request.
    """

    where: str
    detail: str
    listener: str = ""
    request_id: str = ""


Event = (
    RequestAnswered
    | RequestRejected
    | OriginAnswered
    | OriginFailed
    | TokenRefreshed
    | RefreshFailed
    | ChainChanged
    | PairErased
    | RunwayWarned
    | AlertFailed
    | PairNotSaved
    | PairFileDamaged
    | OwnershipChanged
    | EntryStored
    | EntriesWarmed
    | EntriesEvicted
    | EntriesPurged
    | StoreFailed
    | Lifecycle
    | Warned
    | Audited
    | TaskFailed
)
