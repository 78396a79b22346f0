"""`passoproxy status`: the daemon's state for people."""

from __future__ import annotations

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption
from passoproxy.cli.output import (
    access,
    chain,
    facts,
    headline,
    hung,
    moment,
    number_of,
    part,
    runway,
    say,
    say_json,
    seconds,
    size,
)
from passoproxy.errors import NotRunning

Data = dict[str, object]
CODES = {"ready": 0, "degraded": 1, "unready": 1}
MOST_ERRORS = 5
COLOURS = {"ready": "green", "degraded": "yellow", "unready": "red"}


def status(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show the daemon's state: runway, cache, origin, recent errors.

    Exit 0 ready, 1 degraded, 3 not running.

    \b
    Example:
      passoproxy status --json
    """
    from passoproxy.cli.client import running

    try:
        remote = running(config, state)
        found = dict(remote.ask("GET", "/api/status"))
    except NotRunning:
        if as_json:
            say_json({"state": "not running"})
        raise
    if as_json:
        say_json({**found, "daemon": remote.daemon})
    else:
        _show(found, remote.in_words)
    raise typer.Exit(CODES.get(str(found.get("state")), 1))


def _show(found: Data, daemon: str) -> None:
    state, token = str(found["state"]), part(found, "token")
    troubles = _parts(found, "troubles") or [{"reason": found.get("reason")}]
    first, *others = [_trouble(each) for each in troubles]
    indent = len(state) + 2
    headline(state, COLOURS.get(state, "white"), hung(" " * indent + first, indent)[indent:])
    for each in others:
        say(hung(" " * indent + each, indent))
    say()
    above = " ".join((first, *others))
    if token.get("chain") != "healthy":  # what stands above is not said again
        known = {name: "" for name in ("reason", "last_error") if str(token.get(name)) in above}
        found = {**found, "token": {**token, **known}}
    facts(
        (
            *_gateway(part(found, "gateway")),
            *(() if part(found, "gateway").get("mode") == "replay" else _far_away(found)),
            ("requests", _requests(part(found, "requests"))),
            *_processes(found),
            ("running", f"{seconds(number_of(found, 'uptime_seconds'))}, version {found.get('version')}"),
            ("listening", ", ".join(map(str, _list(found, "listeners"))) or "-"),
            ("daemon", daemon),
        )
    )
    for warning in _parts(found, "warnings"):
        is_away = warning.get("code") == "origin_away" and any(each.get("of") == "origin" for each in troubles)
        if is_away or str(warning.get("detail")).partition("; ")[0] in above:
            continue
        at = number_of(warning, "at")
        say()
        say(hung(f"warning{'' if at is None else f' of {moment(at)}'}: {warning.get('detail')}", 2))
    errors = _parts(found, "recent_errors")[:MOST_ERRORS]
    if errors:
        say("\nrecent errors")
    for error in errors:
        count = int(number_of(error, "count") or 1)
        told = (str(error.get("what")), str(error.get("target") or ""), f"({count} times)" if count > 1 else "")
        say(hung("  ".join((f"  {moment(number_of(error, 'at'))}", *filter(None, told))), 16))


def _trouble(told: Data) -> str:
    """A trouble and its remedy."""
    return " -> ".join(str(each) for each in (told.get("reason"), told.get("remedy")) if each)


def _processes(found: Data) -> list[tuple[str, str]]:
    """Rows for several processes that share the work."""
    token, workers = part(found, "token"), len(_list(found, "workers"))
    if any(each.get("code") == "store_away" for each in _parts(found, "warnings")):
        held = "not known who holds it while the shared store is away"
    elif token.get("alone"):
        held = "held by another process, which has not been heard for a while"
    else:
        held = "held by another process, which this one follows"
    said = [("pair", held)] if token.get("role") == "following" else []
    return [*said, ("workers", str(workers))] if workers else said


def _far_away(found: Data) -> list[tuple[str, str]]:
    """Rows of pair, cache and origin, which have no part in it while recordings answer."""
    token, cache, origin = (part(found, name) for name in ("token", "cache", "origin"))
    return [
        ("runway", runway(token)),
        ("access token", access(token)),
        ("refresh chain", chain(token)),
        ("alert", _alert(part(found, "alert"))),
        ("next refresh", moment(number_of(token, "next_refresh_at"))),
        ("cache", _cache(cache)),
        *_probe(part(cache, "change_probe")),
        ("origin", _origin(origin)),
        *_budget(part(origin, "daily_budget")),
        *_places(part(origin, "places")),
    ]


def _gateway(gateway: Data) -> list[tuple[str, str]]:
    from passoproxy.core.units import counted

    if not gateway:
        return []
    doing = "recording into" if gateway.get("mode") == "record" else "replaying from"
    return [
        (
            "gateway",
            f"{doing} {gateway.get('directory')}, which has {counted(int(number_of(gateway, 'recordings') or 0), 'recording')}",
        )
    ]


def _alert(alert: Data) -> str:
    level, by = str(alert.get("level") or "none"), number_of(alert, "deadline")
    return level if level == "none" or by is None else f"{level}, a person is needed by {moment(by)}"


def _cache(cache: Data) -> str:
    count = int(number_of(cache, "entries") or 0)
    taken = f"{size(number_of(cache, 'bytes'))} of {size(number_of(cache, 'max_bytes'))}"
    return f"{count} {'entry' if count == 1 else 'entries'}, {taken}"


def _probe(probe: Data) -> list[tuple[str, str]]:
    if not probe:
        return []
    reason = f" ({probe['reason']})" if probe.get("reason") else ""
    asked = f"{probe['requests_last_hour']} of {probe['most_requests_an_hour']} requests in the last hour"
    return [("change probe", f"{probe['state']}{reason}, {asked}, {probe['dropped']} dropped since the start")]


def _origin(origin: Data) -> str:
    from passoproxy.core.origin import in_words

    said = f"{origin.get('url')}, {in_words(str(origin.get('state')), asked=bool(origin.get('answers')))}"
    waiting = f"{origin.get('in_flight', 0)} under way, {origin.get('waiting', 0)} waiting"
    paused, rests = number_of(origin, "cool_down_until"), number_of(origin, "background_rests_until")
    if paused:
        waiting += f"; paused by a 429 until {moment(paused)}"
    elif rests:
        waiting += f"; little of its quota is left, background work rests until {moment(rests)}"
    return f"{said}; {waiting}"


def _budget(budget: Data) -> list[tuple[str, str]]:
    if not budget:
        return []
    used, rests = f"{budget['used']} of {budget['limit']} requests in 24 h", number_of(budget, "rests_until")
    return [("daily budget", used if rests is None else f"{used}; background work rests until {moment(rests)}")]


def _places(places: Data) -> list[tuple[str, str]]:
    if not places:
        return []
    alone = " seen last: the store is away, each uses its share" if places.get("alone") else ""
    return [
        ("places", f"{places['held']} of {places['limit']} at this instance, {places['instances']} instances{alone}")
    ]


def _requests(requests: Data) -> str:
    ratio = number_of(requests, "hit_ratio")
    cached = "" if ratio is None else f", {ratio * 100:.0f} % of the cacheable from the cache"
    return f"{requests.get('total', 0)}{cached}, {requests.get('refused', 0)} refused"


def _list(found: Data, name: str) -> list[object]:
    listed = found.get(name)
    return listed if isinstance(listed, list) else []


def _parts(found: Data, name: str) -> list[Data]:
    return [each for each in _list(found, name) if isinstance(each, dict)]
