"""`passoproxy cache …`: inspect and purge what is stored, of the running daemon where one runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, bytes_of
from passoproxy.cli.speaking import facts, note, number, say, say_json, seconds, size
from passoproxy.cli.warm import warm
from passoproxy.errors import CommandFailure, UsageFailure

commands = typer.Typer(no_args_is_help=True, help="Inspect, purge and fill the cache.")
commands.command("warm")(warm)

MethodOption = Annotated[
    str, typer.Option("--method", "-X", metavar="METHOD", help="The method; POST with --data.", show_default=False)
]
DataOption = Annotated[str | None, typer.Option("--data", metavar="BODY", help="The body of a POST that was stored.")]


@commands.command("stats")
def stats(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """How many entries there are and what they take."""
    from passoproxy.cli.daemons import handle

    found = handle(config, state).cache_stats()
    if as_json:
        say_json(found)
        return
    facts(
        (
            ("entries", str(found["entries"])),
            ("bytes", f"{size(number(found, 'bytes'))} of {size(number(found, 'max_bytes'))}"),
            ("in memory", size(number(found, "memory_bytes"))),
            ("evictions", str(found.get("evictions", 0))),
            ("store", str(found["store"])) if found.get("store") else ("folder", str(found.get("directory") or "-")),
        )
    )


@commands.command("list")
def list_entries(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="URL", help="Only URLs that begin so.")] = None,
    route: Annotated[str | None, typer.Option("--route", metavar="NAME", help="Only entries of this route.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only entries with this tag.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="At most so many.")] = 1000,
) -> None:
    """List what is stored."""
    from passoproxy.cli.daemons import handle

    chosen = {name: value for name, value in (("prefix", prefix), ("route", route), ("tag", tag)) if value is not None}
    if len(chosen) > 1:
        raise UsageFailure(f"choose one of {', '.join(f'--{name}' for name in chosen)}")
    found = handle(config, state).entries(chosen, limit)
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
    url: Annotated[
        str, typer.Argument(metavar="URL", help="With the proxy's or the origin's authority, or as a path.")
    ],
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    method: MethodOption = "",
    data: DataOption = None,
) -> None:
    """Show one stored entry with its fields. Exit 1 if it is not stored."""
    from passoproxy.cli.daemons import handle

    asked = method.upper() or ("POST" if data is not None else "GET")
    found = handle(config, state).show(url, asked, bytes_of(data))
    if found is None:
        raise CommandFailure(f"{asked} {url} is not stored; 'passoproxy cache list' shows what is")
    say_json(found) if as_json else _show_entry(found)


@commands.command("purge")
def purge(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="This exact path and query, all methods and variants.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="URL", help="Every URL that begins so; * at the end allowed.")
    ] = None,
    route: Annotated[str | None, typer.Option("--route", metavar="NAME", help="Every entry of a route.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Every entry with a tag.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Only end their freshness: they serve on where stale answers may.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Purge stored entries; answers that were asked for before the purge count too."""
    from passoproxy.cli.daemons import handle, say_who

    chosen: dict[str, object] = {
        n: v for n, v in (("url", url), ("prefix", prefix), ("route", route), ("tag", tag)) if v is not None
    }
    if everything:
        chosen["all"] = True
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
    held = handle(config, state)
    count = held.purge(chosen)
    if as_json:
        say_json({"purged": count, **({"soft": True} if soft else {}), "daemon": held.daemon})
    else:
        hint = "" if count else "; 'passoproxy cache list' shows what is stored"
        say(f"{count} {'entry' if count == 1 else 'entries'} {'made stale' if soft else 'purged'}{hint}")
        say_who(held)


def _left(entry: dict[str, Any]) -> str:
    left = number(entry, "ttl")
    return "-" if left is None else seconds(left) if left > 0 else "stale"


def _list_entry(entry: dict[str, Any]) -> None:
    """The URL on a line of its own on a terminal, so that it can be copied whole; in a pipe everything in one line."""
    age, left, taken = seconds(number(entry, "age")), _left(entry), size(number(entry, "size"))
    method, status, route, url = (
        str(entry["method"]),
        str(entry["status"]),
        str(entry["route"] or "-"),
        str(entry["url"]),
    )
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
            ("age", seconds(number(found, "age"))),
            ("fresh for", _left(found)),
            ("size", size(number(found, "size"))),
            ("key", str(found.get("key", "-"))),
        )
    )
    say()
    for name, value in found.get("fields", ()):
        say(f"{name}: {value}")
