"""The token and revocation endpoints over HTTP: their bodies, client authentication, the limit of requests, and the faults that strike there."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

from passoproxy.sandbox.faults import FaultSet, drop
from passoproxy.sandbox.journal import Entry, entry_of, fingerprint
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.grants import (
    Grants,
    Issued,
    Refusal,
    malformed,
    missing,
    unsupported_grant,
    wrong_client,
)

Method = Literal["basic", "body", "none"]


@dataclass(frozen=True, slots=True)
class Client:
    """The client that asks, and how it proved itself; `none` has only named itself."""

    id: str
    method: Method


async def read_fields(request: web.Request) -> dict[str, str]:
    """The body's fields; raises Refusal if it is neither a JSON object of strings nor a form, or repeats a field."""
    raw = await request.read()
    match request.content_type:
        case "application/json":
            try:
                found = json.loads(raw)
            except ValueError:
                raise malformed("The body is not valid JSON") from None
            if not isinstance(found, dict):
                raise malformed("The body must be a JSON object")
            fields = {name: value for name, value in found.items() if value is not None}
            for name, value in fields.items():
                if not isinstance(value, str):
                    raise missing(name)
            return fields
        case "application/x-www-form-urlencoded":
            try:
                pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100)
            except ValueError:
                raise malformed("The body is not a valid form") from None
            if len(dict(pairs)) < len(pairs):
                raise malformed("A field is repeated")
            return {name: value for name, value in pairs if value}
        case _:
            raise malformed("The body must be application/json or application/x-www-form-urlencoded")


def identify(request: web.Request, fields: Mapping[str, str], options: SandboxOptions) -> Client:
    """The client that sent the request; raises Refusal for a wrong one. Whether `none` is enough is the grant's to say."""
    named, secret, method = fields.get("client_id"), fields.get("client_secret"), "body"
    basic = _basic(request)
    if basic is not None:
        if secret is not None:
            raise malformed("The client must authenticate in one way only: HTTP Basic or the body")
        if named not in (None, basic[0], unquote_plus(basic[0])):
            raise wrong_client()
        named, secret, method = basic[0], basic[1], "basic"
    if named is None:
        raise missing("client_id")
    if not _is(named, options.client_id):
        raise wrong_client()
    if secret is None:
        return Client(options.client_id, "none")
    if not _is(secret, options.client_secret):
        raise wrong_client()
    return Client(options.client_id, "basic" if method == "basic" else "body")


def _basic(request: web.Request) -> tuple[str, str] | None:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise wrong_client() from None
    if not colon:
        raise wrong_client()
    return name, secret


def _is(given: str, wanted: str) -> bool:
    """Equal as sent, or after the form decoding that RFC 6749 §2.3.1 asks of Basic credentials and many leave out."""
    forms = (given.encode("utf-8", "surrogateescape"), unquote_plus(given).encode())
    return any(hmac.compare_digest(form, wanted.encode()) for form in forms)


class Throttle:
    """A fixed window of 60 seconds; a limit of 0 lets everything pass."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._used = 0
        self._ends_at = 0.0

    def admit(self) -> tuple[bool, dict[str, str]]:
        """Counts a request; whether it may pass, and the header fields that tell the client where it stands."""
        if not self._limit:
            return True, {}
        now = self._clock()
        if not now < self._ends_at <= now + 60:
            self._used, self._ends_at = 0, now + 60
        admitted = self._used < self._limit
        self._used += admitted
        told = {"X-RateLimit-Limit": str(self._limit), "X-RateLimit-Remaining": str(self._limit - self._used)}
        if not admitted:
            told |= {"Retry-After": str(math.ceil(self._ends_at - now)), "X-RateLimit-Reset": str(int(self._ends_at))}
        return admitted, told


_GARBAGE = b'\x1f\x8b\x08\x00<br />{"access_token":"eyJ0eXAiOi\xff\xfe'


class TokenEndpoint:
    """Answers `POST /oauth/token`, its older refresh path, and `POST /oauth/revoke`."""

    def __init__(
        self,
        options: SandboxOptions,
        grants: Grants,
        faults: FaultSet,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._options, self._grants, self._faults, self._sleep = options, grants, faults, sleep
        self._throttle = Throttle(options.token_requests_per_minute, clock)

    async def token(self, request: web.Request) -> web.StreamResponse:
        """One token request (RFC 6749 §4.1.3, §4.4.2, §6)."""
        entry = entry_of(request)
        admitted, limits = self._throttle.admit()
        if not admitted:
            entry.outcome = "throttled"
            return _json({"message": "Too Many Attempts."}, 429, limits)
        try:
            answer = await self._granted(request, entry)
        except Refusal as refused:
            answer = _refusal(request, entry, refused)
        answer.headers.update(limits)
        return answer

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """One revocation request (RFC 7009 §2): unknown tokens are answered like known ones."""
        entry = entry_of(request)
        try:
            fields = await read_fields(request)
            client = identify(request, fields, self._options)
            if "token" not in fields:
                raise missing("token")
            if client.method == "none" and not self._grants.is_public(fields["token"]):
                raise wrong_client()
        except Refusal as refused:
            return _refusal(request, entry, refused)
        entry.client_auth, entry.outcome = client.method, "revoked"
        self._grants.revoke(fields["token"])
        return web.Response(status=200, headers=_NO_STORE)

    async def _granted(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        fields = await read_fields(request)
        grant = entry.grant_type = fields.get("grant_type")
        if request.path.endswith("/refresh") and grant is None:
            grant = entry.grant_type = "refresh_token"
        _note_secrets(entry, fields)
        client = identify(request, fields, self._options)
        entry.client_auth = client.method
        issuer = f"{request.scheme}://{request.host}"
        match grant:
            case "refresh_token":
                return await self._refresh(request, entry, fields, client, issuer)
            case "authorization_code":
                return self._told(self._exchange(fields, client, issuer), entry)
            case "client_credentials":
                if client.method == "none":
                    raise wrong_client()
                issued = self._grants.client_credentials(fields.get("scope", "*"), issuer=issuer)
                return self._told(issued, entry)
            case None:
                raise missing("grant_type")
            case _:
                raise unsupported_grant()

    def _exchange(self, fields: dict[str, str], client: Client, issuer: str) -> Issued:
        code = fields.get("code")
        if code is None:
            raise missing("code")
        public = client.method == "none"
        if public and not self._grants.has_challenge(code):
            raise wrong_client()
        return self._grants.exchange(
            code,
            issuer=issuer,
            redirect_uri=fields.get("redirect_uri"),
            verifier=fields.get("code_verifier"),
            public=public,
        )

    async def _refresh(
        self, request: web.Request, entry: Entry, fields: dict[str, str], client: Client, issuer: str
    ) -> web.StreamResponse:
        token = fields.get("refresh_token")
        if token is None:
            raise missing("refresh_token")
        if client.method == "none" and not self._grants.is_public(token):
            raise wrong_client()
        broken = self._unrotated(entry, issuer)
        if broken is not None:
            return broken
        self._withdraw(entry, token)
        alive = self._grants.chain_of(token) is not None
        keep = alive and self._faults.strikes("no_new_refresh_token", entry)
        issued = self._grants.refresh(token, issuer=issuer, keep=keep)
        if self._faults.strikes("refresh_lost", entry):
            entry.outcome = "dropped"
            return drop(request)
        if self._faults.strikes("refresh_garbage", entry):
            entry.outcome = issued.outcome
            return web.Response(body=_GARBAGE, content_type="application/json", headers=_NO_STORE)
        if self._faults.strikes("refresh_slow", entry):
            await self._sleep(self._options.slow_seconds)
        return self._told(issued, entry)

    def _unrotated(self, entry: Entry, issuer: str) -> web.Response | None:
        """The answer of a fault that strikes before anything is rotated."""
        if self._faults.strikes("refresh_5xx", entry):
            page = "<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>"
            return web.Response(status=503, text=page, content_type="text/html")
        if self._faults.strikes("refresh_429", entry):
            return _json({"message": "Too Many Attempts."}, 429, {"Retry-After": str(self._options.retry_after)})
        if self._faults.strikes("refresh_redirect", entry):
            return web.Response(status=302, headers={"Location": f"{issuer}/login", **_NO_STORE})
        return None

    def _withdraw(self, entry: Entry, token: str) -> None:
        chain = self._grants.chain_of(token)
        if chain is not None and self._faults.strikes("revoked", entry):
            self._grants.withdraw(chain)

    def _told(self, issued: Issued, entry: Entry) -> web.Response:
        """The answer that carries tokens; the faults that spoil its members strike here."""
        entry.outcome = issued.outcome
        lifetime = int(issued.lifetime)
        members: dict[str, object] = {"token_type": "Bearer", "expires_in": lifetime}
        if self._faults.strikes("no_expires_in", entry):
            del members["expires_in"]
        elif self._faults.strikes("expires_in_string", entry):
            members["expires_in"] = str(lifetime)
        members["access_token"] = issued.access_token
        if issued.refresh_token is not None:
            members["refresh_token"] = issued.refresh_token
        return _json(members, 200)


_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def _note_secrets(entry: Entry, fields: dict[str, str]) -> None:
    if "refresh_token" in fields:
        entry.refresh_token = fingerprint(fields["refresh_token"])
    if "code" in fields:
        entry.code = fingerprint(fields["code"])


def _refusal(request: web.Request, entry: Entry, refused: Refusal) -> web.Response:
    entry.outcome = f"refused: {refused.error}"
    challenge = {}
    # RFC 6749 §5.2: asked for where the client tried the Authorization field.
    if refused.status == 401 and "Authorization" in request.headers:
        challenge["WWW-Authenticate"] = 'Basic realm="OAuth"'
    return _json(refused.body(), refused.status, challenge)


def _json(
    members: dict[str, object] | dict[str, str], status: int, headers: dict[str, str] | None = None
) -> web.Response:
    body = json.dumps(members, separators=(",", ":")).replace("/", "\\/")
    return web.Response(status=status, text=body, content_type="application/json", headers=_NO_STORE | (headers or {}))
