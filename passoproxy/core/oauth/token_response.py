"""Replies of the token endpoint: what one means for the token that was presented, and the pair that an answer holds (contract §4).

    classify        the fate of the presented token: the one place that tells it
    read_answer     an answer becomes a pair: every odd form that providers send is read, and nothing that can be kept is lost
    read_import     the pair of a `token import` document; `document_of` writes that of `token export`
    deviation       how far this machine's clock is from the provider's: told, and nothing is reckoned by it

Signatures are not checked: claims are read for lifetimes and the subject only, from an answer that TLS brought. Waiting and presenting again are in
`schedule` and `transaction`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import ClassVar
from urllib.parse import parse_qsl

from passoproxy.core.http import limits
from passoproxy.core.http.syntax import parse_date
from passoproxy.core.oauth.grants import spoken
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Terms
from passoproxy.errors import AnswerUnusable
from passoproxy.values import dataclass

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
    `previous` has if the answer is silent, and never changes the identity; a login begins a new one, told apart by `salt` if its subject
    is not known.
    Raises AnswerUnusable if no access token can be found.
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
    """When a refresh token is taken to end: as the answer says, else by `oauth.refresh_token_lifetime`; None if it is not known."""
    if refresh is None:
        return None
    for name in ("refresh_expires_in", "refresh_token_expires_in"):
        if (told := _seconds(words.get(name))) is not None:
            return sent_at + told
    if terms.refresh_lifetime is None:
        return None
    return access_until if terms.refresh_lifetime == "same" else sent_at + terms.refresh_lifetime


def words_with(name: str, body: bytes) -> Mapping[str, object] | None:
    """The first whole JSON object in `body` with a text as its member `name`, whatever stands around it; None if there is none."""
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
    """The access token's lifetime in seconds: `expires_in`, else the JWT's `exp` less `iat`; None if neither is usable."""
    told = _seconds(words.get("expires_in"))
    if told is None:
        claims = claims_of(words.get("access_token"))
        ends, begins = _number(claims.get("exp")), _number(claims.get("iat"))
        if ends is not None and begins is not None:
            told = _seconds(ends - begins)
    return told


def claims_of(token: object) -> Mapping[str, object]:
    """The claims of a JWT, unchecked; empty if `token` is none."""
    if not isinstance(token, str) or token.count(".") != 2:
        return {}
    middle = token.split(".")[1]
    try:
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)), parse_int=_integer)
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def subject_of(words: Mapping[str, object]) -> str | None:
    """Whose tokens these are: `sub` of a JWT access token, else of an id_token; None if it is not known."""
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


EARLIEST = 946_684_800.0
"""2000-01-01: an `obtained_at` before it is a mistake."""


def read_import(document: bytes, now: float, terms: Terms, salt: str) -> Pair:
    """The pair of a document as the token endpoint answers it, with an optional `obtained_at` (epoch seconds or ISO 8601).

    Without it the JWT's `iat` counts, else `now`. Raises AnswerUnusable, which says what is wrong with the document.
    """
    words = _document(document)
    access = words.get("access_token")
    if not isinstance(access, str) or not access:
        raise AnswerUnusable("the import has no access_token; give the JSON object that the token endpoint answered")
    told = _moment(words["obtained_at"]) if words.get("obtained_at") is not None else None
    issued = claims_of(access).get("iat")
    if told is None and isinstance(issued, int | float) and not isinstance(issued, bool) and issued >= EARLIEST:
        told = float(issued)
    obtained_at = now if told is None else min(told, now)
    try:
        pair = read_answer(document, "application/json", obtained_at, "authorization_code", None, terms, salt)
    except AnswerUnusable:
        raise AnswerUnusable("the import's access_token has characters that no header can carry") from None
    return replace(pair, source="import", lifetime=told_lifetime(words))


def document_of(pair: Pair) -> dict[str, object]:
    """`pair` as the token endpoint would answer it, with `obtained_at`, so that an import of it gives the same pair. Holds secrets."""
    document: dict[str, object] = {"access_token": pair.access_token, "token_type": "Bearer"}
    if pair.access_until is not None:
        document["expires_in"] = pair.access_until - pair.obtained_at
    if pair.refresh_token is not None:
        document["refresh_token"] = pair.refresh_token
    if pair.refresh_until is not None and pair.refresh_until != pair.access_until:
        document["refresh_expires_in"] = pair.refresh_until - pair.obtained_at
    if pair.scope is not None:
        document["scope"] = pair.scope
    document["obtained_at"] = pair.obtained_at
    return document


def _document(document: bytes) -> Mapping[str, object]:
    try:
        return parsed(document, "application/json")
    except AnswerUnusable:
        raise AnswerUnusable("the import is no JSON object; give what the token endpoint answered") from None


def _moment(value: object) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = _iso(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not EARLIEST <= value < 1e11:
        raise AnswerUnusable("the import's obtained_at is neither epoch seconds nor ISO 8601")
    return float(value)


def _iso(text: str) -> float | None:
    """A moment without an offset is taken for UTC: the machine that wrote it is unknown."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


LARGEST_ANSWER = 64 * 1024
"""An answer over this many bytes is a lost one."""

_ERROR = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,80}")
_DEAD = {"invalid_grant", "invalid_request"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx of readable size. Whether it holds a pair is seen only after it was kept."""

    word: ClassVar[str] = "answered"


@dataclass(frozen=True, slots=True)
class Unsent:
    """The request never left: the token is unspent."""

    reason: str
    word: ClassVar[str] = "unsent"


@dataclass(frozen=True, slots=True)
class Retryable:
    """The provider answered that it cannot now: the token is unspent. `retry_after` is seconds, None if nothing was said."""

    reason: str
    retry_after: float | None = None
    word: ClassVar[str] = "answered"


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The provider does not know this client, or not this request: the configuration is at fault, the token is unspent."""

    reason: str
    error: str = ""
    word: ClassVar[str] = "misconfigured"


@dataclass(frozen=True, slots=True)
class Dead:
    """The provider refuses this token: it must never be presented again."""

    reason: str
    error: str = "invalid_grant"
    word: ClassVar[str] = "refused"


@dataclass(frozen=True, slots=True)
class Lost:
    """The request arrived and its answer did not: the token may be spent."""

    reason: str
    word: ClassVar[str] = "lost"


Fate = Answer | Unsent | Retryable | Misconfigured | Dead | Lost


def classify(
    status: int, headers: Sequence[tuple[str, str]], body: bytes, received_at: float, secrets: tuple[str, ...] = ()
) -> Fate:
    """The fate of the token that a reply answers. `secrets` are never repeated in a reason; `received_at` is epoch seconds."""
    if 200 <= status < 300:
        return Answer() if len(body) <= LARGEST_ANSWER else Lost("the provider's answer is over 64 KiB")
    if 300 <= status < 400:
        return Misconfigured(
            f"the provider redirects ({status}): the URL in oauth.token_url or oauth.refresh_url is wrong"
        )
    if status in {408, 429} or 500 <= status < 600:
        throttled = " (throttled)" if status == 429 else ""
        return Retryable(
            f"the provider answered {status}{throttled}",
            limits.retry_after(_field(headers, "retry-after"), received_at),
        )
    if not 400 <= status < 500:
        return Lost(f"the provider answered with status {status}, which means nothing here")
    error, said = _error(body, secrets)
    if not error:
        return Retryable(
            f"something before the provider answered {status} without an OAuth error",
            limits.retry_after(_field(headers, "retry-after"), received_at),
        )
    reason = f"the provider answered {status} {error}" + (f" ({said})" if said else "")
    return Dead(reason, error) if error in _DEAD else Misconfigured(reason, error)


def _error(body: bytes, secrets: tuple[str, ...]) -> tuple[str, str]:
    """The error code of an OAuth error object (RFC 6749 §5.2) and what it says to people; ('', '') if it is none."""
    if len(body) > LARGEST_ANSWER:
        return "", ""
    found = words_with("error", body) or {}
    error = found.get("error")
    if not isinstance(error, str) or not _ERROR.fullmatch(error):
        return "", ""
    said = [found.get(name) for name in ("error_description", "hint")]
    return spoken(error, secrets), "; ".join(spoken(text, secrets) for text in said if isinstance(text, str) and text)


TOLERATED = 30.0
"""Seconds that two clocks may differ."""


def deviation(
    headers: Sequence[tuple[str, str]], body: bytes, content_type: str, sent_at: float, received_at: float
) -> tuple[float, str] | None:
    """Seconds by which our clock is ahead (negative: behind) of the provider's, 0 if that is tolerable, and what told it.

    `Date` counts before the token, which may have been issued earlier. None if nothing tells. Moments are epoch seconds of our clock,
    from before the request was sent and after its answer came.
    """
    date = _field(headers, "date")
    told = None if date is None else parse_date(date.strip(), received_at)
    source = "its Date"
    if told is None:
        told, source = _issued(body, content_type), "the token's own claims"
    if told is None:
        return None
    # a Date is cut to whole seconds, and the provider wrote it at some moment of the exchange
    ahead = max(0.0, sent_at - (told + 1.0)) or min(0.0, received_at - told)
    return (ahead if abs(ahead) > TOLERATED else 0.0), source


def _field(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    return next((value for given, value in headers if given.lower() == name), None)


def _issued(body: bytes, content_type: str) -> float | None:
    """When the provider thinks that it answered: the token's `exp` less what `expires_in` says, else its `iat`."""
    try:
        words = parsed(body, content_type)
    except AnswerUnusable:
        return None
    claims = claims_of(words.get("access_token"))
    ends, lasts, issued = _number(claims.get("exp")), _number(words.get("expires_in")), _number(claims.get("iat"))
    told = ends - lasts if ends is not None and lasts is not None else issued
    return told if told is not None and abs(told) < 1e12 else None
