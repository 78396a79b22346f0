"""Filling the blocks of `pages.html`, where every text is escaped, and the formats of the pages: sizes, times, sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape, unescape
from importlib.resources import files
from string import Template

ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    **dict.fromkeys(("icon.svg", "icon-warn.svg", "icon-bad.svg"), "image/svg+xml"),
}
"""What the pages load, by file name, with its media type."""
_BAR, _HIGH = 4, 40
"""A bar of a chart is so wide with its gap, and at most so high."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()

    def plain(self) -> str:
        """Its text alone."""
        return unescape(re.sub(r"<[^>]*>", "", self))


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
    return Html(_blocks()[block].substitute(_escaped(values)))


def phrase(template: str, /, **values: object) -> Html:
    """A sentence that is HTML, with its values at their names in braces, escaped unless they are Html."""
    return Html(template.format(**_escaped(values)))


def _escaped(values: Mapping[str, object]) -> dict[str, str]:
    return {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}


def join(parts: Iterable[Html]) -> Html:
    """Blocks one after the other."""
    return Html("".join(parts))


def document(title: str, body: Html, mood: str = "", head: Html = NOTHING) -> Html:
    """A whole page; `mood` is that of its face."""
    icon = f"icon-{mood}.svg" if f"icon-{mood}.svg" in ASSETS else "icon.svg"
    return fill("document", title=title, body=body, mood=mood, icon=icon, head=head)


def bars(values: Sequence[float | None], top: float) -> Html:
    """The path of a chart's bars: one a value, as high as its share of `top`; none for nothing."""
    heights = [(place, max(1.0, _HIGH * min(1.0, value / top))) for place, value in enumerate(values) if value]
    return Html("".join(f"M{place * _BAR} {_HIGH}v-{high:.1f}h{_BAR - 1}v{high:.1f}z" for place, high in heights))


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


def moment(at: float, now: float, joined: bool = False, form: str = "minute") -> Html:
    """Epoch seconds as local time with its zone, and the day if that is not today's. `joined`: with `at` or `on` before it.

    `form` is `minute`, or `second` for a time without a zone. The page's script shows the time of the browser's zone in the same words.
    """
    try:
        there, today = (datetime.fromtimestamp(each, UTC).astimezone() for each in (at, now))
    except (OverflowError, ValueError, OSError):
        return Html("at a time that no calendar has") if joined else Html("a time that no calendar has")
    day = ""
    if there.date() != today.date():
        day = there.strftime("%a %d %b %Y" if there.year != today.year else "%a %d %b")
    clock = there.strftime("%H:%M:%S" if form == "second" else "%H:%M %Z")
    if joined:
        text = f"on {day} at {clock}" if day else f"at {clock}"
    else:
        text = f"{day}, {clock}" if day else clock
    stamp = there.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return fill("moment", stamp=stamp, form=form, joined="1" if joined else "", text=text)
