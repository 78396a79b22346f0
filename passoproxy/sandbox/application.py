"""The sandbox put together: one application with provider and origin, and a handle that starts and stops it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from aiohttp import web

from passoproxy.sandbox.control import Control
from passoproxy.sandbox.faults import FaultSet
from passoproxy.sandbox.index import Index
from passoproxy.sandbox.journal import Journal
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.origin import api
from passoproxy.sandbox.origin.answering import Answers
from passoproxy.sandbox.origin.changes import Changes
from passoproxy.sandbox.origin.guard import Guard
from passoproxy.sandbox.pointing import configuration_lines
from passoproxy.sandbox.provider.authorize import ACCOUNTS, AuthorizationEndpoint
from passoproxy.sandbox.provider.endpoint import TokenEndpoint
from passoproxy.sandbox.provider.grants import Grants
from passoproxy.sandbox.recording import Recording

__all__ = ["CHANGES", "FAULTS", "GRANTS", "JOURNAL", "Sandbox", "build", "configuration_lines"]

MAX_BODY_BYTES = 1024 * 1024

JOURNAL = web.AppKey("journal", Journal)
FAULTS = web.AppKey("faults", FaultSet)
GRANTS = web.AppKey("grants", Grants)
CHANGES = web.AppKey("changes", Changes)

Sleep = Callable[[float], Awaitable[object]]


def build(
    options: SandboxOptions, *, clock: Callable[[], float] = time.time, sleep: Sleep = asyncio.sleep
) -> web.Application:
    """The application; `clock` (epoch seconds) and `sleep` let a test or a drill have its own time."""
    journal, faults, changes = Journal(options.journal_size, clock), FaultSet(options.faults), Changes(clock)
    grants, answers = Grants(options, clock, journal), Answers(validators=options.validators)
    guard = Guard(options, grants, faults, answers, clock, sleep)
    application = web.Application(
        middlewares=[Recording(journal, options.latency, sleep).around], client_max_size=MAX_BODY_BYTES
    )
    application.add_routes(_provider(options, grants, faults, clock, sleep))
    application.add_routes(api.routes(options, clock, answers, guard, changes))
    application.add_routes(Control(faults, changes, journal).routes())
    application.router.add_get("/", Index(options, faults).show)
    application[JOURNAL], application[FAULTS] = journal, faults
    application[GRANTS], application[CHANGES] = grants, changes
    application.on_response_prepare.append(_dated(clock))
    return application


def _provider(
    options: SandboxOptions, grants: Grants, faults: FaultSet, clock: Callable[[], float], sleep: Sleep
) -> list[web.RouteDef]:
    """The provider's routes, also under the language prefixes of older clients."""
    authorization = AuthorizationEndpoint(options, grants, clock)
    endpoint = TokenEndpoint(options, grants, faults, clock, sleep)
    found: list[web.RouteDef] = []
    for prefix in ("", "/en", "/de"):
        found += [
            web.get(f"{prefix}/oauth/authorize", authorization.show, allow_head=False),
            web.post(f"{prefix}/oauth/authorize", authorization.decide),
            web.post(f"{prefix}/oauth/token", endpoint.token),
            web.post(f"{prefix}/oauth/token/refresh", endpoint.token),
            web.post(f"{prefix}/oauth/revoke", endpoint.revoke),
        ]
    return found


def _dated(clock: Callable[[], float]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Dates answers by the sandbox's own clock, which may not be the machine's."""

    async def date(_: web.Request, answer: web.StreamResponse) -> None:
        answer.headers["Date"] = formatdate(clock(), usegmt=True)
        answer.headers["Server"] = "sandbox"

    return date


class Sandbox:
    """A sandbox that can be started and stopped within a running event loop."""

    def __init__(
        self, options: SandboxOptions, *, clock: Callable[[], float] = time.time, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.options = options
        self.application = build(options, clock=clock, sleep=sleep)
        self.base_url = ""
        self._runner: web.AppRunner | None = None

    @property
    def journal(self) -> Journal:
        return self.application[JOURNAL]

    @property
    def faults(self) -> FaultSet:
        return self.application[FAULTS]

    @property
    def changes(self) -> Changes:
        return self.application[CHANGES]

    async def start(self) -> str:
        """Listens, and gives the base URL; an address that cannot be bound raises OSError."""
        # Short, since a request that a fault keeps waiting would hold up the end for nothing.
        runner = web.AppRunner(self.application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.host, self.options.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.base_url = _base_url(self.options.host, runner.addresses[0][1])
        return self.base_url

    async def close(self) -> None:
        """Stops listening and ends what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def issue_pair(self, subject: str = ACCOUNTS[0], scope: str = "*") -> dict[str, object]:
        """A fresh pair as the token endpoint would answer it, as if a person had approved it just now."""
        issued = self.application[GRANTS].approve(subject, scope, issuer=self.base_url)
        return {
            "token_type": "Bearer",
            "expires_in": int(issued.lifetime),
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token,
        }


def _base_url(host: str, port: int) -> str:
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
