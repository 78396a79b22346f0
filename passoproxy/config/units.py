"""Durations, sizes and shares as people write them, and back. Seconds are floats, sizes are bytes, a share lies between 0 and 1.

Errors are ValueErrors whose text shows the value seen and what a right one looks like. Which key was meant is the reader's to say.
"""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", re.ASCII)

LONGEST = 100 * 365 * 86400.0
"""The longest duration, in seconds; what is longer is a slip of the pen."""

DURATION_EXAMPLE = "write for example 30s, 15m, 6h, 7d, or a number of seconds"
SIZE_EXAMPLE = "write for example 64MiB, 1GiB, or a number of bytes"
SHARE_EXAMPLE = "write for example 55%, or 0.55"


def quoted(value: object) -> str:
    """A value as a person would recognise it: short, in quotes where it is text, a container only by its kind."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            flat = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in value)
            return f"'{flat}'" if len(flat) <= 60 else f"'{flat[:57]}...'"
        case _:
            return str(value)[:60]


def duration(value: object) -> float:
    """Seconds from `30s`, `15m`, `6h`, `7d`, `250ms` or a number of seconds. Raises ValueError."""
    seconds = _amount(value, _SECONDS, "s", "a duration", DURATION_EXAMPLE)
    if seconds > LONGEST:
        raise ValueError(f"{quoted(value)} is longer than 100 years; {DURATION_EXAMPLE}")
    return seconds


def size(value: object) -> int:
    """Bytes from `64MiB`, `1GiB` or a number of bytes. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and re.fullmatch(r"[0-9.]+ ?[kKmMgGtT][bB]?", text):
        meant = f"{text.rstrip('bB')[:-1].rstrip()}{text.rstrip('bB')[-1].upper()}iB"
        raise ValueError(f"{quoted(value)} is not a size; write {quoted(meant)} (powers of 1024)")
    amount = _amount(value, {name.lower(): factor for name, factor in _BYTES.items()}, "b", "a size", SIZE_EXAMPLE)
    if amount != int(amount) or amount >= 1 << 60:
        raise ValueError(f"{quoted(value)} is not a size in whole bytes below 1 EiB; {SIZE_EXAMPLE}")
    return int(amount)


def share(value: object) -> float:
    """A share from `55%` or a number between 0 and 1. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.endswith("%"):
        amount = _amount(text[:-1].rstrip(), {}, "", "a share", SHARE_EXAMPLE, seen=value) / 100
    else:
        amount = _amount(value, {}, "", "a share", SHARE_EXAMPLE)
    if amount > 1:
        percent = isinstance(text, int | float) and amount <= 100
        meant = f"write {amount:.10g}%, or {amount / 100:.10g}" if percent else SHARE_EXAMPLE
        raise ValueError(f"{quoted(value)} is more than the whole; {meant}")
    return amount


def _amount(
    value: object, units: dict[str, float] | dict[str, int], bare: str, kind: str, example: str, seen: object = None
) -> float:
    wrong = f"{quoted(value if seen is None else seen)} is not {kind}; {example}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise ValueError(f"{quoted(value)} is not {kind}, which is never below zero or without end; {example}")
        return float(value)
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(wrong)
    number, unit = found.groups()
    if not unit:
        return float(number)
    factor = units.get(unit if bare == "s" else unit.lower())
    if factor is None:
        raise ValueError(wrong)
    # 0.1 h is 360 s exactly, also in floats
    return round(float(number) * factor, 6)


def show_duration(seconds: float) -> str:
    """The shortest exact form: `3600` gives `1h`, `90` gives `90s`, `0.25` gives `250ms`."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    milliseconds = round(seconds * 1000, 3)
    return f"{int(milliseconds)}ms" if milliseconds == int(milliseconds) else f"{seconds:.6f}".rstrip("0") + "s"


def show_size(amount: int) -> str:
    """The shortest exact form: `67108864` gives `64MiB`; bytes where nothing larger fits."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % _BYTES[unit] == 0:
            return f"{amount // _BYTES[unit]}{unit}"
    return str(amount)


def show_share(amount: float) -> str:
    """As a percentage: `0.55` gives `55%`."""
    return f"{amount * 100:.10g}%"
