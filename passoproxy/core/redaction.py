"""What may be said aloud: texts, targets, URLs and header fields with everything secret masked.

Pure and bounded: no text longer than `MAX_TEXT` characters comes out, and no pattern here can run away on hostile input.
Who says something aloud (logs, recent, page) is the business of telemetry and server.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK: Final = "***"
MAX_TEXT: Final = 8192
"""Characters of a text that are looked at and shown."""

QueryMode = Literal["full", "names", "none"]

_SURE: Final = (
    "access_?token|refresh_?token|id_?token|client_?secret|code_?verifier|client_?assertion|assertion|password|passwd|"
    "api_?key|admin_token|state_key|static_token|page_token"
)
_NAMES: Final = f"{_SURE}|token|secret|code"
_WORDS: Final = "code|state|key"
_CLOSED: Final = "token|secret|signature"
_PERHAPS: Final = f"{_CLOSED}|{_WORDS}"
_SECRET_NAME: Final = re.compile(rf"(?:{_SURE}|{_PERHAPS})\Z", re.IGNORECASE)
_PERHAPS_NAME: Final = re.compile(rf"(?:({_CLOSED})|{_WORDS})\Z", re.IGNORECASE)
_SURE_NAME: Final = re.compile(rf"(?:{_SURE})\Z", re.IGNORECASE)
_SURE_END: Final = re.compile(
    r"(?:(?:password|passwd|passphrase)(?:confirmation|confirm|repeat|again)?|(?:access|refresh|id|auth|bearer|session|api|csrf|remember)token|"
    r"(?:client|api|app)secret|(?:api|secret|private)key)\Z|^pwd\Z"
)
"""How a longer name ends that is as sure (`new_password`, `X-Auth-Token`), in lower case without what is no letter."""
_LONG: Final = 16
"""Characters from which on content under a name of `_CLOSED` is a credential, and under one of `_WORDS` if it is no word: a country's `code` is
shorter, a federal `state` has no digits."""
_NO_WORD: Final = r"(?=[!#-%'-<>-~]{0,512}?(?-i:(?<!%)(?<!%.)[0-9]|[a-z][A-Z]))"
_CODE: Final = re.compile(rf"{_NO_WORD}[!-~]{{{_LONG},}}\Z")
SECRET_FIELDS: Final = frozenset(
    (
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-passoproxy-key",
        "x-passoproxy-page",
        "x-api-key",
    )
)

_USERINFO: Final = (re.compile(r"\b([a-z][a-z0-9+.-]{0,15}://)[^\s/?#@]{1,2048}@", re.IGNORECASE), rf"\1{MASK}@")


def _quoted(names: str, least: int = 0) -> tuple[re.Pattern[str], str]:
    text = rf'"(?:[^"\\]|\\.){{{least},}}"?'
    return re.compile(rf'"({names})"\s*:\s*{text}', re.IGNORECASE), rf'"\1": "{MASK}"'


def _assigned(names: str, least: int, quote: str = "") -> tuple[re.Pattern[str], str]:
    value = rf"[^\s&\"'<>;,)]{{{least},}}"
    return re.compile(rf"(?<![A-Za-z0-9])({names})=({quote}){value}", re.IGNORECASE), rf"\1=\2{MASK}"


# The order matters: whole header lines go first, then named values, then what is known by its shape alone.
_RULES: Final = (
    (
        re.compile(
            r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-passoproxy-(?:key|page)|x-api-key)(\"?\s*[:=]\s*)[^\r\n]+",
            re.IGNORECASE,
        ),
        rf"\1\2{MASK}",
    ),
    _USERINFO,
    (re.compile(rf'\\"({_NAMES})\\"\s*:\s*\\"(?:[^"\\]|\\[^"])*(?:\\")?', re.IGNORECASE), rf'\\"\1\\": \\"{MASK}\\"'),
    _quoted(_NAMES),
    (re.compile(rf"'({_NAMES})'\s*:\s*'(?:[^'\\]|\\.)*'?", re.IGNORECASE), rf"'\1': '{MASK}'"),
    _assigned(_NAMES, 1),
    (re.compile(r"\b(bearer|basic|dpop)(?:\s+|%20|\+)[A-Za-z0-9._~+/=%-]{6,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,4}"), MASK),
    (re.compile(r"def[0-9a-f]{20,}", re.IGNORECASE), MASK),
)

# Content is kept as it is but for what is surely a credential: prose may speak of a basic requirement.
_CONTENT_RULES: Final = (
    _USERINFO,
    _quoted(_SURE),
    _quoted(_CLOSED, _LONG),
    (re.compile(rf'"({_WORDS})"\s*:\s*"{_NO_WORD}[!#-~]{{{_LONG},}}"', re.IGNORECASE), rf'"\1": "{MASK}"'),
    (
        re.compile(rf"<((?:[a-z]\w{{0,30}}:)?(?:{_SURE})(?:\s[^<>]{{0,500}})?)>[^<]{{1,8192}}", re.IGNORECASE),
        rf"<\1>{MASK}",
    ),
    (
        re.compile(rf"(?<![A-Za-z0-9])({_SURE})(\s?:\s?)([\"'])(?:[^\"'\\]|\\.)*", re.IGNORECASE),
        rf"\1\2\3{MASK}",
    ),  # GraphQL, YAML
    _assigned(_SURE, 1, "[\"']?"),
    _assigned(_CLOSED, _LONG),
    _assigned(_WORDS, _LONG, _NO_WORD),
    (
        re.compile(r"\b(bearer|basic|dpop)(\s+|%20|\+)(?=[a-z._~+/=%-]{0,512}\d)[a-z0-9._~+/=%-]{20,}", re.IGNORECASE),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){0,3}"), MASK),
    (re.compile(r"def[0-9a-f]{20,}", re.IGNORECASE), MASK),
)


_STEP, _OVERLAP = 64 * 1024, 16 * 1024


class Redactor:
    """Masks what is secret by its shape, by the name beside it, or because it is one of `secrets` word for word.

    `query` is `log.query`. A known secret is found plain, percent-encoded, escaped for JSON and in base64 (Basic credentials); one under
    eight characters only where it stands as a word of its own, and one under three not at all.
    """

    def __init__(self, secrets: Iterable[str] = (), query: QueryMode = "names") -> None:
        self.query: QueryMode = query
        self._secrets = tuple(secrets)
        forms = sorted({form for secret in self._secrets for form in _forms(secret)}, key=len, reverse=True)
        self._longest = max(map(len, forms), default=0)
        self._known = re.compile("|".join(map(_literal, forms))) if forms else None

    def text(self, text: str, most: int = MAX_TEXT) -> str:
        """`text` without secrets, cut to `most` characters; more of it is not looked at, but where a known secret may be cut."""
        text, longer = text[: most + self._longest], len(text) > most
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, masked in _RULES:
            text = pattern.sub(masked, text)
        return text[:most] + "…" if longer else text

    def target(self, target: str, most: int = MAX_TEXT) -> str:
        """A request target or URL with its query as `log.query` wants it: in full (secrets masked), names alone, or none."""
        path, mark, query = target[: most + self._longest].partition("?")
        if not mark or self.query == "none":
            return self.text(path, most)
        return self.text(f"{path}?{'&'.join(self._parameter(part) for part in query.split('&'))}", most)

    def knowing(self, more: Iterable[str]) -> Redactor:
        """One that knows these secrets too."""
        return Redactor((*self._secrets, *more), self.query)

    def content(self, text: str) -> str:
        """A text of whatever length, such as a recorded body, without what is surely a credential. Long ones take a while, in short steps."""
        if self._known is not None:
            text = _swept(self._known, MASK, text)
        for pattern, masked in _CONTENT_RULES:
            text = _swept(pattern, masked, text)
        return text

    def parameters(self, query: str) -> str:
        """The same of a query or a form: by the names of its parameters too, however they are encoded."""
        pieces = (piece.partition("=") for piece in query.split("&"))
        return self.content("&".join(f"{name}{mark}{self.parameter(name, text)}" for name, mark, text in pieces))

    def parameter(self, name: str, text: str) -> str:
        """The same of the value of one parameter of a query or a form."""
        return str(self.json(text, _member(name)))

    def json(self, value: object, name: str = "") -> object:
        """The same of a JSON value, which has the member name `name`. Raises RecursionError for one that is nested too deeply."""
        if isinstance(value, dict):
            return {self.content(member): self.json(inner, member) for member, inner in value.items()}
        if isinstance(value, list):
            return [self.json(inner, name) for inner in value]
        if value is None or isinstance(value, bool):
            return value
        if _is_sure(name) or name.lower() in SECRET_FIELDS:
            return MASK
        if not isinstance(value, str):
            return value
        if (
            len(value) >= _LONG
            and (found := _PERHAPS_NAME.match(name.strip("_-")))
            and (found[1] or _CODE.match(unquote(value)))
        ):
            return MASK
        return self.content(value)

    def field(self, name: str, value: str) -> str:
        """The value of a header field as it may be shown."""
        return MASK if name.lower() in SECRET_FIELDS else self.text(value)

    def fields(self, fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Header fields as they may be shown, in their order."""
        return [(name, self.field(name, value)) for name, value in fields]

    def _parameter(self, parameter: str) -> str:
        name, mark, _ = parameter.partition("=")
        if mark and (self.query == "names" or _SECRET_NAME.match(unquote_plus(name)) or _is_sure(_member(name))):
            return f"{name}={MASK}"
        return parameter


def _swept(pattern: re.Pattern[str], masked: str, text: str) -> str:
    """`pattern.sub`, in steps between which other threads have their turn; a match has at most `_OVERLAP` characters beyond a step's end."""
    if len(text) <= _STEP:
        return pattern.sub(masked, text)
    parts, at = list[str](), 0
    for end in range(_STEP, len(text) + _STEP, _STEP):
        for found in pattern.finditer(text, at, end + _OVERLAP):
            if found.start() >= end:
                break
            parts += text[at : found.start()], found.expand(masked)
            at = found.end()
        parts.append(text[at:end])
        at = max(at, end)
    return "".join(parts)


def _member(name: str) -> str:
    """The part of a parameter's name that tells most: `password` of `user%5Bpassword%5D`, or of `password[0]`."""
    parts = [part for part in re.split(r"[\[\].]+", unquote_plus(name)) if part] or [""]
    return next((part for part in parts if _is_sure(part)), parts[-1])


def _is_sure(name: str) -> bool:
    return _ends_surely(name[-64:])


@lru_cache(1024)
def _ends_surely(name: str) -> bool:
    return bool(_SURE_NAME.match(name) or _SURE_END.search(re.sub("[^a-z]", "", name.lower())))


def _forms(secret: str) -> Iterable[str]:
    """The spellings under which a secret may turn up."""
    if len(secret) < 3:
        return
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield (quoted := json.dumps(secret)[1:-1])
    yield quoted.replace("/", "\\/")
    if len(secret) >= 8:
        data = secret.encode()
        for before in range(3):  # bytes, in one group of four digits with it; the digits that it shares are left
            digits = base64.b64encode(bytes(before) + data).decode()
            yield digits[(0, 2, 3)[before] : (before + len(data)) * 4 // 3]


def _literal(form: str) -> str:
    """A pattern for one spelling; a short one has to be a word, else it would mask the innocent."""
    return re.escape(form) if len(form) >= 8 else rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])"
