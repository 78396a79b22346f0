"""A person authorises passoproxy: the ticket that sends them to the provider, and the redirect that comes back.

The pair that comes of it goes to the keeper, which alone writes it. Cookies and pages belong to the admin listener.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import field

from passoproxy.core.oauth.grants import Callback, authorization_url, equal, read_callback, spoken
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.token_response import Misconfigured
from passoproxy.errors import CommandFailure, PassoproxyError, PersonNeeded, ServiceUnreachable
from passoproxy.ports import Clock, RawAnswer
from passoproxy.tokens.commands import Login, LoginPending
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.provider_client import Asking
from passoproxy.tokens.refresh import failure_of
from passoproxy.tokens.waits import first_of
from passoproxy.values import dataclass

LIFETIME = 600.0
"""Seconds that a ticket is good for."""

MOST_TICKETS = 64
"""So many logins may be open at once; the oldest gives way."""

EXCHANGE_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class LoginTicket:
    """A login that was begun. `url` is where the person goes; `expires_at` is epoch seconds."""

    state: str = field(repr=False)
    url: str = field(repr=False)
    expires_at: float


@dataclass(slots=True, eq=False)
class _Open:
    """A ticket on our side. `cookie` None: a command began it, and only that command knows its `state`. `work` is under way once it was used."""

    state: str = field(repr=False)
    cookie: str | None = field(repr=False)
    verifier: str | None = field(repr=False)
    expires_at: float
    outcome: asyncio.Future[TokenSnapshot]
    work: asyncio.Future[None] | None = None


class Logins:
    """Logins under way. `random_text` gives URL-safe text from so many random bytes."""

    def __init__(self, asking: Asking, keeper: Holder, clock: Clock, random_text: Callable[[int], str]) -> None:
        self._asking, self._keeper, self._clock, self._random_text = asking, keeper, clock, random_text
        self._open: list[_Open] = []
        self._ended: list[_Open] = []
        self._announced = 0.0
        self._leaving = asyncio.Event()

    async def begin(self, cookie: str | None = None) -> LoginTicket:
        """A new ticket, good once and for ten minutes. `cookie` is the secret that the browser has to bring again, None for a command's login."""
        provider = self._asking.provider
        if not provider.authorization_url:
            raise CommandFailure("nobody can log in with this oauth.grant: oauth.authorization_url is not set")
        state = self._random_text(32)
        verifier = self._random_text(48) if provider.pkce else None
        expires_at, now = self._clock.wall() + LIFETIME, self._clock.monotonic()
        self._open = [ticket for ticket in self._open if now < ticket.expires_at][-(MOST_TICKETS - 1) :]
        self._ended = [ticket for ticket in self._ended if now < ticket.expires_at]
        outcome: asyncio.Future[TokenSnapshot] = asyncio.get_running_loop().create_future()
        self._open.append(_Open(state, cookie, verifier, now + LIFETIME, outcome))
        await self._announce(now + LIFETIME)
        return LoginTicket(
            state, authorization_url(provider, self._asking.client.client_id, state, verifier), expires_at
        )

    async def complete(self, redirect: str, cookie: str | None = None) -> TokenSnapshot:
        """Takes a redirect (its query, or the whole URL as pasted) and puts the pair into use.

        `cookie` is what came with it, None if nothing did. Raises PersonNeeded for a login that was denied, other CommandFailures
        for a redirect of no open login, or of another browser's, and for what went wrong at the provider.
        """
        callback = read_callback(redirect)
        ticket = self._taken(callback, cookie)
        # a browser that hangs up must not cancel this: the code is spent as soon as the provider reads it
        ticket.work = asyncio.ensure_future(self._finish(callback, ticket))
        await asyncio.shield(ticket.work)
        return ticket.outcome.result()

    async def _finish(self, callback: Callback, ticket: _Open) -> None:
        """Never raises: the outcome is in the ticket, also if no caller is left to raise to."""
        fault: PassoproxyError | None = None
        try:
            shown = await self._exchanged(callback, ticket)
            self._announced = 0.0  # the pair is here, so that none is waited for
        except PassoproxyError as known:
            fault = known
        except Exception as unknown:
            fault = CommandFailure(f"the login failed by a fault inside passoproxy ({type(unknown).__name__})")
        if fault is None:
            ticket.outcome.set_result(shown)
            return
        # clients wait for those only that are still open
        await self._announce(min(self._announced, max((other.expires_at for other in self._open), default=0.0)))
        ticket.outcome.set_exception(fault)
        ticket.outcome.exception()  # looked at, so that the loop does not complain if it is not asked for

    async def _announce(self, until: float) -> None:
        """Has clients wait for the logins that are open, until `until` (steady clock) at the latest."""
        self._announced = until
        left = max(0.0, until - self._clock.monotonic())
        await self._keeper.execute(LoginPending(self._clock.wall() + left))

    async def wait(self, state: str, timeout: float) -> TokenSnapshot | None:
        """The outcome of the login of `state`, None if it has none within `timeout` seconds. Raises as `complete` does."""
        ticket = _found(state, [*self._open, *self._ended])
        if ticket is None or (not ticket.outcome.done() and self._clock.monotonic() >= ticket.expires_at):
            raise CommandFailure(
                "this login is not known, or ten minutes have passed since it was begun; begin it again"
            )
        await first_of(asyncio.wait([ticket.outcome]), self._leaving.wait(), self._clock.sleep(timeout))
        if ticket.outcome.done():
            return ticket.outcome.result()
        if self._leaving.is_set():
            raise ServiceUnreachable("passoproxy is being stopped; begin the login again when it is back")
        return None

    async def leave(self, within: float) -> None:
        """Ends the waits for logins; answers when logins whose code is at the provider have ended, within so many seconds."""
        self._leaving.set()
        if under_way := [ticket.work for ticket in self._ended if ticket.work is not None and not ticket.work.done()]:
            await asyncio.wait(under_way, timeout=within)

    async def _exchanged(self, callback: Callback, ticket: _Open) -> TokenSnapshot:
        if callback.error:
            said = f" ({callback.description})" if callback.description else ""
            raise PersonNeeded(
                f"the login was not granted: the provider says {spoken(callback.error)}{said}; begin it again"
            )
        if not callback.code:
            raise CommandFailure("the redirect brought neither a code nor an error; begin the login again")
        answer = await self._asking.exchange(callback.code, ticket.verifier, EXCHANGE_TIMEOUT)
        if isinstance(answer, RawAnswer):
            return await self._keeper.execute(Login(answer))
        if isinstance(answer, Misconfigured):
            raise failure_of(answer)
        fault = failure_of(answer)
        raise type(fault)(f"the login did not succeed: {answer.reason}; begin it again")

    def _taken(self, callback: Callback, cookie: str | None) -> _Open:
        """The open ticket of a redirect, used up by it."""
        ticket = _found(callback.state, self._open)
        if ticket is None or self._clock.monotonic() >= ticket.expires_at:
            raise CommandFailure(
                "the redirect's state belongs to no open login: it was used already, is older than ten minutes, or was not begun here; begin it again"
            )
        if ticket.cookie is not None and (cookie is None or not equal(ticket.cookie, cookie)):
            raise CommandFailure(
                "the redirect's state belongs to a login of another browser; begin it again in this one"
            )
        self._open.remove(ticket)
        self._ended = [*self._ended, ticket][-MOST_TICKETS:]
        return ticket


def _found(state: str, tickets: Sequence[_Open]) -> _Open | None:
    """The ticket of `state`; every one is compared, so that the time tells nothing."""
    found = [ticket for ticket in tickets if equal(ticket.state, state)]
    return found[0] if state and found else None
