"""`passoproxy login`: a person approves once in a browser.

A running daemon does the exchange and uses the pair at once. Without one, this command listens on the redirect address for the one
redirect, and stores the pair for the daemon's next start.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, urlsplit

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, flag
from passoproxy.cli.output import note, runway, say
from passoproxy.errors import CommandFailure, PersonNeeded, UsageFailure

if TYPE_CHECKING:
    from passoproxy.cli.client import Remote
    from passoproxy.config.load import Loaded

PATIENCE = 600.0
"""Seconds that a person has to approve."""


def login(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    no_browser: Annotated[bool, flag("--no-browser", "Print the address; open no browser.")] = False,
    paste: Annotated[
        bool,
        flag(
            "--paste",
            "Print the address, and read the redirected URL from standard input: for a machine without a browser.",
        ),
    ] = False,
) -> None:
    """Approve in a browser; from then on the pair is renewed.

    \b
    Example:
      passoproxy login --paste
    """
    from passoproxy.cli.client import Local, handle, report

    held = handle(config, state)
    if isinstance(held, Local):
        settings = held.loaded.settings
        grant, replays = settings.oauth.grant, settings.gateway.replay is not None
    else:
        status = held.ask("GET", "/api/status")
        grant, replays = status["token"]["grant"], status.get("gateway", {}).get("mode") == "replay"
    if grant != "authorization_code":
        why = "recordings answer (gateway.replay)" if replays else f"oauth.grant is {grant}, which needs no person"
        raise UsageFailure(f"{why}; there is nothing to log in to")
    browser = not no_browser and not paste
    # the address is for the person, and standard output for the JSON alone
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        if not isinstance(held, Local):
            token = _through_daemon(held, browser, paste)
        else:
            import asyncio

            with held.audited("login"):
                token = _alone_by_paste(held.loaded) if paste else asyncio.run(_alone(held.loaded, browser))
    report(held, token, as_json, f"authorised; {runway(token)}, were it not renewed")


def _through_daemon(remote: Remote, browser: bool, paste: bool) -> dict[str, Any]:
    ticket = dict(remote.ask("POST", "/api/login/start", {}))
    if not ticket["arrives"] and not paste:
        import asyncio

        return asyncio.run(_with_redirect_taken(remote, ticket, browser))
    _point_to(str(ticket["url"]), browser)
    if paste:
        return dict(remote.ask("POST", "/api/login/complete", {"url": _pasted()}))
    return _awaited(remote, ticket)


def _awaited(remote: Remote, ticket: Mapping[str, Any]) -> dict[str, Any]:
    while time.time() < float(ticket["expires_at"]):
        outcome = dict(remote.ask("GET", f"/api/login/{ticket['state']}"))
        if not outcome.get("pending"):
            return outcome
    raise _too_late()


async def _with_redirect_taken(remote: Remote, ticket: Mapping[str, Any], browser: bool) -> dict[str, Any]:
    """For a daemon that the redirect does not reach: this command listens for it. If it cannot, the status page takes it by paste."""
    from passoproxy.cli.browser import opened
    from passoproxy.cli.client import in_thread
    from passoproxy.server.admin.login import lone_listener

    url = str(ticket["url"])
    redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]

    async def complete(query: str) -> object:
        return await in_thread(lambda: remote.ask("POST", "/api/login/complete", {"url": f"?{query}"}))

    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(lone_listener(complete, redirect))
        except CommandFailure as fault:
            try:
                link = remote.ask("POST", "/api/page", {})
            except CommandFailure:
                raise fault from None
            note(f"The approval ends at {redirect}, which may not be this daemon's. If nothing comes of it, paste the")
            note("address that the browser ends at into the status page, at 'Approved on another machine?':")
            say(str(link["url"]))
            if browser:
                opened(str(link["url"]))
        _point_to(url, browser)
        return await in_thread(lambda: _awaited(remote, ticket))


def _alone_by_paste(loaded: Loaded) -> dict[str, Any]:
    import asyncio

    from passoproxy.cli.client import tell
    from passoproxy.compose import standing_still

    # Standard input is read while the loop stands still, and not in a thread, which Ctrl-C would not end.
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        control = runner.run(stack.enter_async_context(standing_still(loaded, keep=True, observer=tell)))
        try:
            _point_to(runner.run(control.begin_login()).url, browser=False)
            return runner.run(control.complete_login(_pasted()))
        finally:
            runner.run(stack.aclose())


async def _alone(loaded: Loaded, browser: bool) -> dict[str, Any]:
    from passoproxy.cli.client import tell
    from passoproxy.compose import standing_still
    from passoproxy.server.admin.login import lone_listener

    async with (
        standing_still(loaded, keep=True, observer=tell) as control,
        lone_listener(control.complete_login, loaded.settings.oauth.redirect_url),
    ):
        ticket = await control.begin_login()
        _point_to(ticket.url, browser)
        outcome = await control.wait_login(ticket.state, PATIENCE)
    if outcome is None:
        raise _too_late()
    return outcome


def _too_late() -> PersonNeeded:
    return PersonNeeded("the approval did not come within ten minutes; run 'passoproxy login' again")


def _point_to(url: str, browser: bool) -> None:
    from passoproxy.cli.browser import opened

    if browser and opened(url) is not None:
        note("A browser was opened for the approval. If it shows nothing, open this address yourself:")
    elif browser:
        note(
            "No browser can be opened here. Open this address in one on this machine, or use 'passoproxy login --paste':"
        )
    else:
        note("Open this address in a browser and approve:")
    say(url)
    sys.stdout.flush()


def _pasted() -> str:
    if sys.stdin.isatty():
        note("Then paste the address that the browser was sent to (it may show an error page) and press Enter:")
    pasted = sys.stdin.readline().strip()
    if not pasted:
        raise UsageFailure("nothing was pasted; copy the whole address from the browser's address bar after approving")
    return pasted
