"""What the inner rooms ask of the world: messages with bodies, and the protocols that edges implement.

A hop offers `send` and holds the next. Whoever does not pass a Response on closes its body; a body is a small class with
`aclose`, never a generator, because `finally` in a generator that was never started does not run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import NamedTuple, Protocol, runtime_checkable

from passoproxy.core.budget import Ages
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import Event
from passoproxy.core.http.messages import FieldLines, RequestHead, ResponseHead
from passoproxy.core.http.trace_context import Trace
from passoproxy.core.oauth.alert_levels import Alarmed
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.transaction import Candidate, Intent, lasting
from passoproxy.values import dataclass, value

# ---- bodies ----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Body(Protocol):
    """A stream of bytes, read once.

    `length` is the number of bytes it will give where that is known beforehand. Iteration raises `BodyBroken` when the stream ends
    before its end, and a `Refusal` where one can still be told. `aclose` may be called at any time, more than once.
    """

    length: int | None

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


class BytesBody:
    """A body that is in memory already. `data` may be read without iterating, as often as one likes."""

    __slots__ = ("_given", "data", "length")

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.length: int | None = len(data)
        self._given = not data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._given:
            raise StopAsyncIteration
        self._given = True
        return self.data

    async def aclose(self) -> None:
        self._given = True


NO_BODY = BytesBody()
"""No bytes; may be read and closed any number of times."""


async def read_whole(body: Body, max_bytes: int) -> bytes | None:
    """All of `body`, or None (and the body closed) as soon as it turns out longer than `max_bytes`."""
    if isinstance(body, BytesBody):
        return body.data if len(body.data) <= max_bytes else None
    if body.length is not None and body.length > max_bytes:
        await body.aclose()
        return None
    parts: list[bytes] = []
    size = 0
    async for part in body:
        size += len(part)
        if size > max_bytes:
            await body.aclose()
            return None
        parts.append(part)
    return b"".join(parts)


class SpillFile(Protocol):
    """Part of one body on disk, by offsets in the body: `write` adds at its end, `trim` gives up its start."""

    async def write(self, at: int, data: bytes) -> bool:
        """Takes `data`, which begins at offset `at`: where the file's part ends, or anywhere beyond if it holds none.

        False where there is no room, or no disk: then nothing was taken.
        """
        ...

    async def read(self, at: int, most: int) -> bytes:
        """At most so many of the bytes from offset `at` on, at least one. Raises BodyBroken where the disk fails."""
        ...

    def trim(self, at: int) -> None:
        """Nobody asks for bytes before offset `at` any more."""
        ...

    def close(self) -> None:
        """Gives its room back. May be called at any time, more than once."""
        ...


class Spill(Protocol):
    """Disk for what memory has no room for: request bodies and answers that go on more slowly than they come."""

    def open(self) -> SpillFile:
        """A file that holds nothing; it exists once something is written."""
        ...


# ---- the road --------------------------------------------------------------------------------------------------------


@value
class Client:
    """Who asks. `address` is the peer's (IP text, or 'unix' with the user id); `name` the client key's name or ''."""

    address: str = ""
    name: str = ""


@dataclass(slots=True)
class Trail:
    """What the hops learn about a request on its way, for the observers: the only thing on the road that is written to.

    `cache` is the metrics' word: hit, stale, miss, pass or error. `key` is the primary key's digest where one was made.
    `bearer` is sent with it, or was sent last: None where none of ours is. `authorized_as` is the identity (a partition) that it is of: ''
    where that cannot be told, None without a bearer. `stays`: once the request was sent, a client that leaves does not end it; `left`: one
    has left so. `awaited`: a client has joined what began as background work. `client` is the name of the client key that let it in, `target`
    what was asked for below `server.base_path`, '' without one.
    `origin_seconds` is the time until the origin's heads came, `queue_seconds` the wait for a place at the origin. `request_id` is that of the
    access line, '' for background work; `trace` is there if traces are sent. `from_store`: what was stored is the answer.
    """

    route: str = ""
    cache: str = "pass"
    key: str = ""
    origin_requests: int = 0
    origin_seconds: float = 0.0
    queue_seconds: float = 0.0
    bearer: Bearer | None = field(default=None, repr=False)
    authorized_as: str | None = None
    stays: bool = False
    left: bool = False
    awaited: bool = False
    client: str = ""
    target: str = ""
    request_id: str = ""
    trace: Trace | None = None
    from_store: bool = False


@value
class Request:
    """A request on the road. `received_at` is epoch seconds; `on_interim` takes 102 and 103 heads for clients that understand them.

    `policy` is None until routing has found it; `lines` are those that the head was read from, if they are remembered.
    """

    head: RequestHead
    body: Body
    client: Client = field(default_factory=Client)
    received_at: float = 0.0
    policy: RoutePolicy | None = None
    trail: Trail = field(default_factory=Trail)
    on_interim: Callable[[ResponseHead], None] | None = None
    background: bool = False
    """Whether no client waits for it (refresh ahead, revalidation, probes, warming): it stands back, and is the first to be refused."""
    lines: FieldLines | None = None

    def with_head(self, head: RequestHead) -> Request:
        """The same request (and trail) with another head."""
        # Not dataclasses.replace: it costs several microseconds, and every request passes here more than once.
        return Request(
            head,
            self.body,
            self.client,
            self.received_at,
            self.policy,
            self.trail,
            self.on_interim,
            self.background,
        )


@value
class Response:
    """An answer on the road. Its body must be closed by whoever does not pass it on.

    `content_id` names the body's bytes (a stored entry's digest) so that outer hops may remember what they made of them; '' if unknown.
    """

    head: ResponseHead
    body: Body
    content_id: str = ""

    def with_head(self, head: ResponseHead) -> Response:
        """The same body under another head."""
        return Response(head, self.body, self.content_id)


class Hop(Protocol):
    """One step of a request's road. Raises a `Refusal` where it answers by refusing."""

    async def send(self, request: Request) -> Response: ...


# ---- the cache -------------------------------------------------------------------------------------------------------


class Outlook(NamedTuple):
    """In short, what would become of a request: `outcome` is hit, miss or pass, `why` the last of the reasons. `is_fresh`: a stored answer is.

    `request` is the request as it reaches the cache.
    """

    outcome: str
    why: str
    is_fresh: bool
    request: Request


class EntryWriter(Protocol):
    """One response on its way into a store. Exactly one of `commit` and `abandon` ends it; `abandon` after `commit` does nothing.

    All raise `EntryStoreFailure`; after one, `abandon` still has to be called.
    """

    async def write(self, data: bytes) -> None: ...

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        """Makes it visible and returns it with `size` and `digest` filled in; None where a purge meanwhile counts against it.

        `entry` replaces the head given at the start (for what is known only at the end: `content_digest`, `made_etag`).
        It replaces every stored entry of the same key whose `varies` are equal.
        """
        ...

    async def abandon(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreStats:
    """`bytes_used` counts all files that belong to the store; `evictions` since it was opened."""

    entries: int = 0
    bytes_used: int = 0
    evictions: int = 0
    tier: str = "disk"


class EntryStore(Protocol):
    """Where entries live. Damage, loss and a full disk cost misses only: methods raise `EntryStoreFailure` for what a caller must know."""

    async def select(self, key: str) -> Sequence[Entry]:
        """All variants of a primary key, the youngest (by `response_time`) first."""
        ...

    async def read(self, entry: Entry) -> Body | None:
        """The body of an entry; None where it is lost or damaged (the entry is then gone too). A small body comes as BytesBody."""
        ...

    async def create(self, entry: Entry) -> EntryWriter:
        """Begins to store `entry`; purges from now on count against it."""
        ...

    async def update(self, entry: Entry) -> None:
        """A new head for the stored entry of the same `identifier`, its body unchanged; nothing where it is gone."""
        ...

    async def discard(self, entry: Entry) -> None:
        """Removes one entry."""
        ...

    async def purge(self, selector: Selector, *, brief: bool = False) -> int:
        """Removes what `selector` means, what is being stored right now included; returns how many visible entries went.

        `brief`: waits for a store that is slow or away as shortly as a request does.
        """
        ...

    def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        """What `selector` means, in no order, without blocking the loop."""
        ...

    async def stats(self) -> StoreStats: ...

    async def by_route(self, names: Sequence[str]) -> dict[str, int]:
        """How many entries these routes have, those included that a purge under way has not removed yet."""
        ...

    def generation(self) -> int:
        """A number that grows whenever something stored was changed or removed, by any process; cheap to ask (no await, no I/O beyond shared memory)."""
        ...

    async def close(self) -> None: ...


class MemoryEntryStore(EntryStore, Protocol):
    """An `EntryStore` that holds entries in this process's memory, all or some: those can be had without waiting."""

    def get_nowait(self, key: str) -> Sequence[Entry] | None:
        """As `select`; None where that needs I/O."""
        ...

    def read_nowait(self, entry: Entry) -> bytes | None:
        """The whole body of an entry; None where that needs I/O, or it is lost."""
        ...

    def keep_up(self) -> bool:
        """Takes in what other processes have changed and purged, as asking for a key does; whether there was anything. Cheap."""
        ...


class Ledger(Protocol):
    """Where the count of requests to the origin lasts, and is shared."""

    async def add(self, count: int, known: Mapping[int, int], now: float) -> Ages:
        """Adds so many requests of `now` (epoch seconds), and returns what is counted, by age as of then (`core.budget`). `known` is what the
        caller had counted, these included: it counts where the ledger has lost it. Raises PassoproxyError if the ledger cannot be used; then it
        may be told once more. A call that is cancelled may have counted.
        """
        ...


# ---- the pair --------------------------------------------------------------------------------------------------------


class BearerSource(Protocol):
    """The holder of the access token, seen from the pipeline."""

    def current(self) -> Bearer | None:
        """The bearer that is usable now, without waiting."""
        ...

    async def bearer(self) -> Bearer:
        """A usable bearer, waiting for a bounded time where one is on its way. Raises AuthorizationRequired or TokenUnavailable."""
        ...

    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
        """After a 401 for `refused`: a newer bearer, from one refresh shared by all who ask; None if there is none to be had (no second refresh).

        `path` is a text that tells the path from others; `again`: it had refused an older bearer before, so that no refresh is started.
        Raises AuthorizationRequired while the chain is dead: the grant was withdrawn, a person is needed.
        """
        ...

    def snapshot(self) -> TokenSnapshot:
        """The pair as it is shown."""
        ...

    async def news(self, seconds: float) -> None:
        """Waits until there may be something new to see, for at most so many seconds."""
        ...

    @property
    def partition(self) -> str:
        """The identity whose answers these are (issuer, client, subject, scope) as a digest; survives rotation."""
        ...

    @property
    def usable_until(self) -> float:
        """Until when a bearer is usable; before that moment no stored answer tells the runway. In epoch seconds as of the last change."""
        ...

    @property
    def serving(self) -> object:
        """The same object for as long as the partition stays and `usable_until` does not move back."""
        ...

    def runway(self, *, unless_usable: bool = False) -> int | None:
        """What `Passoproxy-Runway` tells of this moment, None if nothing; with `unless_usable`, nothing beside a usable bearer."""
        ...


async def sends() -> bool:
    """The `about_to_send` of a request before which nothing has to be recorded."""
    return True


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to the token or revocation endpoint. `body` and `headers` hold secrets and are not shown."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False, default=())
    body: bytes = field(repr=False, default=b"")
    about_to_send: Callable[[], Awaitable[bool]] = field(repr=False, compare=False, default=sends)
    """Awaited to its end when the connection stands, before the first byte is written: a False leaves the request unsent. Does not raise."""
    grant: str = ""
    """What it asks for: a grant type of RFC 6749, or `revocation`."""


@dataclass(frozen=True, slots=True)
class TokenReply:
    """What came back, uninterpreted. `sent_at` is epoch seconds from before the request was sent; `body` at most 64 KiB + 1 byte."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    sent_at: float = 0.0
    received_at: float = 0.0


class TokenEndpoint(Protocol):
    """The provider's endpoints. One request, one connection, no redirect followed, nothing sent again."""

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        """Raises TokenRequestUnsent before the connection stood, TokenAnswerLost after. `timeout` bounds the whole exchange, in seconds."""
        ...


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A token answer as it came, durable before it is interpreted. `grant` tells what it answered; `previous_generation` what it follows."""

    body: bytes = field(repr=False)
    content_type: str = "application/json"
    sent_at: float = 0.0
    grant: str = "refresh_token"
    previous_generation: int = 0
    client: str = ""
    """Whose it is, as `Pair.client`."""


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """What must survive a restart beside the pair: the chain's state and which refresh tokens are known to be spent or dead.

    `state` is the chain's word (healthy, retrying, unknown, dead, none), `spent` are SHA-256 digests (hex) of refresh tokens,
    the youngest last. `intent` is the refresh that was begun and whose end is not known, `asked_at` when the provider was asked last
    (epoch seconds), so that a restart does not ask again within the same second. `client` says whose chain this is, as `Pair.client`;
    `others` are the records of those whose pairs are kept for another configuration. `candidate` is a second pair that waits for its proof.
    """

    state: str = "none"
    reason: str = ""
    spent: tuple[str, ...] = ()
    intent: Intent | None = None
    asked_at: float = 0.0
    extra: tuple[tuple[str, str], ...] = ()
    client: str = ""
    others: tuple[ChainRecord, ...] = ()
    candidate: Candidate | None = None

    def of(self, client: str) -> ChainRecord:
        """The record with the chain of `client` in force, and the one that was so among `others`. What was spent is known to all of them.

        A record of which it is not known whose it is belongs to `client`.
        """
        if self.client in ("", client):
            return replace(self, client=client)
        shared = lasting(self.extra)
        own = replace(self, spent=(), others=(), extra=tuple(note for note in self.extra if note not in shared))
        found = next((each for each in self.others if each.client == client), ChainRecord(client=client))
        others = tuple(each for each in self.others if each.client != client)
        return replace(
            found,
            spent=self.spent,
            asked_at=max(self.asked_at, found.asked_at),
            extra=(*shared, *found.extra),
            others=(*others, own) if own.state != "none" or own.intent or own.candidate else others,
        )


class PairStore(Protocol):
    """Where the pair lives. One owner at a time; the owner holds it from `acquire` to `release`.

    Every write is durable when it returns: temporary file, fsync, rename, directory fsync, mode 0600. Calls block and belong in a thread;
    the keeper sees to that. Raises PairStoreFailure, PairDamaged, PairStoreOwned.
    """

    def acquire(self) -> None:
        """Takes the ownership for life, or raises PairStoreOwned naming the owner. CannotCreate if the folder cannot be made."""
        ...

    def release(self) -> None: ...

    def may_present(self) -> bool:
        """Whether a refresh token may be presented this very moment: no other process can own the pair. False only if the ownership is a lease
        that has ended, which the next write raises as PairStoreOwned. No I/O."""
        ...

    def load(self) -> Pair | None:
        """The newest good generation; None if none was ever stored. Raises PairDamaged with the file named and kept aside."""
        ...

    def load_record(self) -> ChainRecord: ...

    def imports(self) -> ChainRecord:
        """Of a record that is damaged, the imports that wait for their proof; nothing else is in it. Raises PairDamaged."""
        ...

    def kept(self) -> tuple[Pair, ...]:
        """The newest pair of each other token endpoint or client whose pairs are kept here, the youngest first. Never raises."""
        ...

    def reserve(self) -> None:
        """Proves that an answer of full size can be kept: its space is taken and synced. PairStoreFailure if it cannot."""
        ...

    def keep_answer(self, answer: RawAnswer) -> None:
        """Makes a raw answer durable before anyone interprets it."""
        ...

    def pending_answer(self) -> RawAnswer | None:
        """An answer that was kept and not yet committed."""
        ...

    def commit(self, pair: Pair) -> None:
        """The pair becomes the newest generation, the one before is kept, and the pending answer is done with."""
        ...

    def save_record(self, record: ChainRecord) -> None: ...

    def erase(self) -> None:
        """Forgets every generation and pending answer (logout)."""
        ...


@dataclass(frozen=True, slots=True)
class Followed:
    """What a process that follows the pair's owner may know: never a refresh token. `snapshot` is the owner's, as `/api/status` shows it."""

    bearer: Bearer | None
    partition: str
    snapshot: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """A pair that was erased. `revocation` says in words what became of it at the provider, `partition` names the identity that it had."""

    revocation: str
    partition: str


# ---- alerts ----------------------------------------------------------------------------------------------------------


class AlertHook(Protocol):
    """One way for an alert to reach a person. `name` is the configuration's word for it."""

    @property
    def name(self) -> str: ...

    def where(self) -> str:
        """Where it goes, without what may be secret in that; '' if that cannot be told."""
        ...

    async def deliver(self, document: bytes) -> str:
        """Gets one JSON object out within 10 seconds; what came back, in a few words. Raises AlertUndelivered."""
        ...


class AlarmMemory(Protocol):
    """Remembers what was told of the runway, for the process that watches the pair next. Both calls block, and never raise."""

    def load(self) -> Alarmed | None:
        """What was remembered last; None if nothing was, or if it cannot be read."""
        ...

    def save(self, alarmed: Alarmed | None) -> None:
        """Remembers it, as well as can be; None: nothing was told since the last recovery."""
        ...


# ---- the world -------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """Time, so that tests can move it."""

    def wall(self) -> float:
        """Epoch seconds; may step."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back and count suspended time if the system can tell."""
        ...

    async def sleep(self, seconds: float) -> None: ...


Observer = Callable[[Event], None]
"""Told of every event, at once and in the caller's task: must be quick and must not raise."""


def nobody(event: Event) -> None:
    """The observer that looks away."""


def each_of(*observers: Observer) -> Observer:
    """An observer that tells all of `observers`, in this order."""

    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe
