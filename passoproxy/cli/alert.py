"""`passoproxy alert test`: whether an alert gets out, before one is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption
from passoproxy.cli.output import say, say_json
from passoproxy.errors import CommandFailure

commands = typer.Typer(no_args_is_help=True, help="Try the alerts.")


@commands.callback()
def _group() -> None:
    """Try the alerts."""


@commands.command("test")
def send_test(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Send one test alert by alerts.command and alerts.webhook.

    Shows what was sent where, and what came back. Exit 1 if one failed.

    \b
    Example:
      passoproxy alert test
    """
    from passoproxy.cli.client import Local, handle

    held = handle(config, state)
    if isinstance(held, Local):
        import asyncio

        from passoproxy.compose.instance import tried_alone

        with held.audited("alert test"):
            _report(asyncio.run(tried_alone(held.loaded, os.environ)), as_json)
    else:
        _report(held.ask("POST", "/api/alert/test", b""), as_json)


def _report(tried: Mapping[str, Any], as_json: bool) -> None:
    """Prints what came back. Raises CommandFailure if a hook failed."""
    results = tried["results"]
    if as_json:
        say_json(tried)
    else:
        say_json(tried["sent"])
        for result in results:
            to = f" to {result['where']}" if result["where"] else ""
            say(f"{result['hook']}{to}: {'ok' if result['ok'] else 'failed'}: {result['said']}")
    if failed := [str(result["hook"]) for result in results if not result["ok"]]:
        named = " and ".join(failed)
        raise CommandFailure(f"the test alert did not get out by {named}; see alerts.* in the configuration")
