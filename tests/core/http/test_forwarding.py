"""What crosses the proxy (RFC 9110 §7.6, contract §5)."""

from __future__ import annotations

import pytest

from passoproxy.core.http.forwarding import admitted, from_origin, toward_origin
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of

NEVER = [
    "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Anything", "TE", "Trailer", "Transfer-Encoding",
    "Upgrade", "HTTP2-Settings", "Content-Length", "Expect", "Forwarded", "X-Forwarded-For", "X-Forwarded-Whatever", "X-Original-URL",
    "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method", "X-Passoproxy-Key", "Proxy",
]  # fmt: skip


def request(*pairs: tuple[str, str]) -> RequestHead:
    return RequestHead("GET", "/a?", fields_of(pairs), authority="localhost:8610")


@pytest.mark.parametrize(
    "name",
    [
        *NEVER,
        *(name.replace("-", "_") for name in NEVER),
        *(name.upper().replace("-", ".") for name in NEVER),
        "Content_Type",
        "content.encoding",
    ],
)
def test_what_never_leaves(name: str) -> None:
    head = admitted(request(("X-A", "1"), (name, "value")), pass_cookies=True, pass_authorization=True)
    assert list(head.fields.items()) == [("X-A", "1")]


def test_a_name_that_is_like_no_other_leaves_as_it_is() -> None:
    pairs = [("X_A", "1"), ("Content-Type", "a/b"), ("x.y~z", "2"), ("Content_Type_2", "3")]
    assert list(admitted(request(*pairs), pass_cookies=False, pass_authorization=False).fields.items()) == pairs


def test_what_connection_names_never_leaves_9110_7_6_1() -> None:
    head = admitted(
        request(
            ("Connection", "close, X-Hop"), ("connection", "x_under"), ("X-Hop", "1"), ("X_Under", "2"), ("X-A", "3")
        ),
        pass_cookies=False,
        pass_authorization=False,
    )
    assert list(head.fields.items()) == [("X-A", "3")]


@pytest.mark.parametrize("cookies", [True, False])
@pytest.mark.parametrize("authorization", [True, False])
def test_credentials_leave_where_the_route_passes_them(cookies: bool, authorization: bool) -> None:
    head = admitted(
        request(("Authorization", "a"), ("Cookie", "b"), ("Cookie2", "c"), ("X-A", "d")),
        pass_cookies=cookies,
        pass_authorization=authorization,
    )
    assert ("Authorization" in head.fields, "Cookie" in head.fields, "Cookie2" in head.fields) == (
        authorization,
        cookies,
        cookies,
    )
    assert head.fields["X-A"] == "d"


def test_a_head_with_nothing_to_remove_is_the_same_object_and_keeps_order_and_repetition() -> None:
    head = request(("B", "1"), ("A", "2"), ("b", "3"))
    assert admitted(head, pass_cookies=False, pass_authorization=False) is head


def test_toward_the_origin_host_and_via_are_ours() -> None:
    lines = toward_origin(
        request(
            ("Host", "localhost:8610"), ("Via", "1.0 fred"), ("User-Agent", "curl"), ("Content-Length", "3"), ("A", "1")
        ),
        authority="api.example",
        path="/v1",
    )
    assert lines == [
        "GET /v1/a? HTTP/1.1",
        "Host: api.example",
        "Via: 1.0 fred",
        "User-Agent: curl",
        "A: 1",
        "Via: 1.1 passoproxy",
    ]


def test_the_bearer_takes_the_place_of_the_clients_authorization() -> None:
    head = request(("Authorization", "Basic x"), ("A", "b"), ("authorization", "Basic y"))
    assert toward_origin(head, authority="a", token="t")[2:-1] == ["A: b", "Authorization: Bearer t"]
    assert toward_origin(head, authority="a")[2:-1] == ["Authorization: Basic x", "A: b", "authorization: Basic y"]


def test_toward_the_origin_own_fields_take_the_place_of_the_clients() -> None:
    head = request(("user-agent", "curl"), ("USER_AGENT", "curl"))
    assert toward_origin(head, authority="a", own={"User-Agent": "b"})[2:-1] == ["User-Agent: b"]


def test_from_the_origin_hop_by_hop_fields_cookies_and_reason_stay_behind() -> None:
    answer = ResponseHead(
        200,
        fields_of(
            [
                ("Connection", "keep-alive, X-Hop"),
                ("Keep-Alive", "1"),
                ("X-Hop", "1"),
                ("Upgrade", "h2c"),
                ("Proxy-Authenticate", "Basic"),
                ("Set-Cookie", "a=b"),
                ("Set-Cookie", "c=d"),
                ("Content-Length", "5"),
                ("Proxy-Status", "other"),
                ("A", "1"),
            ]
        ),
    )
    head = from_origin(answer, pass_cookies=False)
    assert list(head.fields.items()) == [("Content-Length", "5"), ("Proxy-Status", "other"), ("A", "1")]
    assert from_origin(answer, pass_cookies=True).fields.getall("Set-Cookie") == ["a=b", "c=d"]


def test_a_length_beside_a_coding_says_nothing_9112_6_3() -> None:
    answer = ResponseHead(200, fields_of([("Transfer-Encoding", "chunked"), ("Content-Length", "5")]))
    assert not from_origin(answer, pass_cookies=False).fields
