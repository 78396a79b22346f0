"""Filling the blocks of `pages.html`, where every text is escaped, and the formats of the pages: sizes, times, sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from passoproxy.core.units import duration

ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""What the pages load, by file name, with its media type."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


NOTHING = Html("")


@cache
def asset(name: str) -> bytes:
    """A file that the pages load."""
    return files("passoproxy.server.admin").joinpath("assets", name).read_bytes()


@cache
def _blocks() -> dict[str, Template]:
    text = files("passoproxy.server.admin").joinpath("pages.html").read_text(encoding="utf-8")
    parts = re.split(r"^<!-- @(\w+) -->\n", text, flags=re.MULTILINE)
    return {name: Template(block.rstrip("\n")) for name, block in zip(parts[1::2], parts[2::2], strict=True)}


def fill(block: str, /, **values: object) -> Html:
    """A block of `pages.html` with its values, escaped unless they are Html."""
    shown = {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
    return Html(_blocks()[block].substitute(shown))


def join(parts: Iterable[Html]) -> Html:
    """Blocks one after the other."""
    return Html("".join(parts))


def document(title: str, body: Html) -> Html:
    """A whole page."""
    return fill("document", title=title, body=body)


def countdown(seconds: float) -> Html:
    """A duration that the page's script counts down."""
    return fill("countdown", seconds=f"{seconds:.0f}", text=duration(seconds))


def rows(values: dict[str, str]) -> Html:
    """A list of terms; one with an empty value is left out."""
    return fill("rows", rows=join(fill("row", term=term, value=value) for term, value in values.items() if value))


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
