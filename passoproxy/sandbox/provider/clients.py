"""Who asks the token endpoint: reading its body, JSON or form, and checking the client, Basic or in the body."""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.refusals import malformed, missing, wrong_client

Method = Literal["basic", "body", "none"]


@dataclass(frozen=True, slots=True)
class Client:
    """The client that asks, and how it proved itself; `none` has only named itself."""

    id: str
    method: Method


async def read_fields(request: web.Request) -> dict[str, str]:
    """The body's fields; raises Refusal where it is neither a JSON object of strings nor a form, or repeats a field."""
    raw = await request.read()
    if request.content_type == "application/json":
        return _from_json(raw)
    if request.content_type == "application/x-www-form-urlencoded":
        return _from_form(raw)
    raise malformed("The body must be application/json or application/x-www-form-urlencoded")


def _from_json(raw: bytes) -> dict[str, str]:
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


def _from_form(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise malformed("The body is not a valid form") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise malformed("A field is repeated")
    return {name: value for name, value in fields.items() if value}


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
