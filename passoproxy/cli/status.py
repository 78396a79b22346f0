"""`passoproxy status`: the daemon's state for people."""

from __future__ import annotations

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, load
from passoproxy.cli.speaking import console, facts, moment, number, say, say_json, seconds, size
from passoproxy.errors import NotRunning

CODES = {"ready": 0, "degraded": 1, "unready": 1}
COLOURS = {"ready": "green", "degraded": "yellow", "unready": "red"}


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the daemon's state: runway, cache, origin, recent errors. Exit 0 ready, 1 degraded, 3 not running."""
    from passoproxy.cli.handle import Remote

    remote = Remote(load(config).settings.state.folder)
    try:
        found = remote.status()
    except NotRunning:
        if as_json:
            say_json({"state": "not running"})
        raise
    if as_json:
        say_json(found)
    else:
        _show(found)
    raise typer.Exit(CODES.get(str(found.get("state")), 1))


def _show(found: dict[str, object]) -> None:
    state, token, cache, origin = (
        str(found["state"]),
        _part(found, "token"),
        _part(found, "cache"),
        _part(found, "origin"),
    )
    runway = number(token, "runway_seconds")
    console().print(f"[bold {COLOURS.get(state, 'white')}]{state}[/]  {found.get('reason') or ''}".rstrip())
    say()
    facts(
        (
            ("runway", "no person is ever needed" if runway is None else f"{seconds(runway)} until a person is needed"),
            ("access token", f"{token.get('access')}, until {moment(number(token, 'access_until'))}"),
            ("refresh chain", f"{token.get('chain')}{_because(token)}"),
            ("next refresh", moment(number(token, "next_refresh_at"))),
            (
                "cache",
                f"{cache.get('entries', 0)} entries, {size(number(cache, 'bytes'))} of {size(number(cache, 'max_bytes'))}",
            ),
            (
                "origin",
                f"{origin.get('url')}, {origin.get('in_flight', 0)} under way, {origin.get('waiting', 0)} waiting",
            ),
            ("running", f"{seconds(number(found, 'uptime_seconds'))}, version {found.get('version')}"),
        )
    )
    if token.get("remedy"):
        say(f"\nwhat to do: {token['remedy']}")
    for warning in _list(found, "warnings"):
        say(f"warning: {warning.get('detail')}")
    errors = _list(found, "recent_errors")[:5]
    if errors:
        say("\nrecent errors")
    for error in errors:
        say(f"  {moment(number(error, 'at'))}  {error.get('what')}  {error.get('target') or ''}".rstrip())


def _because(token: dict[str, object]) -> str:
    return f" ({token['reason']})" if token.get("reason") else ""


def _part(found: dict[str, object], name: str) -> dict[str, object]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _list(found: dict[str, object], name: str) -> list[dict[str, object]]:
    part = found.get(name)
    return [each for each in part if isinstance(each, dict)] if isinstance(part, list) else []
