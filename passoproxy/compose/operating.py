"""What makes the cache operable: explanations, soft purges, filling it, and the change probe of the passolution preset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from dataclasses import dataclass

from passoproxy.compose.admission import LiveAdmission
from passoproxy.compose.road import Road
from passoproxy.config.reading import Loaded
from passoproxy.core import passolution
from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import Event
from passoproxy.core.http.messages import RequestHead
from passoproxy.errors import BodyBroken, Refusal
from passoproxy.ports import Clock, Observer
from passoproxy.proxy import codings
from passoproxy.proxy.explaining import Explaining, Judges
from passoproxy.proxy.explanation import Explanation
from passoproxy.proxy.softening import Keeping, Softening
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.upkeep.filling import Conditions, Filled, Filling, Order
from passoproxy.upkeep.probing import Probing, Surroundings, Watched

_LARGEST_PLAIN = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Operating:
    """The parts; `probing` is None without the preset whose service can be asked."""

    softening: Softening
    explaining: Explaining
    filling: Filling
    probing: Probing | None

    async def explain(self, head: RequestHead, body: bytes) -> Explanation:
        """See `Explaining.explain`."""
        return await self.explaining.explain(head, body)

    def fill(self, orders: Iterable[Order]) -> AsyncGenerator[Filled, None]:
        """See `Filling.fill`."""
        return self.filling.fill(orders)

    async def soften(self, selector: Selector) -> None:
        """See `Softening.soften`."""
        await self.softening.soften(selector)

    def probe(self) -> dict[str, object] | None:
        """See `Probing.shown`."""
        return None if self.probing is None else self.probing.shown()

    def tasks(self) -> list[tuple[str, Coroutine[object, object, None]]]:
        """What is to run as long as the daemon, with names."""
        return [] if self.probing is None else [("change probe", self.probing.run())]


def watched_by(loaded: Loaded) -> Watched | None:
    """Who is to hear what is stored, so that its changes can be asked for; None where the provider has no such service."""
    return Watched() if loaded.settings.provider == "passolution" else None


def hearing(observer: Observer, watched: Watched | None) -> Observer:
    """An observer that tells `watched` too."""
    if watched is None:
        return observer
    heed = watched.heed

    def observe(event: Event) -> None:
        observer(event)
        heed(event)

    return observe


def build_operating(
    road: Road,
    store: TieredStore,
    kept: Keeping,
    admission: LiveAdmission,
    partition: Callable[[], str],
    clock: Clock,
    observer: Observer,
    watched: Watched | None,
    leads: Callable[[], bool],
) -> Operating:
    """Over a road that is built; `kept` has the soft purges of `store`.

    `watched` hears what is stored, None where no change can be asked for; `leads` tells whether this is the one process of those that share a
    pair which asks.
    """
    softening = Softening(kept, clock, road.caching.terms_changed)
    road.caching.judge = softening.terms

    def purged() -> None:
        softening.look()
        road.caching.purged(
            Selector()
        )  # what of it was meant is not known here: nobody joins a question that was asked before

    store.on_purged = purged

    def admits(head: RequestHead) -> None:
        admission().method(head.method)
        admission().path(head)

    judges = Judges(
        table=lambda: road.routing.table,
        mode=lambda: road.caching.mode,
        partition=partition,
        admits=admits,
        spared=road.queueing.spared,
        terms=softening.terms,
        ended=softening.ended,
    )
    explaining = Explaining(store, judges, clock)
    conditions = Conditions(
        at_once=lambda: max(1, road.queueing.max_concurrency - 1),
        rests_until=lambda: road.queueing.snapshot().background_rests_until,
    )
    filling = Filling(road.caching, explaining.outlook, conditions, clock)
    if watched is None:
        return Operating(softening, explaining, filling, None)
    surroundings = Surroundings(
        forbidden=lambda: _forbidden(road, admits, leads),
        partition=partition,
        plain=_plain,
        dropped=road.caching.purged,
    )
    probing = Probing(road.queueing, store, watched, surroundings, clock, observer)
    return Operating(softening, explaining, filling, probing)


def _forbidden(road: Road, admits: Callable[[RequestHead], None], leads: Callable[[], bool]) -> str:
    """Why the service is not asked for changes; '' where nothing speaks against it."""
    if not leads():
        return "another process holds the pair, and asks for all: the account has one quota"
    if road.caching.mode.offline:
        return "cache.offline"
    if (name := road.routing.table.find(passolution.UPDATES).name) != passolution.ROUTE:
        return f"switched off: {passolution.UPDATES} is under route {name!r}, and not {passolution.ROUTE!r}"
    try:
        admits(RequestHead("POST", passolution.UPDATES))
    except Refusal as refused:
        return f"switched off: {refused.detail}"
    return ""


async def _plain(body: bytes, coding: str) -> bytes | None:
    if coding.strip().lower() in ("", "identity"):
        return body
    if (name := codings.known(coding)) is None:
        return None
    try:
        return await asyncio.to_thread(codings.decoded, body, name, _LARGEST_PLAIN)
    except BodyBroken:
        return None
