"""Path patterns of the configuration: `*` within one segment, `**` over any number of segments, everything else literal.

Who is held against them (allowing, denying, routing) decides which reading of a path it gives: decoded once, or one of `readings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_SEGMENT_END = r"(?=/|\Z)"
_ANY_SEGMENTS = "(?:/[^/]*)*"


class Pattern:
    """A compiled path pattern. `matches(path)` says whether a path, without its query, matches as a whole."""

    __slots__ = ("_fullmatch", "ignore_case", "text")

    def __init__(self, text: str, ignore_case: bool = False) -> None:
        """Raises ValueError where `text` does not begin with a slash."""
        if not text.startswith("/"):
            raise ValueError(f"path pattern {text!r} must begin with '/'")
        self.text = text
        self.ignore_case = ignore_case
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._fullmatch: Callable[[str], object] = re.compile(_expression(text), flags).fullmatch

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def matches(self, path: str) -> bool:
        """Whether `path` matches as a whole, in time that grows with its length and not faster."""
        return self._fullmatch(path) is not None


@lru_cache(maxsize=1024)
def compile_pattern(text: str, *, ignore_case: bool = False) -> Pattern:
    """The pattern that `text` means; `/x/**` matches `/x`, `/x/` and all below. Raises ValueError where no slash begins it."""
    return Pattern(text, ignore_case)


def decoded_once(path: str) -> str:
    """`path` with its percent-escapes decoded once, as UTF-8 with surrogate escapes; broken escapes stay as they are."""
    if "%" not in path:
        return path
    raw = path.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_decoded_byte, raw).decode("utf-8", "surrogateescape")


def _decoded_byte(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))


def _expression(text: str) -> str:
    # Between two `**` the first place that fits is as good as any later one, so it is taken for good (an atomic group):
    # a long hostile path cannot make the matcher try all combinations.
    first, *blocks = re.split(r"/\*\*(?=/|\Z)", text)
    if not blocks:
        return _block(first)
    between = "".join(f"(?>{_ANY_SEGMENTS}?{_block(block)}{_SEGMENT_END})" for block in blocks[:-1] if block)
    return _block(first) + between + (_ANY_SEGMENTS + _block(blocks[-1]) if blocks[-1] else "(?:/.*)?")


def _block(text: str) -> str:
    return "".join("/" + _segment(segment) for segment in text.split("/")[1:])


def _segment(segment: str) -> str:
    # `**` as a part of a segment means no more than `*`; the same first-fit rule holds between two of them.
    first, *parts = (re.escape(part) for part in re.split(r"\*+", segment))
    if not parts:
        return first
    between = "".join(f"(?>[^/]*?{part})" for part in parts[:-1])
    return first + between + "[^/]*" + parts[-1]
