"""How answers look: JSON as PHP writes it, fresh `requestid` and `responsetime`, framework headers, gzip, validators."""

import gzip
import hashlib
import json
import random
import uuid
from collections.abc import Mapping

from aiohttp import web

MIN_GZIP_BYTES = 860
FRAMEWORK = {"Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff"}

Members = dict[str, object]


def php_json(members: Mapping[str, object]) -> bytes:
    """JSON with escaped slashes and `\\uXXXX` for everything beyond ASCII, as PHP's json_encode writes by default."""
    return json.dumps(members, separators=(",", ":")).replace("/", "\\/").encode()


def fresh_id() -> str:
    """A new `requestid`."""
    return str(uuid.uuid4())


def wrapped(members: Members, requestid: str | None = None) -> Members:
    """The members with `requestid` and `responsetime`, new on every call."""
    return members | {"requestid": requestid or fresh_id(), "responsetime": random.randint(80, 160)}  # noqa: S311


class Answers:
    """Makes responses of bodies; `validators` adds an ETag of what is stable in a body and answers conditions."""

    def __init__(self, *, validators: bool) -> None:
        self._validators = validators

    def json(
        self, request: web.Request, members: Members, *, status: int = 200, requestid: str | None = None
    ) -> web.Response:
        """An answer with `requestid` and `responsetime` added."""
        tag = self._tag(php_json(members)) if status == 200 else None
        return self._made(request, php_json(wrapped(members, requestid)), "application/json", status, tag)

    def bare(self, request: web.Request, members: Members, status: int = 200) -> web.Response:
        """An answer without `requestid`: errors, and the subscription."""
        body = php_json(members)
        return self._made(request, body, "application/json", status, self._tag(body) if status == 200 else None)

    def pdf(self, request: web.Request, body: bytes) -> web.Response:
        """A PDF, which is never compressed again."""
        return self._made(request, body, "application/pdf", 200, self._tag(body))

    def nothing(self) -> web.Response:
        """204: there is nothing for this request."""
        return web.Response(status=204, headers=FRAMEWORK)

    def _tag(self, body: bytes) -> str | None:
        return f'W/"{hashlib.sha256(body).hexdigest()[:24]}"' if self._validators else None

    def _made(self, request: web.Request, body: bytes, kind: str, status: int, tag: str | None) -> web.Response:
        headers = dict(FRAMEWORK)
        compressible = kind == "application/json" and len(body) >= MIN_GZIP_BYTES
        if compressible:
            headers["Vary"] = "Accept-Encoding"
        if tag is not None:
            headers["ETag"] = tag
            if request.method in ("GET", "HEAD") and _known(request.headers.get("If-None-Match", ""), tag):
                return web.Response(status=304, headers=headers)
        headers["Content-Type"] = kind
        if compressible and _takes_gzip(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, 5, mtime=0)
        return web.Response(status=status, body=body, headers=headers)


def _known(condition: str, tag: str) -> bool:
    return condition.strip() == "*" or tag in (part.strip() for part in condition.split(","))


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
