"""The syntax that every field shares: tokens, values, quoted strings, lists (RFC 9110 §5) and dates (§5.6.7).

What a field means is left to the modules that read it; targets and authorities are in `request_line`, entity tags in `conditional`.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

from passoproxy.core.http.messages import Fields

WORD_CHARACTERS = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
"""The characters of a token (RFC 9110 §5.6.2), as the inside of a character class."""

_TOKEN = re.compile(f"[{WORD_CHARACTERS}]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CLOSED = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*+")*+', re.DOTALL)
_MEMBER = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+")+', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# ---- tokens, values, quoted strings, lists -----------------------------------------------------------------------------


def is_token(text: str) -> bool:
    """Whether `text` is a token: a field name, a method, a directive (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether `text` may stand as a field value: no control characters but tab (RFC 9110 §5.5)."""
    return _FORBIDDEN_IN_VALUE.search(text) is None


def quoted(text: str) -> str:
    """`text` as a quoted string (RFC 9110 §5.6.4)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(text: str) -> str:
    """What a quoted string stands for; `text` itself where it is not one."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return _ESCAPED.sub(r"\1", text[1:-1])


def split_list(value: str) -> list[str]:
    """The members of a comma-separated list (RFC 9110 §5.6.1): commas inside quoted strings do not split, empty members are dropped.

    A quotation mark that is never closed is an ordinary character, so that the commas after it split: no member can swallow the rest.
    """
    members = _split_around_quotes(value) if '"' in value else value.split(",")
    return [stripped for member in members if (stripped := member.strip(" \t"))]


def members_of(fields: Fields, name: str) -> list[str]:
    """The members of a list field over all its lines, in order (RFC 9110 §5.3)."""
    return [member for value in fields.getall(name, ()) for member in split_list(value)]


def _split_around_quotes(value: str) -> list[str]:
    # Where one quotation mark is never closed, none after it is: so the rest is split plainly, and the time stays linear.
    closed = _CLOSED.match(value)
    end = closed.end() if closed else 0
    members: list[str] = _MEMBER.findall(value, 0, end)
    rest = value[end:].split(",")
    if members and value[end - 1] != ",":
        rest[0] = members.pop() + rest[0]
    return members + rest


# ---- dates -------------------------------------------------------------------------------------------------------------

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}

_TIME = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_SHORT_DAY, _MONTH = f"(?:{'|'.join(_DAYS)})", f"(?P<month>{'|'.join(_MONTHS)})"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        f"{_SHORT_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",  # IMF-fixdate
        f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850, obsolete
        f"{_SHORT_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime, obsolete
    )
)
_IMF_LENGTH = len("Sun, 06 Nov 1994 08:49:37 GMT")
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LAST_SECOND = (date.max.toordinal() - _EPOCH_ORDINAL + 1) * 86400 - 1
_FIRST_SECOND = (date.min.toordinal() - _EPOCH_ORDINAL) * 86400


def parse_date(text: str, now: float | None = None) -> float | None:
    """Epoch seconds of an HTTP-date in any of its three forms (RFC 9110 §5.6.7); None where it is none.

    Letters are read without regard to case, as most caches do; anything else is exact. A two-digit year is the one that lies at
    most 50 years after `now` (epoch seconds); without `now`, 70 to 99 are of the 20th century.
    """
    if len(text) == _IMF_LENGTH:  # the only form of that length
        return _imf_fixdate(text)
    for form in _FORMS[1:]:
        if found := form.fullmatch(text):
            return _seconds(found, now)
    return None


@lru_cache(maxsize=512)
def _imf_fixdate(text: str) -> float | None:
    found = _FORMS[0].fullmatch(text)
    return None if found is None else _seconds(found, None)


def print_date(moment: float) -> str:
    """Epoch seconds as an IMF-fixdate, fractions dropped; beyond the years 1 to 9999 the nearest date that can be printed."""
    days, second = divmod(int(min(max(moment, _FIRST_SECOND), _LAST_SECOND) // 1), 86400)
    day = date.fromordinal(_EPOCH_ORDINAL + days)
    return (
        f"{_DAYS[day.weekday()]}, {day.day:02d} {_MONTHS[day.month - 1]} {day.year:04d} "
        f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} GMT"
    )


def _seconds(found: re.Match[str], now: float | None) -> float | None:
    year = int(found["year"])
    if len(found["year"]) == 2:
        year = _full_year(year, now)
    try:
        ordinal = date(year, _MONTH_NUMBERS[found["month"].lower()], int(found["day"])).toordinal()
    except ValueError:  # 31 Feb, year 0
        return None
    days = ordinal - _EPOCH_ORDINAL
    return float(days * 86400 + int(found["hour"]) * 3600 + int(found["minute"]) * 60 + int(found["second"]))


def _full_year(two_digits: int, now: float | None) -> int:
    if now is None:
        return two_digits + (1900 if two_digits >= 70 else 2000)
    this_year = date.fromordinal(_EPOCH_ORDINAL + int(now // 86400)).year
    year = this_year - this_year % 100 + two_digits
    if year > this_year + 50:
        return year - 100
    # The window of a century that ends 50 years ahead holds each pair of digits once.
    return year + 100 if year + 100 <= this_year + 50 else year
