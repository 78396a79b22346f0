"""`passoproxy login`: a person approves once in a browser.

Where a daemon runs, it does the exchange and takes the pair over at once; else this command listens on the redirect address
for the one redirect and stores the pair for the daemon's next start.
"""

from __future__ import annotations

import asyncio
import sys
import time
import webbrowser
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, load
from passoproxy.cli.speaking import note, number, say, say_json, seconds
from passoproxy.errors import PersonNeeded, UsageFailure

if TYPE_CHECKING:
    from passoproxy.cli.handle import Remote
    from passoproxy.config.reading import Loaded
    from passoproxy.control import Control


def login(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address instead of opening a browser.")
    ] = False,
    paste: Annotated[
        bool, typer.Option("--paste", help="Read the redirected URL from standard input (no browser on this machine).")
    ] = False,
) -> None:
    """Approve in a browser; the pair is kept and renewed from then on."""
    from passoproxy.cli.handle import Remote

    loaded = load(config)
    grant = loaded.settings.oauth.grant
    if grant != "authorization_code":
        raise UsageFailure(f"oauth.grant is {grant}, which needs no person; there is nothing to log in to")
    remote = Remote(loaded.settings.state.folder)
    browser = not no_browser and not paste
    token = (
        _through_daemon(remote, browser, paste) if remote.is_running() else asyncio.run(_alone(loaded, browser, paste))
    )
    if as_json:
        say_json(token)
    else:
        left = number(token, "runway_seconds")
        say(
            f"authorised; {'no person is needed' if left is None else f'{seconds(left)} until a person is needed, were it not renewed'}"
        )


def _through_daemon(remote: Remote, browser: bool, paste: bool) -> dict[str, Any]:
    ticket = remote.ask("POST", "/api/login/start", {})
    _point_to(str(ticket["url"]), browser)
    if paste:
        return dict(remote.ask("POST", "/api/login/complete", {"url": _pasted()}))
    while time.time() < float(ticket["expires_at"]):
        outcome = remote.ask("GET", f"/api/login/{ticket['state']}")
        if outcome:
            return dict(outcome)
    raise PersonNeeded("nobody approved within ten minutes; run 'passoproxy login' again")


async def _alone(loaded: Loaded, browser: bool, paste: bool) -> dict[str, Any]:
    from passoproxy.compose import standing_still

    async with standing_still(loaded, keep=True) as control:
        ticket = control.begin_login("command")
        if paste:
            _point_to(ticket.url, browser)
            pasted = await asyncio.to_thread(_pasted)
            return await control.complete_login(urlsplit(pasted).query, "command")
        return await _with_listener(control, loaded, ticket.url, ticket.state, browser)


async def _with_listener(control: Control, loaded: Loaded, url: str, state: str, browser: bool) -> dict[str, Any]:
    from passoproxy.server.lone_callback import lone_listener

    async with lone_listener(control, loaded.settings.oauth.redirect_url):
        _point_to(url, browser)
        outcome = await control.wait_login(state, 600.0)
    if outcome is None:
        raise PersonNeeded("nobody approved within ten minutes; run 'passoproxy login' again")
    return outcome


def _point_to(url: str, browser: bool) -> None:
    if browser and webbrowser.open(url):
        note("A browser was opened for the approval. If it shows nothing, open this address yourself:")
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
