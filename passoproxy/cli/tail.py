"""`passoproxy tail`: what happens now, one line each."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, option
from passoproxy.cli.output import coloured, note, say
from passoproxy.errors import UsageFailure

_COLOURS = {"2": "32", "3": "36", "4": "33", "5": "31", "warning": "33", "error": "31"}


def tail(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    route: Annotated[str, option("--route", "NAME", "Only requests of this route.")] = "",
    status: Annotated[str, option("--status", "CODE", "Only answers with this status, such as 404 or 5xx.")] = "",
    cache: Annotated[str, option("--cache", "hit|stale|miss|pass|error", "Only answers of this kind.")] = "",
    client: Annotated[str, option("--client", "NAME", "Only this client: the name of its key, or its address.")] = "",
) -> None:
    """Show requests and events of the running daemon, until Ctrl-C.

    \b
    Example:
      passoproxy tail --cache miss --status 5xx
    """
    from passoproxy.cli.client import Remote, meant
    from passoproxy.core.events import CACHE_WORDS
    from passoproxy.telemetry.live import fitting

    wishes = {
        name: wish
        for name, wish in (("route", route), ("status", status), ("cache", cache), ("client", client))
        if wish
    }
    try:
        fitting(wishes)
    except ValueError as fault:
        raise UsageFailure(f"--status: {fault}") from fault
    if cache not in ("", *CACHE_WORDS):
        raise UsageFailure(f"--cache: {cache!r} is none of {', '.join(CACHE_WORDS)}")
    daemon = meant(config, state)
    if route and route not in (known := [each["name"] for each in daemon.ask("GET", "/api/status")["routes"]]):
        raise UsageFailure(f"--route: this daemon has no route {route!r}; it has {', '.join(known) or 'none'}")
    remote: Remote | None = daemon
    is_told = False
    while remote is not None:
        for line in remote.lines(f"/api/tail?{urlencode(wishes)}"):
            if not is_told:
                note(f"passoproxy: watching the daemon with {remote.in_words}; Ctrl-C ends it")
                is_told = True
            if line:
                say(line) if as_json else _show(json.loads(line))
                sys.stdout.flush()
        remote = remote.again()  # it ends its conversations too when another process takes the pair over, or leaves it
    note("passoproxy: the daemon has ended")


def _show(told: dict[str, Any]) -> None:
    at = told.get("time")
    clock = f"{datetime.fromisoformat(at).astimezone():%H:%M:%S}" if at else " " * 8
    if told["event"] == "request":
        mark, word = str(told["status"])[:1], str(told["status"])
        why = told["reason"] or told["cache"]
        said = f"{told['cache']:<5} {told['duration_ms']:8.1f} ms  {told['method']} {told['target']}  {why}, {told['client']}"
    else:
        mark, word = told["level"], told["level"][:3]
        said = f"{told.get('message', '')}  ({told['event']})"
    coloured(word, _COLOURS.get(mark, "") if sys.stdout.isatty() else "", said, f"{clock}  ")
