"""A keeper's life in fake time: what the tests of this folder start and stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from passoproxy.core.oauth.settings import Client, Provider, Terms
from passoproxy.core.oauth.token_response import document_of
from passoproxy.ports import TokenEndpoint
from passoproxy.tokens.commands import Import
from passoproxy.tokens.keeper import Keeper
from passoproxy.tokens.persistence import Saving
from passoproxy.tokens.provider_client import Asking
from passoproxy.tokens.state import State
from tests.fakes import FakeClock, MemoryPairStore, RememberingObserver, RotatingProvider, settle

T = TypeVar("T")

PROVIDER = Provider(
    token_url="https://provider.example/oauth/token",
    authorization_url="https://provider.example/oauth/authorize",
    redirect_url="http://127.0.0.1:8611/oauth/callback",
)


async def inline(call: Callable[[], T]) -> T:
    """Blocking work done at once."""
    return call()


@dataclass
class Life:
    """A keeper with everything around it; `start` and `stop` may be called again and again on one store."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: MemoryPairStore = field(default_factory=MemoryPairStore)
    observer: RememberingObserver = field(default_factory=RememberingObserver)
    terms: Terms = field(default_factory=lambda: Terms(link="http://127.0.0.1:8611/"))
    endpoint: TokenEndpoint | None = None
    chance: float = 0.5
    provider: Provider = PROVIDER
    seed: Callable[[], bytes] | None = None
    upstream: str = ""
    withdrawals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rotating = RotatingProvider(self.clock)
        self.salts = 0
        self.task: asyncio.Task[None] | None = None
        self.make()

    def make(self) -> Keeper:
        asking = Asking(
            self.endpoint or self.rotating, self.provider, Client("id"), lambda: "client-secret", self.observer
        )
        self.asking = asking
        saving = Saving(self.store, self.observer, inline)
        state = State(
            asking, saving, self.terms, self.clock, lambda: self.chance, self._salt, self.observer, self.upstream
        )
        self.keeper = Keeper(state, seed=self.seed, withdrawn=self._withdrawn)
        return self.keeper

    async def _withdrawn(self, partition: str) -> None:
        self.withdrawals.append(partition)

    def _salt(self) -> str:
        self.salts += 1
        return f"salt-{self.salts}"

    async def start(self) -> Keeper:
        self.make()
        await self.keeper.open()
        self.task = asyncio.create_task(self.keeper.run())
        await settle()
        return self.keeper

    async def stop(self) -> None:
        # an order under way may still have to wait for its second
        await asyncio.gather(self.keeper.close(), self.clock.advance(2))
        if self.task is not None:
            await self.task

    async def crash(self) -> None:
        """The process is gone: nothing is finished, the lock falls to whoever comes."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.store.loss = None
        self.store.owned = False

    async def started_with_pair(self, **words: object) -> Keeper:
        keeper = await self.start()
        await keeper.execute(Import(self.document(**words)))
        return keeper

    def document(self, **words: object) -> bytes:
        issued = {**self.rotating.issue(), "obtained_at": self.clock.wall(), **words}
        return json.dumps({name: value for name, value in issued.items() if value is not None}).encode()

    def held(self) -> dict[str, object]:
        """The newest pair, as a document of `token import`."""
        pair = self.keeper.state.newest
        assert pair is not None
        return document_of(pair)

    def having(self, **changes: object) -> Life:
        """Other terms from the next start on."""
        self.terms = replace(self.terms, **changes)  # type: ignore[arg-type]
        return self
