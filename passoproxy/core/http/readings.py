"""Every path that someone behind the proxy could take a path for, so that a denial holds under each disguise.

Servers differ in what they decode, how often, and when they resolve dot segments; a filter that knows one reading is passed by
in another. Which paths are denied is left to `core.admission`.
"""

from __future__ import annotations

import re

from passoproxy.core.http.patterns import decoded_once

# Escapes nested deeper, or dot segments that can be read in more ways, are nobody's honest path.
_MOST_ROUNDS = 16
_MOST_READINGS = 64

_MOST_SEGMENTS = 256

_UNUSUAL = re.compile(r"[%;\\\s]|\.\.")
_ESCAPE = re.compile("%(?:[0-9A-Fa-f]{2}|[uU][0-9A-Fa-f]{4})")
_UNICODE_ESCAPE = re.compile("%[uU]([0-9A-Fa-f]{4})")
_NESTED = re.compile("%(?:25)+(?=[0-9A-Fa-f]{2})")
_OVERLONG = re.compile(rb"[\xc0\xc1]([\x80-\xbf])|\xe0[\x80\x81]([\x80-\xbf])|\xf0\x80[\x80\x81]([\x80-\xbf])")
_OVERLONG_BASES = {0xC0: 0x00, 0xC1: 0x40, 0x80: 0x00, 0x81: 0x40}
_CUT = re.compile("[?#\0]")

_Stacks = frozenset[tuple[str, ...]]


def readings(path: str) -> frozenset[str] | None:
    """The readings of `path` (without its query), lower case; None where it has too many to be meant.

    All are decoded again and again (over-long UTF-8 too), with `\\` as `/` and without `;parameters`, NUL, empty and dot segments. They
    differ where a `..` was disguised (it goes up for one server and is a name for the next) and at an encoded `?`, `#` or NUL.
    """
    if not _UNUSUAL.search(path):
        return frozenset(("/" + "/".join(part for part in path.lower().split("/") if part not in ("", ".")),))
    segments = path.split("/")
    return _all_readings(segments) if len(segments) <= _MOST_SEGMENTS else None


def _all_readings(segments: list[str]) -> frozenset[str] | None:
    found: set[str] = set()
    stacks: _Stacks = frozenset({()})
    for segment in segments:
        plain = _plain(segment)
        if plain is None:
            return None
        for part in plain.split("/"):
            if cut := _CUT.search(part):
                found |= _joined(_step(stacks, part[: cut.start()], disguised=True))
            stacks = _step(stacks, part.replace("\0", ""), disguised=part != segment)
        if len(stacks) > _MOST_READINGS or len(found) > _MOST_READINGS:
            return None
    return frozenset(found | _joined(stacks))


def _step(stacks: _Stacks, part: str, *, disguised: bool) -> _Stacks:
    name = part.partition(";")[0]
    stripped = name.strip()
    if stripped == "..":
        up = frozenset(stack[:-1] for stack in stacks)
        # A disguised `..` may be a name to the next server; dropping it there is enough to see what lies below.
        return up | stacks if disguised or part != ".." else up
    if stripped in ("", "."):
        return stacks
    return frozenset((*stack, stripped.lower()) for stack in stacks)


def _joined(stacks: _Stacks) -> set[str]:
    return {"/" + "/".join(stack) for stack in stacks}


def _plain(segment: str) -> str | None:
    if "%" in segment:
        for _ in range(_MOST_ROUNDS):
            if not _ESCAPE.search(segment):
                break
            segment = _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), decoded_once(_NESTED.sub("%", segment)))
        else:
            return None
        segment = _without_overlong(segment)
    return segment.replace("\\", "/")


def _without_overlong(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return _OVERLONG.sub(_short_form, raw).decode("utf-8", "surrogateescape")


def _short_form(found: re.Match[bytes]) -> bytes:
    *_, base, last = found[0]
    return bytes((_OVERLONG_BASES[base] | (last & 0x3F),))
