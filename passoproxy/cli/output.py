"""How commands speak: JSON with `--json`, tables and colour on a terminal, plain aligned text in a pipe.

Also the words for the pair's state, the same in every command. They never show a token.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from passoproxy.core import units

_STEERS_TERMINALS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tab and line end, and direction marks: the origin's fields may hold them."""


def say(text: str = "") -> None:
    """A plain line on standard output."""
    print(_written_out(text))  # noqa: T201 the terminal is this module's business


def note(text: str) -> None:
    """A line for the person on standard error, so that standard output stays clean for a pipe."""
    print(_written_out(text), file=sys.stderr)  # noqa: T201


def _written_out(text: str) -> str:
    # as JSON writes them, which `text` may be
    return _STEERS_TERMINALS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say_json(data: object) -> None:
    """Indented JSON."""
    say(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def headline(word: str, style: str, rest: str = "") -> None:
    """A word in bold and in a colour, and what belongs to it; plain in a pipe."""
    if not sys.stdout.isatty():
        say(f"{word}  {rest}".rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    # never as markup: the rest may hold brackets
    Console(highlight=False).print(Text.assemble((word, f"bold {style}"), f"  {rest}" if rest else ""), soft_wrap=True)


def coloured(word: str, colour: str, rest: str, before: str = "") -> None:
    """A line for a terminal whose one word has a colour (the number of an escape, such as 31 for red), unless $NO_COLOR or `colour` is empty."""
    shown = f"\x1b[{colour}m{word}\x1b[0m" if colour and "NO_COLOR" not in os.environ else word
    print(f"{before}{shown}", end=" ")  # noqa: T201 with escapes of our own
    say(rest)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = (), whole: Iterable[str] = ()
) -> None:
    """A table with a header for people; in a pipe one row a line, columns parted by tabs.

    `right` names the columns that are set to the right, `whole` those that are not broken while others can be.
    """
    if not sys.stdout.isatty():
        for row in rows:
            say("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    right, whole = set(right), set(whole)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in whole)
    for row in rows:
        shown.add_row(*map(Text, row))
    Console(highlight=False).print(shown)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, aligned."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        say(hung(f"{name:<{width}}  {value}".rstrip(), width + 2))


def hung(text: str, indent: int) -> str:
    """`text` as lines that fit the terminal, those after the first indented; in a pipe one line, as a search wants it."""
    if not sys.stdout.isatty():
        return text
    import shutil
    import textwrap

    columns = max(shutil.get_terminal_size().columns, indent + 20)
    wrapped = textwrap.wrap(
        text, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapped) or text


def seconds(value: float | None) -> str:
    """A span for people; an unknown one is a dash."""
    return "-" if value is None or math.isnan(value) else units.duration(value)


def moment(epoch: float | None) -> str:
    """A moment in local time with its zone, and the date if it is another day."""
    if epoch is None:
        return "-"
    then = time.localtime(epoch)
    same_day = time.strftime("%Y-%m-%d", then) == time.strftime("%Y-%m-%d")
    return time.strftime("%H:%M:%S %Z" if same_day else "%Y-%m-%d %H:%M:%S %Z", then)


def size(count: float | None) -> str:
    """Bytes for people; an unknown number is a dash."""
    return "-" if count is None else units.size(count)


@contextmanager
def progress(total: int, label: str, done: int = 0) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, nothing in a pipe. Each call of the function counts one more and sets the text."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda text: bar.update(task, advance=1, description=text)


def part(found: Mapping[str, object], name: str) -> dict[str, object]:
    """The object under `name`, else an empty one."""
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def number_of(data: Mapping[str, object], name: str) -> float | None:
    """The number under `name`, else None."""
    value = data.get(name)
    return float(value) if isinstance(value, int | float) else None


Token = Mapping[str, object]
"""`token` of `/api/status`."""


def runway(token: Token) -> str:
    """How long until a person is needed."""
    left = number_of(token, "runway_seconds")
    if left is not None and not math.isnan(left):
        return f"{seconds(left)} until a person is needed" if left > 0 else "none: a person is needed now"
    if token.get("grant") == "authorization_code" and token.get("access") == "valid":
        return "not known"
    return "no person is ever needed" if token.get("grant") != "authorization_code" else "-"


def in_short(token: Token) -> str:
    """The runway, for a line that does not name it."""
    said = runway(token)
    return "the runway is not known" if said in ("not known", "-") else said


def access(token: Token) -> str:
    """The access token's state and time."""
    state, until = str(token.get("access")), number_of(token, "access_until")
    if until is None:
        return state if state == "none" else f"{state}, until a time that is not known"
    return f"{state} {'since' if state == 'expired' else 'until'} {moment(until)}"


def chain(token: Token) -> str:
    """The refresh chain's state and what is behind it."""
    reason, error = token.get("reason"), token.get("last_error")
    said = f"{token.get('chain')}" + (f" ({reason})" if reason else "")
    return f"{said}; last error: {error}" if error and error != reason else said
