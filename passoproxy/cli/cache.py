"""`passoproxy cache …`: inspect, purge and fill what is stored, of the running daemon if one runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, bytes_of, flag, option
from passoproxy.cli.output import facts, note, number_of, progress, say, say_json, seconds, size
from passoproxy.errors import CommandFailure, UsageFailure

if TYPE_CHECKING:
    from passoproxy.cli.client import Remote
    from passoproxy.control import Control

Data = dict[str, Any]

commands = typer.Typer(no_args_is_help=True, help="Inspect, purge and fill the cache.")

MethodOption = Annotated[str, option("--method", "METHOD", "The method; POST with --data.", "-X")]
DataOption = Annotated[str | None, option("--data", "BODY", "The body of a POST that was stored.")]


@commands.command("stats")
def stats(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show how many entries there are and their size.

    \b
    Example:
      passoproxy cache stats
    """
    from passoproxy.cli.client import handle

    found = handle(config, state).call("GET", "/api/cache/stats", None, lambda control: control.cache_stats())
    if as_json:
        say_json(found)
        return
    facts(
        (
            ("entries", str(found["entries"])),
            ("bytes", f"{size(number_of(found, 'bytes'))} of {size(number_of(found, 'max_bytes'))}"),
            ("in memory", size(number_of(found, "memory_bytes"))),
            ("evictions", str(found.get("evictions", 0))),
            ("store", str(found["store"])) if found.get("store") else ("folder", str(found.get("directory") or "-")),
        )
    )


@commands.command("list")
def list_entries(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    prefix: Annotated[str | None, option("--prefix", "URL", "Only URLs with this beginning.")] = None,
    route: Annotated[str | None, option("--route", "NAME", "Only entries of this route.")] = None,
    tag: Annotated[str | None, option("--tag", "TAG", "Only entries with this tag.")] = None,
    limit: Annotated[int, option("--limit", "N", "The most entries to list.", min=1, max=100_000)] = 1000,
) -> None:
    """List what is stored.

    \b
    Example:
      passoproxy cache list --prefix /api/v2/content/
    """
    from passoproxy.cli.client import handle

    chosen = {name: value for name, value in (("prefix", prefix), ("route", route), ("tag", tag)) if value is not None}
    if len(chosen) > 1:
        raise UsageFailure(f"choose one of {', '.join(f'--{name}' for name in chosen)}")

    async def listed(control: Control) -> list[Data]:
        return [entry async for entry in control.entries(control.selector(chosen), limit)]

    query = urlencode({**chosen, "limit": limit})
    found = handle(config, state).call("GET", f"/api/cache/entries?{query}", None, listed)
    if as_json:
        say_json(found)
        return
    if not found and sys.stdout.isatty():
        say("nothing of that is stored" if chosen else "nothing is stored")
        return
    for entry in found:
        _list_entry(entry)
    if len(found) == limit:
        note(f"passoproxy: at most {limit} are listed; see --limit")


@commands.command("show")
def show(
    url: Annotated[str, typer.Argument(metavar="URL", help="A path, or a URL of the proxy or the origin.")],
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    method: MethodOption = "",
    data: DataOption = None,
) -> None:
    """Show one stored entry with its fields.

    Exit 1 if it is not stored.

    \b
    Example:
      passoproxy cache show '/api/v2/content/all/html?lang=en'
    """
    from passoproxy.cli.client import Refused, handle

    asked, body = method.upper() or ("POST" if data is not None else "GET"), bytes_of(data)
    described = {"url": url, "method": asked, "data": data}
    try:
        found = handle(config, state).call(
            "POST", "/api/cache/show", described, lambda control: control.show(url, asked, body)
        )
    except Refused as refused:
        if refused.word != "not_found":
            raise
        found = None
    if found is None:
        raise CommandFailure(f"{asked} {url} is not stored; 'passoproxy cache list' shows what is")
    say_json(found) if as_json else _show_entry(found)


@commands.command("purge")
def purge(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    url: Annotated[str | None, option("--url", "URL", "This exact path and query, all methods and variants.")] = None,
    prefix: Annotated[str | None, option("--prefix", "URL", "Every URL with this beginning.")] = None,
    route: Annotated[str | None, option("--route", "NAME", "Every entry of a route.")] = None,
    tag: Annotated[str | None, option("--tag", "TAG", "Every entry with a tag.")] = None,
    everything: Annotated[bool, flag("--all", "Everything.")] = False,
    soft: Annotated[
        bool,
        flag("--soft", "Keep them as stale: they serve where the route allows it."),
    ] = False,
    data: DataOption = None,
) -> None:
    """Purge stored entries.

    Answers to requests that began before the purge are not stored.

    \b
    Example:
      passoproxy cache purge --tag requirements --soft
    """
    from passoproxy.cli.client import handle, report

    given = {"url": url, "prefix": prefix, "route": route, "tag": tag, "all": everything or None}
    chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if len(chosen) != 1:
        raise UsageFailure("choose exactly one of --url, --prefix, --route, --tag, --all")
    if "" in chosen.values():
        raise UsageFailure(f"--{next(iter(chosen))} is empty; name what to purge, or --all for everything")
    if data is not None:
        if url is None:
            raise UsageFailure("--data goes with --url")
        bytes_of(data)
        chosen["data"] = data
    if soft:
        chosen["soft"] = True

    async def purged(control: Control) -> Data:
        return {"purged": await control.purge(chosen)}

    held = handle(config, state)
    count = held.call("POST", "/api/cache/purge", chosen, purged)["purged"]
    hint = "" if count else "; 'passoproxy cache list' shows what is stored"
    said = f"{count} {'entry' if count == 1 else 'entries'} {'made stale' if soft else 'purged'}{hint}"
    report(held, {"purged": count, **({"soft": True} if soft else {})}, as_json, said)


def _left(entry: dict[str, Any]) -> str:
    left = number_of(entry, "ttl")
    return "-" if left is None else seconds(left) if left > 0 else "stale"


def _list_entry(entry: dict[str, Any]) -> None:
    """On a terminal the URL has a line of its own, so that it can be copied whole; in a pipe everything is one line."""
    age, left, taken = seconds(number_of(entry, "age")), _left(entry), size(number_of(entry, "size"))
    method, status, url, route = (str(entry[name] or "-") for name in ("method", "status", "url", "route"))
    if sys.stdout.isatty():
        fresh = left if left in ("-", "stale") else f"fresh for {left}"
        say(f"{url}\n    {method} {status}, {age} old, {fresh}, {taken}, route {route}")
    else:
        say("\t".join((method, status, age, left, taken, route, url)))


def _show_entry(found: dict[str, Any]) -> None:
    facts(
        (
            ("url", str(found["url"])),
            ("method", str(found["method"])),
            ("status", str(found["status"])),
            ("route", str(found["route"] or "-")),
            ("tags", ", ".join(found.get("tags") or ()) or "-"),
            ("age", seconds(number_of(found, "age"))),
            ("fresh for", _left(found)),
            ("size", size(number_of(found, "size"))),
            ("key", str(found.get("key", "-"))),
        )
    )
    say()
    for name, value in found.get("fields", ()):
        say(f"{name}: {value}")


# ---- warm ------------------------------------------------------------------------------------------------------------

MOST_AT_ONCE = 500
"""Requests in one call of the daemon's."""

LARGEST_CALL = 512 * 1024


@commands.command("warm")
def warm(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="One URL or path a line, or JSON lines; # begins a comment. - for standard input."
        ),
    ],
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch what a file lists into the cache of the running daemon.

    Fresh entries are not fetched again, so a run that was stopped can be started again. Exit 1 if any failed.

    \b
    Example:
      passoproxy cache warm urls.txt
    """
    from passoproxy.cli.client import report, running

    lines = _read(file)
    remote = running(config, state)
    orders, faults = _orders(lines)
    counts = {"fetched": 0, "fresh": 0, "failed": len(faults)}
    for number, why in faults:
        note(f"passoproxy: {file}:{number}: {why}")
    failures = [{"line": number, "url": None, "status": None, "detail": why} for number, why in faults]
    try:
        with progress(len(orders) + len(faults), "filling the cache", len(faults)) as advance:
            for found in _filled(remote, orders):
                if found["outcome"] == "waiting":
                    note(f"passoproxy: {found['detail']}")
                    continue
                counts[found["outcome"]] += 1
                if found["outcome"] == "failed":
                    about = {name: found[name] for name in ("url", "status", "detail")}
                    failures.append({"line": found["number"], **about})
                    note(f"passoproxy: {file}:{found['number']}: {found['url']}: {found['detail']}")
                advance(_said(counts))
    except KeyboardInterrupt:
        note(f"passoproxy: stopped; {_said(counts)}. Run it again to go on: fresh entries are not fetched again")
        raise
    report(remote, {**counts, "failures": failures}, as_json, _said(counts))
    if counts["failed"]:
        raise typer.Exit(1)


def _read(file: str) -> list[str]:
    if file == "-" and sys.stdin.isatty():
        note("type URLs or paths, one a line, then press Ctrl-D:")
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandFailure(
            f"{file}: cannot be read ({error.strerror}); name a file with a URL or path a line, or - for standard input"
        ) from error
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageFailure(f"{file}: is not UTF-8 text; save the file as UTF-8") from error


def _orders(lines: Iterable[str]) -> tuple[list[Data], list[tuple[int, str]]]:
    """The requests of the lines, each with its line number; and the lines that cannot be read, with the reason."""
    orders, faults = list[Data](), list[tuple[int, str]]()
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if not line.startswith("{"):
            orders.append({"url": line, "number": number})
            continue
        try:
            orders.append({**json.loads(line), "number": number})
        except (ValueError, RecursionError) as error:
            faults.append((number, f"is no JSON object in one line ({error})"))
    return orders, faults


def _filled(remote: Remote, orders: list[Data]) -> Iterator[Data]:
    """The outcome of each, as it comes. An order without an outcome has failed."""
    for batch in _batches(orders):
        missing = {order["number"]: order for order in batch}
        for found in remote.warm(batch):
            missing.pop(found["number"], None)
            yield found
        for number, order in missing.items():
            detail = "the daemon stopped before it came to this"
            yield {"number": number, "url": order.get("url"), "outcome": "failed", "status": None, "detail": detail}


def _batches(orders: list[Data]) -> Iterator[list[Data]]:
    batch, taken = list[Data](), 0
    for order in orders:
        size = len(json.dumps(order))
        if batch and (len(batch) >= MOST_AT_ONCE or taken + size > LARGEST_CALL):
            yield batch
            batch, taken = [], 0
        batch.append(order)
        taken += size
    if batch:
        yield batch


def _said(counts: Data) -> str:
    return f"{counts['fetched']} fetched, {counts['fresh']} fresh already, {counts['failed']} failed"
