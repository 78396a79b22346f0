"""How a log line looks: JSON for machines, text for people. What it says is decided elsewhere; secrets are gone before it comes here.

Whatever a client sent appears escaped: no control character, no line break of its own, no character that turns the writing direction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

Values = Mapping[str, object]
Render = Callable[[float, str, str, Values], str]
"""(moment as epoch seconds, level, sentence, particulars) to one line without its line end."""

# C0, DEL, C1, line and paragraph separators, direction marks, and the surrogates in which undecodable bytes travel.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NEEDS_QUOTES: Final = re.compile(r'[\s"=]')
_COLOURS: Final = {
    "debug": "\x1b[2m",
    "info": "\x1b[36m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"
_SHORT: Final = {"warning": "warn", "critical": "crit"}


def escaped(text: str) -> str:
    """`text` with everything unprintable written out, undecodable bytes as `\\xNN`."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def timestamp(at: float) -> str:
    """Epoch seconds as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def as_json(at: float, level: str, sentence: str, values: Values) -> str:
    """One JSON object: `time`, `level`, `event`, then the particulars, which cannot take the place of these."""
    line: dict[str, object] = {"time": timestamp(at), "level": level, "event": escaped(sentence)}
    for name, value in values.items():
        line.setdefault(name, _plain(value))
    if trace := values.get("exception"):
        line["exception"] = "\n".join(map(escaped, str(trace).split("\n")))
    return json.dumps(line, ensure_ascii=False)


def as_text(at: float, level: str, sentence: str, values: Values) -> str:
    """`2026-01-31T12:00:00.000Z  warn  the sentence  name=value`; a traceback follows indented, so that no line of it can pass for another."""
    return _text(at, level, sentence, values, "", "", "")


def as_coloured_text(at: float, level: str, sentence: str, values: Values) -> str:
    """The same for a terminal."""
    return _text(at, level, sentence, values, _COLOURS.get(level, ""), _DIM, _PLAIN)


def _text(at: float, level: str, sentence: str, values: Values, colour: str, dim: str, plain: str) -> str:
    named = " ".join(
        f"{name}={_quoted(value)}" for name, value in values.items() if name != "exception" and value not in ("", None)
    )
    line = f"{dim}{timestamp(at)}{plain}  {colour}{_SHORT.get(level, level):<6}{plain}  {escaped(sentence)}"
    if named:
        line += f"  {dim}{named}{plain}"
    if trace := values.get("exception"):
        line += "".join(f"\n    {escaped(part)}" for part in str(trace).split("\n"))
    return line


def _quoted(value: object) -> str:
    text = escaped(str(value))
    return json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return escaped(value if isinstance(value, str) else str(value))
