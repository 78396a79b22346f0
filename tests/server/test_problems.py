"""The proxy's own answers (contract §6)."""

from __future__ import annotations

import json

import pytest

from passoproxy import errors
from passoproxy.ports import BytesBody
from passoproxy.server.response import problem

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.Refusal) and "code" in vars(kind)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_refusal_is_a_problem_document(kind: type[errors.Refusal]) -> None:
    answer = problem(kind("what is wrong \udcff"))
    assert isinstance(answer.body, BytesBody)
    document = json.loads(answer.body.data)
    fields = answer.head.fields
    assert (document["code"], document["status"], document["title"]) == (kind.code, kind.status, kind.title)
    assert document["type"] == f"urn:passoproxy:problem:{kind.code}"
    assert document["detail"] == "what is wrong \udcff"
    assert answer.head.status == kind.status
    assert fields["Content-Type"] == "application/problem+json"
    assert fields["Cache-Status"] == f"passoproxy; fwd=bypass; detail={kind.code}"
    assert fields["Proxy-Status"].startswith("passoproxy")
    assert fields["Cache-Control"] == "no-store"
    assert ("Retry-After" in fields) is (kind.status in (429, 503))


def test_the_error_type_and_further_fields_are_told() -> None:
    fields = problem(errors.MethodNotAllowed("no", (("Allow", "GET"),))).head.fields
    assert fields["Proxy-Status"] == "passoproxy; error=http_request_denied"
    assert fields["Allow"] == "GET"
    assert problem(errors.Offline("no")).head.fields["Proxy-Status"] == "passoproxy; error=proxy_internal_response"
