"""How answers look: JSON as PHP writes it, fresh `requestid` and `responsetime`, framework headers, gzip, validators."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import uuid
from collections.abc import Mapping

from aiohttp import web

from passoproxy.sandbox.origin.call import Bare, Reply

MIN_GZIP_BYTES = 860
FRAMEWORK = {"Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff"}


def php_json(members: Mapping[str, object]) -> bytes:
    """JSON with escaped slashes and `\\uXXXX` for everything beyond ASCII, as PHP's json_encode writes by default."""
    return json.dumps(members, separators=(",", ":")).replace("/", "\\/").encode()


def response(request: web.Request, reply: Reply, *, validators: bool = False) -> web.Response:
    """The reply as HTTP; `validators` adds an ETag of what is stable in it and answers conditions."""
    headers = dict(FRAMEWORK)
    match reply:
        case None:
            return web.Response(status=204, headers=headers)
        case bytes():
            stable = body = reply
        case Bare():
            stable = body = php_json(reply.members)
        case _:
            members = {name: value for name, value in reply.items() if name != "requestid"}
            stable = php_json(members)
            requestid = reply.get("requestid") or str(uuid.uuid4())
            body = php_json(members | {"requestid": requestid, "responsetime": random.randint(80, 160)})  # noqa: S311
    status = reply.status if isinstance(reply, Bare) else 200
    compressible = not isinstance(reply, bytes) and len(body) >= MIN_GZIP_BYTES
    if compressible:
        headers["Vary"] = "Accept-Encoding"
    if validators and status == 200:
        headers["ETag"] = tag = f'W/"{hashlib.sha256(stable).hexdigest()[:24]}"'
        known = [part.strip() for part in request.headers.get("If-None-Match", "").split(",")]
        if request.method in ("GET", "HEAD") and (tag in known or known == ["*"]):
            return web.Response(status=304, headers=headers)
    headers["Content-Type"] = "application/pdf" if isinstance(reply, bytes) else "application/json"
    if compressible and takes_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body, 5, mtime=0)
    return web.Response(status=status, body=body, headers=headers)


def takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
