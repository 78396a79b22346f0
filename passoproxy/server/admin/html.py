"""Small pieces of HTML: everything that comes in as text is escaped here, and nowhere is a style or a script written inline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from aiohttp import web

from passoproxy.core.units import duration

ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""What the page loads, by file name, with its media type."""


@cache
def asset(name: str) -> bytes:
    """A file of the package's assets."""
    return files("passoproxy.server").joinpath("assets", name).read_bytes()


def document(title: str, body: str) -> str:
    """A whole page; `body` is HTML."""
    return Template(asset("page.html").decode()).substitute(title=e(title), body=body)


def html(text: str, status: int = 200) -> web.Response:
    """A page as an answer."""
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def e(value: object) -> str:
    """`value` as text in HTML."""
    return escape("" if value is None else str(value))


def pill(text: str, mood: str = "") -> str:
    """A word in a capsule; `mood` is good, warn, bad or ''."""
    return f'<span class="pill {mood}">{e(text)}</span>'


def word(text: object, mood: str = "") -> str:
    """A word in a colour; `mood` as for `pill`."""
    return f'<span class="word {mood}">{e(text)}</span>'


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """A list of terms; the second of each pair is HTML, and a pair without it is left out."""
    return "<dl>" + "".join(f"<dt>{e(term)}</dt><dd>{value}</dd>" for term, value in rows if value) + "</dl>"


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """A table; `heads` are pairs of title and class of the column, cells are HTML."""
    head = "".join(
        f'<th class="{style.replace("wide", "").replace("target", "")}">{e(title)}</th>' for title, style in heads
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{style}">{cell}</td>' for (_, style), cell in zip(heads, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def bar(share: float, mood: str) -> str:
    """A bar filled to `share` (0 to 1)."""
    width = f"{100 * min(1.0, max(0.0, share)):.1f}"
    return (
        f'<svg class="bar {mood}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width}" height="10"/></svg>'
    )


def sparkline(values: Sequence[float]) -> str:
    """Columns side by side, the highest as high as the picture."""
    top = max(values, default=0) or 1
    columns = "".join(
        f'<rect x="{place * 4}" y="{36 - 34 * value / top:.1f}" width="3" height="{34 * value / top:.1f}"/>'
        for place, value in enumerate(values)
        if value
    )
    width = max(1, len(values)) * 4
    return (
        f'<svg class="spark" viewBox="0 0 {width} 36" preserveAspectRatio="none" role="img" aria-label="requests in the last minute">'
        f'<line x1="0" y1="35.5" x2="{width}" y2="35.5"/>{columns}</svg>'
    )


def size(amount: float) -> str:
    """Bytes for people: `1.4 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def took(seconds: float) -> str:
    """How long an exchange lasted: `0.4 ms`, `12 ms`, `1.5 s`."""
    milliseconds = 1000 * seconds
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 999.5 else f"{seconds:.1f} s"


def sentence(text: object) -> str:
    """`text` with a capital at its beginning, unless that is a name such as `oauth.grant`."""
    words = str(text or "")
    first = words.partition(" ")[0].rstrip(",:;.")
    return words[:1].upper() + words[1:] if first.isalpha() else words


def clock_time(at: float) -> str:
    """Epoch seconds as the time of day in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def date_and_time(at: float) -> str:
    """Epoch seconds as date and time in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%a %d %b %Y, %H:%M UTC")


def countdown(seconds: float) -> str:
    """A duration that the page's script counts down."""
    return f'<span data-left="{seconds:.0f}">{e(duration(seconds))}</span>'


def form(action: str, page_token: str, inner: str) -> str:
    """A form that posts to this listener with the page token."""
    return f'<form method="post" action="{e(action)}"><input type="hidden" name="page_token" value="{e(page_token)}">{inner}</form>'
