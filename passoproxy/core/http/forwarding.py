"""What crosses the proxy and what stays behind (RFC 9110 §7.6, contract §5): the one place that lists these fields.

Framing is not forwarded at all: a body knows its length, and each side of the proxy frames anew. The bearer is added elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from passoproxy.core.http.messages import RequestHead, ResponseHead, changed, fields_of
from passoproxy.core.http.syntax import members_of

VIA = "1.1 passoproxy"
"""What the proxy adds to `Via` toward the origin."""

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
)
"""Fields between two neighbours only (RFC 9110 §7.6.1), beside those that `Connection` names."""

METHOD_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override", "x-method"})
"""Fields by which frameworks let a client turn one method into another behind the back of a method filter."""

_NEVER_TO_ORIGIN = (
    HOP_BY_HOP
    | METHOD_OVERRIDES
    | frozenset(
        {"content-length", "expect", "forwarded", "proxy", "x-original-url", "x-passoproxy-key", "x-rewrite-url"}
    )
)
_NEVER_TO_ORIGIN_PREFIXES = ("proxy-", "x-forwarded-")
RUNWAY = "Passoproxy-Runway"
"""Whole seconds until a person is needed (contract §6). It is said of our own pair, and never kept with an answer."""

_NEVER_TO_CLIENT = HOP_BY_HOP | {"proxy-authenticate", "proxy-authentication-info", RUNWAY.lower()}
_COOKIES_TO_CLIENT = frozenset({"set-cookie", "set-cookie2"})
_COOKIES_TO_ORIGIN = frozenset({"cookie", "cookie2"})
_READ_BY_ITS_NAME = frozenset({"authorization", "content-encoding", "content-type", "cookie", "host"})
"""Fields that this side judges; under a name that only CGI takes for theirs they would pass unseen."""
_NOT_CGI = re.compile("[^a-z0-9]")
_LONGEST_REMEMBERED = 1024
_WRITTEN_ANEW = frozenset({"host", "content-length", "transfer-encoding"})
_VIA_LINE = f"Via: {VIA}"
_NO_FIELDS: Mapping[str, str] = {}


def admitted(head: RequestHead, *, pass_cookies: bool, pass_authorization: bool) -> RequestHead:
    """The request as it may leave: without hop-by-hop fields, framing, credentials and what could steer the origin another way.

    A name with other characters for `-` counts as the same name, because CGI and its heirs cannot tell them apart.
    """
    fields = head.fields
    connection = ", ".join(fields.getall("Connection")) if "Connection" in fields else ""
    names = tuple(fields)
    judge = _remembered_staying if len(connection) + sum(map(len, names)) <= _LONGEST_REMEMBERED else _staying
    gone = judge(names, connection, pass_cookies, pass_authorization)
    return head.with_fields(changed(fields, without=gone)) if gone else head


def toward_origin(
    head: RequestHead, *, authority: str, own: Mapping[str, str] = _NO_FIELDS, path: str = "", token: str = ""
) -> list[str]:
    """The request line and the fields' lines of an admitted request as the origin gets it: its Host, our member of `Via`, `token` as the bearer,
    `own` fields in the place of the client's, and `path` before its path. The writer adds the body's framing.
    """
    target = path + head.target if head.target.startswith("/") else head.target
    lines = [f"{head.method} {target} HTTP/1.1", f"Host: {authority}"]
    ours = _WRITTEN_ANEW | {"authorization"} if token else _WRITTEN_ANEW
    if own:
        taken = {_cgi_name(name.lower()) for name in own}
        ours = ours.union(name.lower() for name in head.fields if _cgi_name(name.lower()) in taken)
    lines += [name + ": " + value for name, value in head.fields.items() if name.lower() not in ours]
    lines += [f"{name}: {value}" for name, value in own.items()]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    lines.append(_VIA_LINE)
    return lines


def from_origin(head: ResponseHead, *, pass_cookies: bool) -> ResponseHead:
    """The origin's answer as it may go inwards: without hop-by-hop fields and (unless passed) cookies.

    `Content-Length` stays where nothing outweighed it (RFC 9112 §6.3), because for HEAD and 304 it tells of a body that is not there.
    """
    fields = head.fields
    connection = ", ".join(fields.getall("Connection")) if "Connection" in fields else ""
    names = tuple(fields)
    is_short = len(connection) + sum(map(len, names)) <= _LONGEST_REMEMBERED
    gone = (_remembered_stopped if is_short else _stopped)(names, connection, pass_cookies)
    return ResponseHead(head.status, changed(fields, without=gone)) if gone else head


def _stopped(names: tuple[str, ...], connection: str, pass_cookies: bool) -> tuple[str, ...]:
    """Those of an answer's `names` that do not pass, given the value of `Connection`."""
    gone = _NEVER_TO_CLIENT | _named_by_connection(connection)
    if not pass_cookies:
        gone |= _COOKIES_TO_CLIENT
    lower = frozenset(name.lower() for name in names)
    if "transfer-encoding" in lower:
        gone |= {"content-length"}
    return tuple(lower & gone)


_remembered_stopped = lru_cache(maxsize=256)(_stopped)  # an origin sends the same few sets of names


def _staying(names: tuple[str, ...], connection: str, pass_cookies: bool, pass_authorization: bool) -> tuple[str, ...]:
    """Those of `names` that do not leave, given the value of `Connection`."""
    gone = _NEVER_TO_ORIGIN | _named_by_connection(connection)
    if not pass_cookies:
        gone |= _COOKIES_TO_ORIGIN
    if not pass_authorization:
        gone |= {"authorization"}
    return tuple(name for name in names if _is_gone(name.lower(), gone))


_remembered_staying = lru_cache(maxsize=256)(_staying)  # a client sends the same names with each request


def _named_by_connection(connection: str) -> frozenset[str]:
    names = [name.lower() for name in members_of(fields_of({"Connection": connection}), "Connection")]
    return frozenset(names) | frozenset(_cgi_name(name) for name in names)


def _is_gone(name: str, gone: frozenset[str]) -> bool:
    read_as = _cgi_name(name)
    return (
        read_as in gone
        or read_as.startswith(_NEVER_TO_ORIGIN_PREFIXES)
        or (read_as != name and read_as in _READ_BY_ITS_NAME)
    )


def _cgi_name(name: str) -> str:
    """What a name in lower case is to CGI and its heirs, which write every character but letters and digits alike."""
    return name if name.replace("-", "").isalnum() else _NOT_CGI.sub("-", name)
