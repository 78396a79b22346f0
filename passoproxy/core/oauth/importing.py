"""A pair that was issued elsewhere: reading the document of `token import`, and writing that of `token export`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from passoproxy.core.oauth.answers import claims_of, parsed, read_answer, told_lifetime
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.terms import Terms
from passoproxy.errors import AnswerUnusable

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
