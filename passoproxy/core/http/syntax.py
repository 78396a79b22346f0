"""Entity tags (RFC 9110 §8.8.3): reading lists of them, and the forms that a proxy gives to a representation it has changed.

A strong tag names bytes. Where the proxy sends other bytes it sends another tag: the same with the coding's name as a suffix, or
the weak form. What a client sends back in a condition is brought to the forms that the inner rooms know.

The syntax that every field shares: tokens, values, quoted strings, lists (RFC 9110 §5) and dates (§5.6.7).

What a particular field means is left to the rooms that read it; targets and authorities are in `targets`, framing in `framing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache

from passoproxy.core.http.messages import Fields, ResponseHead, changed

SUFFIXES = ("-gzip", "-br", "-zstd", "-identity")
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff\udc80-\udcff]*"')
_LIST = re.compile(rf"[ \t,]*(?:{_TAG.pattern}[ \t]*(?:,[ \t,]*|$))*")


def read_list(value: str) -> tuple[str, ...] | None:
    """The tags of an `If-Match` or `If-None-Match` value, in order; None where it is `*` or no list of tags."""
    if _LIST.fullmatch(value) is None:
        return None
    return tuple(_TAG.findall(value))


def with_quotes(tag: str) -> str:
    """The tag with the quotation marks that some origins forget: as it is compared, and as it can be given another form."""
    return tag if '"' in tag else f'"{tag}"'


def opaque(tag: str) -> str:
    """The tag without its weakness: what a weak comparison compares."""
    return tag.removeprefix("W/")


def weak(tag: str) -> str:
    """The weak form."""
    return f"W/{opaque(with_quotes(tag))}"


def suffixed(tag: str, coding: str) -> str:
    """The form of a strong tag for bytes in another coding; a weak tag names no bytes and stays."""
    return tag if tag.startswith("W/") else f'{with_quotes(tag)[:-1]}-{coding}"'


def unsuffixed(tag: str) -> str:
    """The tag without a suffix of ours, if it has one."""
    for suffix in SUFFIXES:
        if tag.endswith(f'{suffix}"'):
            return f'{tag[: -len(suffix) - 1]}"'
    return tag


def forms_behind(tag: str) -> tuple[str, ...]:
    """The tags of which `tag` may be a form, itself first: it may be the origin's own."""
    strong = opaque(tag)
    return tuple(dict.fromkeys((tag, strong, unsuffixed(strong))))


def with_inner_forms(value: str) -> str:
    """An `If-None-Match` value in which every tag stands beside the form that the inner rooms know; others stay as they are."""
    tags = read_list(value)
    if tags is None:
        return value
    return ", ".join(dict.fromkeys(form for tag in tags for form in (tag, unsuffixed(tag))))


def not_modified_for(head: ResponseHead, sent: str | None) -> ResponseHead:
    """A 304 that names its tag in the form in which the client sent it, so that the client finds its stored response again."""
    tag = head.fields.get("ETag")
    if tag is None or sent is None:
        return head
    for known in read_list(sent) or ():
        if known != tag and opaque(with_quotes(tag)) in (opaque(known), opaque(unsuffixed(known))):
            return head.with_fields(changed(head.fields, having=(("ETag", known),)))
    return head


def merged_vary(values: Iterable[str], name: str) -> str:
    """`Vary` with `name` in it once; `*` stays alone (RFC 9110 §12.5.5)."""
    members = [member for value in values for member in (each.strip() for each in value.split(",")) if member]
    if "*" in members:
        return "*"
    if name.lower() not in (member.lower() for member in members):
        members.append(name)
    return ", ".join(members)


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
