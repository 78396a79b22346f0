"""What is asked of the provider: the authorization URL, the redirect that comes back, and the bodies of token requests.

Forms are authlib's (RFC 6749, RFC 7636); how the client proves itself is `oauth.client_auth`. Answers are read in `token_response`.
"""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import field
from urllib.parse import parse_qsl, quote_plus, urlsplit

from passoproxy.core.oauth.settings import Client, Provider
from passoproxy.values import dataclass


def authorization_url(provider: Provider, client_id: str, state: str, verifier: str | None) -> str:
    """Where a person is sent to approve (RFC 6749 §4.1.1), with a S256 challenge for `verifier` unless it is None (RFC 7636 §4.3)."""
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # not needed at a start: it takes a while
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    challenge: dict[str, str] = {}
    if verifier is not None:
        challenge = {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
    return str(
        prepare_grant_uri(
            provider.authorization_url,
            client_id,
            "code",
            redirect_uri=provider.redirect_url,
            scope=provider.scope,
            state=state,
            **challenge,
        )
    )


# ---- the redirect ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Callback:
    """What a redirect brought (RFC 6749 §4.1.2). `error` and `description` are '' if it brought a code."""

    state: str = field(default="", repr=False)
    code: str = field(default="", repr=False)
    error: str = ""
    description: str = ""


def read_callback(text: str) -> Callback:
    """A redirect from its query, or from the whole URL as a person pastes it. Of a repeated parameter the first counts."""
    text = text.strip()
    query = urlsplit(text).query if "?" in text else text.partition("#")[0]
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        found.setdefault(name, value)
    return Callback(
        found.get("state", ""),
        found.get("code", ""),
        found.get("error", ""),
        spoken(found.get("error_description", "")),
    )


def equal(one: str, other: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how far they agree."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def spoken(text: str, secrets: tuple[str, ...] = (), most: int = 200) -> str:
    """Another's words, fit to be repeated: printable, on one line, not over long, without `secrets`."""
    for secret in secrets:
        text = text.replace(secret, "…") if secret else text
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


# ---- token requests --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Posted:
    """The fields and body of a POST to the provider. Both hold secrets."""

    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


def exchange(provider: Provider, client: Client, code: str, verifier: str | None) -> Posted:
    """A code becomes a pair (RFC 6749 §4.1.3)."""
    return _posted(
        client, _form("authorization_code", redirect_uri=provider.redirect_url, code=code, code_verifier=verifier)
    )


def refresh(client: Client, refresh_token: str) -> Posted:
    """A refresh token becomes a pair (RFC 6749 §6). The scope is left out: it stays what was granted."""
    return _posted(client, _form("refresh_token", refresh_token=refresh_token))


def client_credentials(provider: Provider, client: Client) -> Posted:
    """The client's own token (RFC 6749 §4.4.2)."""
    return _posted(client, _form("client_credentials", scope=provider.scope))


def revocation(client: Client, token: str, hint: str) -> Posted:
    """A token is given back (RFC 7009 §2.1); always form-encoded, as that RFC has it."""
    form = _form("", token=token, token_type_hint=hint).removeprefix("grant_type=&")
    return _posted(
        client if client.auth != "body_json" else Client(client.client_id, client.client_secret, "body_form"), form
    )


def _form(grant_type: str, **words: str | None) -> str:
    from authlib.oauth2.rfc6749.parameters import prepare_token_request

    return str(prepare_token_request(grant_type, **words))


def _posted(client: Client, form: str) -> Posted:
    """`form` with the client's proof of itself (RFC 6749 §2.3.1)."""
    words = dict(parse_qsl(form, keep_blank_values=True))
    accept = ("Accept", "application/json")
    if client.auth == "body_json":
        body = json.dumps({**words, **_proof(client)}, ensure_ascii=False).encode()
        return Posted((("Content-Type", "application/json"), accept), body)
    headers = (("Content-Type", "application/x-www-form-urlencoded"), accept)
    if client.auth == "basic":
        both = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}".encode()
        return Posted((*headers, ("Authorization", f"Basic {base64.b64encode(both).decode()}")), form.encode())
    proof = "".join(f"&{name}={quote_plus(value)}" for name, value in _proof(client).items())
    return Posted(headers, (form + proof).encode())


def _proof(client: Client) -> dict[str, str]:
    if client.auth == "none" or not client.client_secret:
        return {"client_id": client.client_id}
    return {"client_id": client.client_id, "client_secret": client.client_secret}
