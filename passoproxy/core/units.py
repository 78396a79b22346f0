"""Durations, sizes and shares: how people write them, how they are shown exactly, and how they are told in words.

Durations are seconds in float, sizes bytes, shares between 0 and 1. A reader raises ValueError with the text `problem; remedy`, which
shows the value and an example. The key, and its place, are the caller's to add.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_LOWER_BYTES = {name.lower(): factor for name, factor in _BYTES.items()}
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", re.ASCII)

LONGEST = 100 * 365 * 86400.0
"""The longest duration that is accepted, in seconds."""

_DURATION_EXAMPLE = "write for example 30s, 15m, 6h, 7d, or a number of seconds"
_SIZE_EXAMPLE = "write for example 64MiB, 1GiB, or a number of bytes"
_SHARE_EXAMPLE = "write for example 55%, or 0.55"


# ---- read ------------------------------------------------------------------------------------------------------------


def read_duration(value: object) -> float:
    """Seconds from `30s`, `15m`, `6h`, `7d`, `250ms` or a number of seconds."""
    seconds = _read(value, _SECONDS, "a duration", _DURATION_EXAMPLE)
    if seconds > LONGEST:
        raise ValueError(f"{quoted(value)} is longer than 100 years; {_DURATION_EXAMPLE}")
    return seconds


def read_size(value: object) -> int:
    """Bytes from `64MiB`, `1GiB` or a number of bytes."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and (decimal := re.fullmatch(r"([0-9.]+) ?([kKmMgGtT])[bB]?", text)):
        meant = quoted(f"{decimal[1]}{decimal[2].upper()}iB")
        raise ValueError(f"{quoted(value)} is not a size; write {meant} (powers of 1024)")
    amount = _read(text.lower() if isinstance(text, str) else value, _LOWER_BYTES, "a size", _SIZE_EXAMPLE, value)
    if amount != int(amount) or amount >= 1 << 60:
        raise ValueError(f"{quoted(value)} is not a size in whole bytes below 1 EiB; {_SIZE_EXAMPLE}")
    return int(amount)


def read_share(value: object) -> float:
    """A share from `55%` or a number between 0 and 1."""
    text = value.strip() if isinstance(value, str) else value
    is_percent = isinstance(text, str) and text.endswith("%")
    number = text[:-1].rstrip() if isinstance(text, str) and is_percent else text
    amount = _read(number, {}, "a share", _SHARE_EXAMPLE, value) / (100 if is_percent else 1)
    if amount > 1:
        meant_percent = isinstance(text, int | float) and amount <= 100
        meant = f"write {amount:.10g}%, or {amount / 100:.10g}" if meant_percent else _SHARE_EXAMPLE
        raise ValueError(f"{quoted(value)} is more than the whole; {meant}")
    return amount


def _read(value: object, units: Mapping[str, float], kind: str, example: str, shown: object = None) -> float:
    """The amount that `value` means, by its unit if it has one. A fault shows `shown`, if that is given, in the place of `value`."""
    seen = quoted(value if shown is None else shown)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise ValueError(f"{seen} is not {kind}, which is never below zero or without end; {example}")
        return float(value)
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or (found[2] and found[2] not in units):
        raise ValueError(f"{seen} is not {kind}; {example}")
    # 0.1 h is 360 s exactly, also in floats
    return round(float(found[1]) * units[found[2]], 6) if found[2] else float(found[1])


def quoted(value: object) -> str:
    """A value as a person recognises it: short, text in quotes, a container only by its kind."""
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


# ---- shown exactly, so that they can be read again -------------------------------------------------------------------


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
    """The shortest exact form: `67108864` gives `64MiB`, `1500` gives `1500`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % _BYTES[unit] == 0:
            return f"{amount // _BYTES[unit]}{unit}"
    return str(amount)


def show_share(amount: float) -> str:
    """As a percentage: `0.55` gives `55%`."""
    return f"{amount * 100:.10g}%"


# ---- told in words, the same in logs, pages and commands -------------------------------------------------------------


def counted(count: int, noun: str) -> str:
    """How many, with the noun in its number."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """The two largest units: `9 d 4 h`, `3 h 20 min`, `45 s`."""
    whole = max(0, int(seconds))
    parts = [(whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((place for place, (amount, _) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount) or "0 s"


def size(count: float) -> str:
    """Bytes in the largest binary unit that fits, GiB at most: `512 B`, `1.4 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    unit = next((unit for unit in ("KiB", "MiB") if count < 1024 * _BYTES[unit]), "GiB")
    return f"{count / _BYTES[unit]:.1f} {unit}"


def moment(at: float) -> str:
    """Epoch seconds as RFC 3339 in UTC, with whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
