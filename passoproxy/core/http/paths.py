"""Path patterns of the configuration (`*` within one segment, `**` over any number of segments, everything else literal), and every path that a server
behind the proxy could take a path for, so that a rule holds under each disguise.

Servers differ in what they decode, how often, when they resolve dot segments, and where a script's path ends; a filter that reads a path in one
way is passed by in another. Which paths are allowed or denied is decided in `core.access`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain

_BYTE_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
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
    return _BYTE_ESCAPE.sub(_decoded_byte, raw).decode("utf-8", "surrogateescape")


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


# Escapes nested deeper, or dot segments that can be read in more ways, stand in no honest path.
_MOST_ROUNDS = 16
_MOST_READINGS = 16
_MOST_SEGMENTS = 256
_MOST_BEGINNINGS = 8

_UNUSUAL = re.compile(r"[%;\\\s]|\.\.|\.php|\A//", re.IGNORECASE)
_ESCAPE = re.compile("%(?:[0-9A-Fa-f]{2}|[uU][0-9A-Fa-f]{4})")
_UNICODE_ESCAPE = re.compile("%[uU]([0-9A-Fa-f]{4})")
_NESTED = re.compile("%(?:25)+(?=[0-9A-Fa-f]{2})")
_OVERLONG = re.compile(rb"[\xc0\xc1]([\x80-\xbf])|\xe0[\x80\x81]([\x80-\xbf])|\xf0\x80[\x80\x81]([\x80-\xbf])")
_OVERLONG_BASES = {0xC0: 0x00, 0xC1: 0x40, 0x80: 0x00, 0x81: 0x40}
_CUT = re.compile("[?#\0]")
_SCRIPT = re.compile(r"\.php", re.IGNORECASE)

_NO_NAMES = ("", ".", "..")

_Stacks = frozenset[tuple[str, ...]]


def readings(path: str, *, scripts: bool = True) -> frozenset[str] | None:
    """The readings of `path` (without its query), lower case; None where it has too many to be meant.

    All are decoded again and again (over-long UTF-8 too), with `\\` as `/` and without `;parameters`, NUL, empty and dot segments. They
    differ at a `..` (it goes up for one server and is a name for the next), at an encoded `?`, `#` or NUL, behind `//`, which could begin an
    authority, and behind `.php`, where the path that a front controller sees may begin; without `scripts` the last two are left out.
    """
    if not _UNUSUAL.search(path):
        return frozenset(("/" + "/".join(part for part in path.lower().split("/") if part not in ("", ".")),))
    segments = path.split("/")
    return _all_readings(segments, scripts) if len(segments) <= _MOST_SEGMENTS else None


def climbs(path: str) -> bool:
    """Whether a reading of `path` leads above its root: then it could leave the folder that it is put under."""
    if not _UNUSUAL.search(path):
        return False
    depth = 0
    for segment in path.split("/"):
        plain = _plain(segment)
        if plain is None:
            return True
        for part in plain.split("/"):
            name = _name(part)
            cut = _name(_CUT.split(part)[0])
            if not depth and ".." in (name, cut):
                return True
            depth += -1 if name == ".." else name not in _NO_NAMES
    return False


def _all_readings(segments: list[str], scripts: bool) -> frozenset[str] | None:
    parts: list[str] = []
    for segment in segments:
        plain = _plain(segment)
        if plain is None:
            return None
        parts += plain.split("/")
        if len(parts) > _MOST_SEGMENTS:
            return None
    found: frozenset[str] = frozenset()
    for number, each in enumerate(_beginnings(parts) if scripts else (parts,)):
        walked = _walked(each) if number < _MOST_BEGINNINGS else None
        if walked is None:
            return None
        found |= walked
    return found


def _beginnings(parts: list[str]) -> Iterator[list[str]]:
    """Where the path may begin: where it does, behind each `.php` (its PATH_INFO, for a front controller that takes what stands before for its
    own address), and behind a host after `//` at each of these (for a server that parses a path as a URL)."""
    behind_scripts = (
        [part[script.end() :], *parts[at + 1 :]] for at, part in enumerate(parts) for script in _SCRIPT.finditer(part)
    )
    for begun in chain((parts,), (rest for rest in behind_scripts if any(rest))):
        yield begun
        host = next((at for at, part in enumerate(begun) if _name(part) not in _NO_NAMES), None)
        if host is not None and any(not _name(part) for part in begun[1:host]):
            yield begun[host + 1 :]


def _walked(parts: list[str]) -> frozenset[str] | None:
    found: frozenset[str] = frozenset()
    stacks: _Stacks = frozenset({()})
    for part in parts:
        for text in (part, part.replace("\0", "")):
            if cut := _CUT.search(text):
                found |= _joined(_step(stacks, text[: cut.start()]))
        stacks = _step(stacks, part)
        if len(stacks) > _MOST_READINGS or len(found) > _MOST_READINGS:
            return None
    return found | _joined(stacks)


def _name(part: str) -> str:
    return part.replace("\0", "").partition(";")[0].strip()


def _step(stacks: _Stacks, part: str) -> _Stacks:
    name = _name(part)
    if name == "..":
        # A server that does not go up takes it for a name; left out, it shows what lies below that name.
        return stacks | frozenset(stack[:-1] for stack in stacks)
    if name in _NO_NAMES:
        return stacks
    return frozenset((*stack, name.lower()) for stack in stacks)


def _joined(stacks: _Stacks) -> frozenset[str]:
    return frozenset("/" + "/".join(stack) for stack in stacks)


def _plain(segment: str) -> str | None:
    if "%" in segment:
        for _ in range(_MOST_ROUNDS):
            if not _ESCAPE.search(segment):
                break
            segment = _UNICODE_ESCAPE.sub(_character, decoded_once(_NESTED.sub("%", segment)))
        else:
            return None
        segment = _without_overlong(segment)
    return segment.replace("\\", "/")


def _character(escape: re.Match[str]) -> str:
    # Half a character has bytes too, which are read as any that are not UTF-8.
    return chr(int(escape[1], 16)).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def _without_overlong(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return _OVERLONG.sub(_short_form, raw).decode("utf-8", "surrogateescape")


def _short_form(found: re.Match[bytes]) -> bytes:
    *_, base, last = found[0]
    return bytes((_OVERLONG_BASES[base] | (last & 0x3F),))
