"""A token answer becomes a pair: every odd form that providers send is read, and nothing that can be kept is lost (contract §4).

Whether a reply is an answer at all is decided in `replies`. Signatures are not checked: claims are read for lifetimes and the
subject only, from an answer that TLS brought.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from itertools import islice
from urllib.parse import parse_qsl

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.terms import Terms
from passoproxy.errors import AnswerUnusable

LONGEST_LIFETIME = 100 * 365.25 * 86400
"""A lifetime beyond a century is taken for a fault, not for a promise."""

IMPORT = "import"
"""The grant of an answer to the refresh that proves an imported pair."""

_SOURCES = {"refresh_token": "refresh", "authorization_code": "login"}
_TOKEN = re.compile(r"[\x21-\x7e]+")
_MOST_DIGITS = 30


def _integer(digits: str) -> float:
    # One of thousands of digits is a ValueError to int(), and must not cost the tokens beside it.
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


_LENIENT = json.JSONDecoder(strict=False, parse_int=_integer)
_BRACE = re.compile("{")
_MOST_STARTS = 200
"""Places in an answer at which an object is looked for: each costs time, and a pair stands near the start."""


def read_answer(
    body: bytes, content_type: str, sent_at: float, grant: str, previous: Pair | None, terms: Terms, salt: str
) -> Pair:
    """The pair that a token answer holds, counted from `sent_at` (epoch seconds).

    `grant` is refresh_token, authorization_code, client_credentials, or IMPORT with the imported pair as `previous`. A renewal goes on with what
    `previous` has where the answer is silent, and never changes the identity; a login begins a new one, told apart by `salt` where its subject
    is not known.
    Raises AnswerUnusable where no access token can be found.
    """
    words = words_with("access_token", body) or parsed(body, content_type)
    access = words.get("access_token")
    if not isinstance(access, str) or not _TOKEN.fullmatch(access.strip()):
        raise AnswerUnusable("the provider's answer holds no usable access_token")
    before = previous if grant != "authorization_code" else None
    told = told_lifetime(words)
    lifetime = told if told is not None else (previous.lifetime if previous else None)
    access_until = sent_at + lifetime if lifetime is not None else None
    refresh = _successor(words, grant, before)
    subject = before.subject if before else subject_of(words)
    return Pair(
        access_token=access.strip(),
        refresh_token=refresh,
        obtained_at=sent_at,
        access_until=access_until,
        refresh_until=_refresh_until(words, refresh, sent_at, access_until, terms),
        lifetime=lifetime,
        scope=before.scope if before else _text(words.get("scope")),
        subject=subject,
        generation=previous.generation + 1 if previous else 1,
        source=_SOURCES.get(grant, grant),
        salt=before.salt if before else salt if grant in {"authorization_code", IMPORT} and subject is None else "",
    )


def _successor(words: Mapping[str, object], grant: str, before: Pair | None) -> str | None:
    """The refresh token from now on: the new one, else the old one (RFC 6749 §6); client credentials need none."""
    if grant == "client_credentials":
        return None
    new = words.get("refresh_token")
    if isinstance(new, str) and _TOKEN.fullmatch(new.strip()):
        return new.strip()
    return before.refresh_token if before else None


def _refresh_until(
    words: Mapping[str, object], refresh: str | None, sent_at: float, access_until: float | None, terms: Terms
) -> float | None:
    """When a refresh token is taken to end: as the answer says, else by `oauth.refresh_token_lifetime`; None where nobody knows."""
    if refresh is None:
        return None
    for name in ("refresh_expires_in", "refresh_token_expires_in"):
        if (told := _seconds(words.get(name))) is not None:
            return sent_at + told
    if terms.refresh_lifetime is None:
        return None
    return access_until if terms.refresh_lifetime == "same" else sent_at + terms.refresh_lifetime


def words_with(name: str, body: bytes) -> Mapping[str, object] | None:
    """The first whole JSON object in `body` with a text as its member `name`, whatever stands around it; None where there is none."""
    text = body.decode(json.detect_encoding(body), "replace")
    if f'"{name}"' not in text:
        return None
    for start in islice(_BRACE.finditer(text), _MOST_STARTS):
        try:
            found, _ = _LENIENT.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get(name), str):
            return found
    return None


def parsed(body: bytes, content_type: str) -> Mapping[str, object]:
    """A token answer's members, whatever it says about its type: JSON (with BOM too), else a form. Raises AnswerUnusable."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AnswerUnusable("the provider's answer is not UTF-8") from None
    try:
        found = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        found = dict(parse_qsl(text.strip())) if "access_token=" in text else None
    if not isinstance(found, dict):
        kind = content_type.partition(";")[0].strip()[:60] or "no type"
        raise AnswerUnusable(f"the provider's answer ({kind}) is neither a JSON object nor a form")
    return found


def told_lifetime(words: Mapping[str, object]) -> float | None:
    """The access token's lifetime in seconds: `expires_in`, else the JWT's `exp` less `iat`; None where neither is usable."""
    told = _seconds(words.get("expires_in"))
    if told is None:
        claims = claims_of(words.get("access_token"))
        ends, begins = _number(claims.get("exp")), _number(claims.get("iat"))
        if ends is not None and begins is not None:
            told = _seconds(ends - begins)
    return told


def claims_of(token: object) -> Mapping[str, object]:
    """The claims of a JWT, unchecked; empty where `token` is none."""
    if not isinstance(token, str) or token.count(".") != 2:
        return {}
    middle = token.split(".")[1]
    try:
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)), parse_int=_integer)
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def subject_of(words: Mapping[str, object]) -> str | None:
    """Whose tokens these are: `sub` of a JWT access token, else of an id_token; None where it is not known."""
    for name in ("access_token", "id_token"):
        subject = claims_of(words.get(name)).get("sub")
        if isinstance(subject, str | int) and not isinstance(subject, bool) and str(subject):
            return str(subject)
    return None


def _seconds(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 < number <= LONGEST_LIFETIME else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
