"""`passoproxy cache warm`: has the running daemon fetch what a file lists.

`passoproxy cache …`: inspect and purge what is stored, of the running daemon where one runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, bytes_of
from passoproxy.cli.output import facts, note, number_of, say, say_json, seconds, size
from passoproxy.errors import CommandFailure, UsageFailure

MOST_AT_ONCE = 500
"""Requests in one call of the daemon's."""

LARGEST_CALL = 512 * 1024
Data = dict[str, Any]


def warm(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A URL or path a line, # comments, or JSON lines; - for standard input."),
    ],
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch what a file lists into the cache of the running daemon.

    What is fresh is left alone, so a run that was stopped goes on when it is started again. Exit 1 if any failed.
    """
    from passoproxy.cli.daemons import running, say_who

    lines = _read(file)
    remote = running(config, state)
    orders, faults = _orders(lines)
    counts = {"fetched": 0, "fresh": 0, "failed": len(faults)}
    for number, why in faults:
        note(f"passoproxy: {file}:{number}: {why}")
    failures = [{"line": number, "url": None, "status": None, "detail": why} for number, why in faults]
    try:
        with _Progress(len(orders) + len(faults), len(faults)) as progress:
            for found in _filled(remote, orders):
                counts[found["outcome"]] += 1
                if found["outcome"] == "failed":
                    failures.append(
                        {"line": found["number"], **{name: found[name] for name in ("url", "status", "detail")}}
                    )
                    progress.note(f"passoproxy: {file}:{found['number']}: {found['url']}: {found['detail']}")
                progress.advance(counts)
    except KeyboardInterrupt:
        note(f"passoproxy: stopped; {_said(counts)}. Run it again to go on: what is fresh is left alone")
        raise
    if as_json:
        say_json({**counts, "failures": failures, "daemon": remote.daemon})
    else:
        say(_said(counts))
        say_who(remote)
    if counts["failed"]:
        raise typer.Exit(1)


def _read(file: str) -> list[str]:
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
    """What the lines ask for, each with its line's number, and the numbers of those that cannot be understood with the reason."""
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


def _filled(remote: Any, orders: list[Data]) -> Iterator[Data]:
    """What came of each, as it comes. An order that no answer came for has failed."""
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


class _Progress:
    """A bar on a terminal; nothing in a pipe, where the numbers at the end say it all."""

    def __init__(self, total: int, done: int) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True, highlight=False))
            self._task = self._bar.add_task("filling the cache", total=total, completed=done)

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, counts: Data) -> None:
        """One more is done."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=_said(counts))

    def note(self, text: str) -> None:
        """A line beside the bar."""
        if self._bar is None:
            note(text)
        else:
            self._bar.console.print(text, markup=False, soft_wrap=True)


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
    left = number_of(entry, "ttl")
    return "-" if left is None else seconds(left) if left > 0 else "stale"


def _list_entry(entry: dict[str, Any]) -> None:
    """The URL on a line of its own on a terminal, so that it can be copied whole; in a pipe everything in one line."""
    age, left, taken = seconds(number_of(entry, "age")), _left(entry), size(number_of(entry, "size"))
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
            ("age", seconds(number_of(found, "age"))),
            ("fresh for", _left(found)),
            ("size", size(number_of(found, "size"))),
            ("key", str(found.get("key", "-"))),
        )
    )
    say()
    for name, value in found.get("fields", ()):
        say(f"{name}: {value}")
