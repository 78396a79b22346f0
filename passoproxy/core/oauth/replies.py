"""What a reply of the token endpoint means for the token that was presented: the one place that tells its fate (contract §4).

Reading an answer's content is the business of `answers`; waiting and presenting again that of `timing` and `transaction`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from passoproxy.core.http import limits
from passoproxy.core.oauth.answers import words_with
from passoproxy.core.oauth.grants import spoken

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
    """The provider answered that it cannot now: the token is unspent. `retry_after` is seconds, None where nothing was said."""

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
        return Retryable(f"the provider answered {status}{throttled}", retry_after(headers, received_at))
    if not 400 <= status < 500:
        return Lost(f"the provider answered with status {status}, which means nothing here")
    error, said = _error(body, secrets)
    if not error:
        return Retryable(
            f"something before the provider answered {status} without an OAuth error", retry_after(headers, received_at)
        )
    reason = f"the provider answered {status} {error}" + (f" ({said})" if said else "")
    return Dead(reason, error) if error in _DEAD else Misconfigured(reason, error)


def retry_after(headers: Sequence[tuple[str, str]], now: float) -> float | None:
    """Seconds that `Retry-After` asks to wait (RFC 9110 §10.2.3), from seconds or a date; None where it says nothing readable."""
    told = next((value for name, value in headers if name.lower() == "retry-after"), None)
    return limits.retry_after(told, now)


def _error(body: bytes, secrets: tuple[str, ...]) -> tuple[str, str]:
    """The error code of an OAuth error object (RFC 6749 §5.2) and what it says to people; ('', '') where it is none."""
    if len(body) > LARGEST_ANSWER:
        return "", ""
    found = words_with("error", body) or {}
    error = found.get("error")
    if not isinstance(error, str) or not _ERROR.fullmatch(error):
        return "", ""
    said = [found.get(name) for name in ("error_description", "hint")]
    return spoken(error, secrets), "; ".join(spoken(text, secrets) for text in said if isinstance(text, str) and text)
