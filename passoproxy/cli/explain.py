"""`passoproxy explain`: why a request would be a hit, a miss or a pass, directive by directive."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, bytes_of, option
from passoproxy.cli.output import facts, headline, hung, moment, number_of, part, say, say_json, seconds, size, table

COLOURS = {"hit": "green", "miss": "yellow", "pass": "cyan"}
Data = dict[str, Any]


def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, HEAD, POST or any other.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="A path, or a URL of the proxy or the origin.")],
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    header: Annotated[
        list[str] | None, option("-H", "'NAME: VALUE'", "A request header; repeatable.", "--header")
    ] = None,
    data: Annotated[str | None, option("--data", "BODY", "The body of a POST.")] = None,
) -> None:
    """Say why a request would be a hit, a miss or a pass.

    Sends nothing to the origin and changes nothing.

    \b
    Example:
      passoproxy explain GET /api/v2/languages -H 'Accept-Language: de'
    """
    from passoproxy.cli.client import handle

    bytes_of(data)
    described: dict[str, object] = {"method": method.upper(), "url": url, "headers": header or []}
    if data is not None:
        described["data"] = data
    found = handle(config, state).call("POST", "/api/explain", described, lambda control: control.explain(described))
    say_json(found) if as_json else _show(found)


def _show(found: Data) -> None:
    outcome = str(found["outcome"])
    headline(outcome, COLOURS.get(outcome, "white"), f"{found['method']} {found['target']}")
    say()
    for at, reason in enumerate(found["reasons"], 1):
        say(hung(f"{at:>3}. {reason}", 5))
    say()
    facts(
        (
            ("route", f"{found['route']}  ({found['pattern']})" if found["route"] else "-"),
            ("the route wants", _listed(found["policy"]) or "-"),
            ("key", str(found["key"] or "none: it is not looked up")),
            *((f"  {name}", _said(value)) for name, value in found["key_parts"].items()),
            *_freshness(found),
            ("Cache-Status", str(found["cache_status"] or "-")),
        )
    )
    if found["variants"]:
        say("\nstored")
        rows = [_row(each) for each in found["variants"]]
        table(("", "status", "age", "fresh for", "size", "varies by"), rows, right=("age", "fresh for", "size"))


def _freshness(found: Data) -> list[tuple[str, str]]:
    fresh = part(found, "freshness")
    if not fresh:
        return []
    left = number_of(fresh, "fresh_for") or 0.0
    said = (
        f"for {seconds(left)}, until {moment(number_of(fresh, 'fresh_until'))}"
        if left > 0
        else f"no, stale for {seconds(-left)}"
    )
    rows = [
        ("the origin says", _listed(found["origin_said"].get("directives", {})) or "nothing"),
        ("what counts", _counted(found["counts"]) or "nothing"),
        ("age", seconds(number_of(fresh, "age"))),
        ("lifetime", f"{seconds(number_of(fresh, 'lifetime'))}, from {fresh['basis']}"),
        ("fresh", said),
    ]
    for name, label in (
        ("ended_early_at", "ended early, by a soft purge"),
        ("refresh_ahead_from", "renewed ahead from"),
        ("stale_while_revalidate_until", "stale while revalidated until"),
        ("stale_if_error_until", "stale if the origin fails until"),
        ("stale_if_unauthorized_until", "stale if unauthorized until"),
    ):
        if fresh[name] is not None:
            rows.append((label, moment(number_of(fresh, name))))
    return rows


def _counted(counts: Data) -> str:
    rest = {name: value for name, value in counts.items() if name != "directives"}
    return ", ".join(filter(None, (_listed(counts.get("directives", {})), _listed(rest))))


def _row(variant: Data) -> tuple[str, ...]:
    varies = [f"{name}: {_or_none(stored)} (asked: {_or_none(asked)})" for name, stored, asked in variant["varies"]]
    left = float(variant["fresh_for"])
    return (
        "*" if variant["is_selected"] else "",
        str(variant["status"]),
        seconds(float(variant["age"])),
        seconds(left) if left > 0 else "stale",
        size(float(variant["size"])),
        "; ".join(varies) or "-",
    )


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)


def _listed(members: Data) -> str:
    return ", ".join(name if value is True else f"{name}={_said(value)}" for name, value in members.items())


def _said(value: object) -> str:
    if isinstance(value, dict):
        return _listed(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
