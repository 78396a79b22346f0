"""A static token in the keeper's place (`oauth.grant: static`): used as it is, read anew, never refreshed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict

from passoproxy.core.events import ChainChanged
from passoproxy.core.oauth.chain import Access, Chain, Standing
from passoproxy.core.oauth.identity import static_partition
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.settings import Provider, Terms
from passoproxy.core.oauth.snapshot import TokenSnapshot, snapshot
from passoproxy.core.oauth.token_response import claims_of
from passoproxy.errors import CommandFailure, PassoproxyError, TokenUnavailable
from passoproxy.ports import Clock, Followed, LoggedOut, Observer, RawAnswer, nobody
from passoproxy.tokens.commands import first_of

READ_INTERVAL = 20.0
"""A changed token is noticed within this many seconds."""


class FixedKeeper:
    """Offers what Keeper offers, for a token that is only read. `read` gives it; it raises a PassoproxyError that says why it cannot."""

    def __init__(
        self, *, read: Callable[[], str], provider: Provider, clock: Clock, observe: Observer = nobody
    ) -> None:
        self._read = read
        self._issuer = provider.token_url
        self._terms = Terms(grant="static")
        self._clock = clock
        self._observe = observe
        self._bearer: Bearer | None = None
        self._fault = ""
        self._closed = asyncio.Event()
        self._partition = static_partition(self._issuer, "")

    def current(self) -> Bearer | None:
        """The token as it was read last."""
        return self._bearer

    @property
    def partition(self) -> str:
        """The identity's digest: the same for a changed token of the same `sub`."""
        return self._partition

    def snapshot(self) -> TokenSnapshot:
        """The token as it is shown."""
        pair = (
            Pair(
                self._bearer.token, access_until=self._bearer.until, generation=self._bearer.generation, source="static"
            )
            if self._bearer
            else None
        )
        standing = Standing(Access.VALID if pair else Access.NONE, Chain.NONE)
        return snapshot(pair, standing, self._terms, self._clock.wall(), reason=self._fault, last_error=self._fault)

    def add_login_pending(self, until: float) -> None:
        """Nobody can log in to a static token."""

    role = "owner"

    def followed(self) -> Followed:
        """What other processes may know; they read the token for themselves."""
        return Followed(self._bearer, self._partition, asdict(self.snapshot()))

    async def changes(self) -> AsyncIterator[Followed]:
        """What is so now, and again and again, until `close`."""
        while not self._closed.is_set():
            yield self.followed()
            await first_of(self._closed.wait(), self._clock.sleep(1.0))

    def limit_login_pending(self, until: float) -> None:
        """Likewise."""

    def set_login_pending(self, until: float, by: str) -> None:
        """Likewise."""

    async def news(self, seconds: float) -> None:
        """Waits so many seconds: nobody renews a static token, and a changed one is noticed by reading it."""
        await self._clock.sleep(seconds)

    async def bearer(self) -> Bearer:
        """The token. Raises TokenUnavailable where it cannot be read."""
        self._look()
        if self._bearer is None:
            raise TokenUnavailable(f"no static token: {self._fault}", READ_INTERVAL)
        return self._bearer

    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
        """After a 401: the token where it was changed meanwhile, else None."""
        self._look()
        return self._bearer if self._bearer is not None and self._bearer.generation > refused.generation else None

    async def refresh(self, force: bool = False) -> TokenSnapshot:
        """Refuses: a static token is replaced in its file."""
        raise CommandFailure(
            "oauth.grant is static: the token is never refreshed; replace it in oauth.static_token_file"
        )

    async def install(self, document: bytes, force: bool = False) -> TokenSnapshot:
        """Refuses likewise."""
        raise CommandFailure(
            "oauth.grant is static: no pair can be taken over; replace the token in oauth.static_token_file"
        )

    async def install_answer(self, answer: RawAnswer) -> TokenSnapshot:
        """Refuses likewise."""
        raise CommandFailure("oauth.grant is static: nobody can log in; set oauth.grant to authorization_code")

    async def refill(self, within: float) -> bool:
        """There is nothing to renew."""
        return False

    async def leave(self, within: float) -> None:
        """Nothing is under way."""

    async def hand_over(self) -> dict[str, object]:
        """The token as a pair without anything to renew it by: nothing is lost by giving it away. Holds a secret."""
        return {"access_token": (await self.bearer()).token, "token_type": "Bearer"}

    async def logout(self) -> LoggedOut:
        """Refuses: the file belongs to who wrote it."""
        raise CommandFailure(
            "oauth.grant is static: there is no pair to erase; remove the token from oauth.static_token_file"
        )

    async def open(self) -> None:
        """Reads the token for the first time; a token that cannot be read is told, and read again later."""
        self._look()

    async def run(self) -> None:
        """Reads it again and again, until `close`."""
        while not self._closed.is_set():
            await first_of(self._closed.wait(), self._clock.sleep(READ_INTERVAL))
            self._look()

    async def close(self) -> None:
        """Ends `run`."""
        self._closed.set()

    def _look(self) -> None:
        try:
            token = self._read().strip()
        except PassoproxyError as fault:
            # the token that was read before serves on: a file that is being replaced is no reason to refuse
            self._fault = str(fault)
            return
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            self._fault = "the static token is empty, or has characters that no header can carry"
            return
        self._fault = ""
        if self._bearer is not None and self._bearer.token == token:
            return
        ends = claims_of(token).get("exp")
        until = None
        if isinstance(ends, int | float) and not isinstance(ends, bool) and math.isfinite(ends):
            until = float(ends)
        self._bearer = Bearer(token, self._bearer.generation + 1 if self._bearer else 1, until)
        self._partition = static_partition(self._issuer, token)
        shown = self.snapshot()
        self._observe(ChainChanged(shown.access, shown.chain, shown.reason, shown.runway_seconds, shown.remedy))
