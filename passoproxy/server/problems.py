"""The proxy's own answers: problem documents (RFC 9457) with `code`, `Proxy-Status` (RFC 9209) and `Cache-Status` (contract §6)."""

from __future__ import annotations

import json

from passoproxy.core.http.forwarding import reason_for
from passoproxy.core.http.messages import ResponseHead, fields_of
from passoproxy.errors import Refusal
from passoproxy.ports import BytesBody, Response

OWN_NAME = "passoproxy"
"""Our name in `Cache-Status` and `Proxy-Status`."""


def problem(refusal: Refusal) -> Response:
    """The answer that tells a client of `refusal`; it repeats nothing of the request but what the refusal's text holds."""
    document = {
        "type": f"urn:passoproxy:problem:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
    }
    fields = (
        ("Content-Type", "application/problem+json"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Proxy-Status", f"{OWN_NAME}; error={refusal.proxy_error}"),
        ("Cache-Status", f"{OWN_NAME}; fwd=bypass; detail={refusal.code}"),
        *refusal.fields,
    )
    # Escaped to ASCII, because a detail may hold bytes of a client that are no UTF-8.
    body = json.dumps(document).encode("ascii")
    return Response(ResponseHead(refusal.status, fields_of(fields), reason_for(refusal.status)), BytesBody(body))
