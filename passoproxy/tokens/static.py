"""A static token in the keeper's place (`oauth.grant: static`): used as it is, read anew, never refreshed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from passoproxy.core.events import ChainChanged
from passoproxy.core.oauth.chain import Access, Chain, Standing
from passoproxy.core.oauth.identity import static_partition
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.settings import Provider, Terms
from passoproxy.core.oauth.snapshot import TokenSnapshot, snapshot
from passoproxy.core.oauth.token_response import claims_of
from passoproxy.errors import CommandFailure, PassoproxyError, Refusal, TokenUnavailable
from passoproxy.ports import Clock, Observer, nobody
from passoproxy.tokens.commands import (
    Command,
    Export,
    Import,
    Leave,
    Login,
    LoginPending,
    Logout,
    Refill,
    Refresh,
    Renew401,
)
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.waits import first_of

T = TypeVar("T")

READ_INTERVAL = 20.0
"""A changed token is noticed within this many seconds."""


_REFUSALS: dict[type, str] = {
    Refresh: "the token is never refreshed; replace it in oauth.static_token_file",
    Import: "no pair can be taken over; replace the token in oauth.static_token_file",
    Login: "nobody can log in; set oauth.grant to authorization_code",
    Logout: "there is no pair to erase; remove the token from oauth.static_token_file",
}


class StaticToken(Holder):
    """A Holder of a token that is only read. `read` gives it; it raises a PassoproxyError that says why it cannot. None: there is no token, and
    `why` says so.

    The partition stays the same for a changed token of the same `sub`.
    """

    def __init__(
        self,
        *,
        read: Callable[[], str] | None,
        provider: Provider,
        clock: Clock,
        observe: Observer = nobody,
        why: str = "",
    ) -> None:
        self._read, self._issuer, self._observe = read, provider.token_url, observe
        super().__init__(clock, static_partition(self._issuer, ""))
        self._bearer: Bearer | None = None
        self._fault = self._why = why

    def current(self) -> Bearer | None:
        return self._bearer

    def snapshot(self) -> TokenSnapshot:
        pair, held = None, self._bearer
        if held is not None:
            pair = Pair(held.token, access_until=held.until, generation=held.generation, source="static")
        standing, terms = Standing(Access.VALID if pair else Access.NONE, Chain.NONE), Terms(grant="static")
        return snapshot(pair, standing, terms, self._clock.wall(), reason=self._fault, last_error=self._fault)

    def may_come(self, within: float) -> bool:
        return False

    def refusal(self) -> Refusal:
        return TokenUnavailable(self._why or f"no static token: {self._fault}", READ_INTERVAL)

    async def bearer(self) -> Bearer:
        self._look()
        return await super().bearer()

    async def execute(self, command: Command[T]) -> T:
        """Looks at the file anew after a 401, and exports the token: nothing is lost by that. Other commands are refused."""
        answer: Any = None
        match command:
            case Renew401():
                self._look()
                answer = self._bearer.generation if self._bearer is not None else 0
            case Export():
                answer = {"access_token": (await self.bearer()).token, "token_type": "Bearer"}
            case Refill():
                answer = False
            case LoginPending() | Leave():
                pass
            case _:
                raise CommandFailure(self._why or f"oauth.grant is static: {_REFUSALS[type(command)]}")
        return answer  # type: ignore[no-any-return]

    async def open(self) -> None:
        """Reads the token for the first time; a token that cannot be read is told, and read again later."""
        self._look()

    async def run(self) -> None:
        while not self._closing.is_set():
            await first_of(self._closing.wait(), self._clock.sleep(READ_INTERVAL))
            self._look()

    def _look(self) -> None:
        if self._read is None:
            return
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
        self.partition = static_partition(self._issuer, token)
        self._tell()
        shown = self.snapshot()
        self._observe(ChainChanged(shown.access, shown.chain, shown.reason, shown.runway_seconds, shown.remedy))
