"""`passoproxy alert test`: whether an alert would reach anybody, before one has to."""

from __future__ import annotations

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
    """Send one test alert through alerts.command and alerts.webhook, and say what came back. Exit 1 if one failed."""
    from passoproxy.cli.daemons import handle

    results = handle(config, state).test_alerts()
    if as_json:
        say_json({"results": results})
    else:
        for result in results:
            say(f"{result['hook']}: {'ok' if result['ok'] else 'failed'}: {result['said']}")
    if failed := [str(result["hook"]) for result in results if not result["ok"]]:
        raise CommandFailure(
            f"the test alert did not get out by {' and '.join(failed)}; see alerts.* in the configuration"
        )
