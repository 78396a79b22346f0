"""`passoproxy cache warm`: has the running daemon fetch what a file lists."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption
from passoproxy.cli.speaking import note, say, say_json
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
