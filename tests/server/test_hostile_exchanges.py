"""Ambiguous, malformed and hostile requests as raw bytes, each with what must become of it: a refusal with its code, or one clear meaning."""

from __future__ import annotations

import json

import pytest

from tests.server.raw import Listening

HOST = b"Host: localhost:8610\r\n"


def get(fields: bytes = b"", target: bytes = b"/a", host: bytes = HOST) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + host + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST /a HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


BAD: dict[str, bytes] = {
    # ---- the request line
    "no version (0.9)": b"GET /\r\n\r\n",
    "version 0.9": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "version 1.10": b"GET / HTTP/1.10\r\n" + HOST + b"\r\n",
    "version 01.1": b"GET / HTTP/01.1\r\n" + HOST + b"\r\n",
    "version without minor": b"GET / HTTP/1\r\n" + HOST + b"\r\n",
    "version in lower case": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "version of another protocol": b"GET / ICY/1.1\r\n" + HOST + b"\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two spaces before the target": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces after the target": b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab as separator": b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "leading space": b" GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "trailing space": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty method": b" / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "parenthesis in the method": b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "colon in the method": b"GET: / HTTP/1.1\r\n" + HOST + b"\r\n",
    "byte above 127 in the method": b"G\xc3\x89T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "two empty lines before": b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "bare LF before": b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "line ends with bare LF": b"GET / HTTP/1.1\n" + HOST + b"\r\n",
    "all line ends bare LF": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "line ends with bare CR": b"GET / HTTP/1.1\rHost: localhost\r\r",
    "line ends with CR CR LF": b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SOCKS": b"\x05\x01\x00",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SMTP": b"EHLO example.org\r\n",
    "PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(),
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    # ---- the target
    "fragment": get(target=b"/a#b"),
    "empty fragment": get(target=b"/a#"),
    "fragment in the query": get(target=b"/a?b#c"),
    "no leading slash": get(target=b"a"),
    "dot as target": get(target=b"../a"),
    "backslash": get(target=b"/a\\b"),
    "quotation mark": get(target=b'/a"b'),
    "angle bracket": get(target=b"/<a>"),
    "curly brackets": get(target=b"/{a}"),
    "caret": get(target=b"/a^b"),
    "backtick": get(target=b"/a`b"),
    "broken escape": get(target=b"/a%2"),
    "escape that is not hexadecimal": get(target=b"/a%zz"),
    "unicode escape": get(target=b"/a%u002f"),
    "lone percent": get(target=b"/a%"),
    "raw UTF-8": get(target="/ä".encode()),
    "raw Latin-1": get(target=b"/\xe4"),
    "NUL": get(target=b"/a\0b"),
    "DEL": get(target=b"/a\x7f"),
    "tab in the target": get(target=b"/a\tb"),
    "asterisk for GET": get(target=b"*"),
    "asterisk with a path": b"OPTIONS */a HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute with user information": get(target=b"http://user@localhost/a"),
    "absolute with user and password": get(target=b"http://user:secret@localhost/a"),
    "absolute with another scheme": get(target=b"ftp://localhost/a"),
    "absolute without authority": get(target=b"http:///a"),
    "absolute with one slash": get(target=b"http:/localhost/a"),
    "absolute with a bad port": get(target=b"http://localhost:99999/a"),
    "absolute with a fragment": get(target=b"http://localhost/a#b"),
    "javascript": get(target=b"javascript:alert(1)"),
    "authority-form for GET": get(target=b"localhost:80"),
    # ---- Host
    "no Host": get(host=b""),
    "two Hosts": get(b"Host: localhost\r\n"),
    "two different Hosts": get(b"Host: evil.example\r\n"),
    "Host twice in other cases": get(b"hOST: localhost\r\n"),
    "Host with user information": get(host=b"Host: user@localhost\r\n"),
    "Host with a path": get(host=b"Host: localhost/a\r\n"),
    "Host with a space": get(host=b"Host: local host\r\n"),
    "Host list": get(host=b"Host: localhost, evil.example\r\n"),
    "Host with a scheme": get(host=b"Host: http://localhost\r\n"),
    "Host with a bad port": get(host=b"Host: localhost:http\r\n"),
    "Host with a port too large": get(host=b"Host: localhost:65536\r\n"),
    "Host with two ports": get(host=b"Host: localhost:1:2\r\n"),
    "Host with a negative port": get(host=b"Host: localhost:-1\r\n"),
    "Host with an open bracket": get(host=b"Host: [::1\r\n"),
    "Host with rubbish after the bracket": get(host=b"Host: [::1]a\r\n"),
    "Host with a bad address": get(host=b"Host: [::g]\r\n"),
    "Host with a zone": get(host=b"Host: [fe80::1%25eth0]\r\n"),
    "Host with a bare IPv6 address": get(host=b"Host: ::1\r\n"),
    "Host with a backslash": get(host=b"Host: localhost\\evil\r\n"),
    "Host with a question mark": get(host=b"Host: localhost?a\r\n"),
    "Host with a fragment": get(host=b"Host: localhost#a\r\n"),
    "Host with a broken escape": get(host=b"Host: local%host\r\n"),
    "Host with a byte above 127": get(host=b"Host: l\xc3\xb6calhost\r\n"),
    "Host too long": get(host=b"Host: " + b"a" * 300 + b"\r\n"),
    "bad Host beside an absolute target": get(target=b"http://localhost/a", host=b"Host: a b\r\n"),
    "no Host beside an absolute target": get(target=b"http://localhost/a", host=b""),
    # ---- field lines
    "space before the colon": get(b"X-A : b\r\n"),
    "tab before the colon": get(b"X-A\t: b\r\n"),
    "space before the colon of Content-Length": post(b"Content-Length : 3\r\n", b"abc"),
    "space before the colon of Transfer-Encoding": post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "folded line": get(b"X-A: b\r\n c\r\n"),
    "folded by tab": get(b"X-A: b\r\n\tc\r\n"),
    "fold as the first line": b"GET / HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n",
    "folded Transfer-Encoding": post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "folded Content-Length": post(b"Content-Length:\r\n 3\r\n", b"abc"),
    "line without a colon": get(b"X-A\r\n"),
    "empty name": get(b": b\r\n"),
    "empty name before more": get(b":\r\nX-A: b\r\n"),
    "space in a name": get(b"X A: b\r\n"),
    "bracket in a name": get(b"X(A): b\r\n"),
    "slash in a name": get(b"X/A: b\r\n"),
    "quotation mark in a name": get(b'X"A: b\r\n'),
    "byte above 127 in a name": get(b"X-\xc3\xa4: b\r\n"),
    "NUL in a name": get(b"X-\0A: b\r\n"),
    "NUL in a value": get(b"X-A: b\0c\r\n"),
    "BEL in a value": get(b"X-A: b\x07c\r\n"),
    "ESC in a value": get(b"X-A: b\x1b[31m\r\n"),
    "DEL in a value": get(b"X-A: b\x7f\r\n"),
    "vertical tab in a value": get(b"X-A: b\x0bc\r\n"),
    "form feed in a value": get(b"X-A: b\x0cc\r\n"),
    "bare CR in a value": get(b"X-A: b\rX-B: c\r\n"),
    "bare LF in a value": get(b"X-A: b\nX-B: c\r\n"),
    "bare LF ends the head": b"GET / HTTP/1.1\r\n" + HOST + b"\nX: y\r\n\r\n",
    "LF CR": b"GET / HTTP/1.1\n\rHost: localhost\n\r\n\r",
    "head ends with the connection": b"GET / HTTP/1.1\r\n" + HOST,
    "head ends within its end": b"GET / HTTP/1.1\r\n" + HOST + b"\r",
    # ---- Content-Length
    "length twice": post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"),
    "lengths that differ": post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"),
    "length as a list": post(b"Content-Length: 3, 3\r\n", b"abc"),
    "length as a list that differs": post(b"Content-Length: 3, 4\r\n", b"abcd"),
    "length with a plus": post(b"Content-Length: +3\r\n", b"abc"),
    "length negative": post(b"Content-Length: -3\r\n", b"abc"),
    "length in hexadecimal": post(b"Content-Length: 0x3\r\n", b"abc"),
    "length with a dot": post(b"Content-Length: 3.0\r\n", b"abc"),
    "length with an exponent": post(b"Content-Length: 3e0\r\n", b"abc"),
    "length with an underscore": post(b"Content-Length: 1_0\r\n", b"abcdefghij"),
    "length with a space inside": post(b"Content-Length: 1 0\r\n", b"abcdefghij"),
    "length empty": post(b"Content-Length:\r\n", b""),
    "length in words": post(b"Content-Length: three\r\n", b"abc"),
    "length in quotation marks": post(b'Content-Length: "3"\r\n', b"abc"),
    "length in Arabic digits": post("Content-Length: ٣\r\n".encode(), b"abc"),
    "length in fullwidth digits": post("Content-Length: ３\r\n".encode(), b"abc"),
    "length with a semicolon": post(b"Content-Length: 3;\r\n", b"abc"),
    "length with a comma after": post(b"Content-Length: 3,\r\n", b"abc"),
    "length beyond 64 bits": post(b"Content-Length: 99999999999999999999\r\n"),
    "length of 5000 digits": post(b"Content-Length: " + b"9" * 5000 + b"\r\n"),
    "body shorter than its length": post(b"Content-Length: 10\r\n", b"abc"),
    # ---- Transfer-Encoding
    "coding and length": post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
    "length and coding": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "coding in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding identity": post(b"Transfer-Encoding: identity\r\n"),
    "coding unknown": post(b"Transfer-Encoding: cow\r\n"),
    "coding gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "coding chunked, gzip": post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"),
    "coding chunked twice": post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"),
    "coding lines twice": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "coding lines, identity second": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"
    ),
    "coding with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"),
    "coding with a comma before": post(b"Transfer-Encoding: , chunked\r\n", b"0\r\n\r\n"),
    "coding with a comma after": post(b"Transfer-Encoding: chunked,\r\n", b"0\r\n\r\n"),
    "coding in quotation marks": post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"),
    "coding xchunked": post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "coding with a vertical tab": post(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"),
    "coding with NBSP": post(b"Transfer-Encoding: \xa0chunked\r\n", b"0\r\n\r\n"),
    "coding empty": post(b"Transfer-Encoding:\r\n", b"0\r\n\r\n"),
    "coding on GET with a length": get(b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n") + b"0\r\n\r\n",
    # ---- chunks
    "chunk size empty": chunked(b"\r\nabc\r\n0\r\n\r\n"),
    "chunk size in words": chunked(b"xyz\r\nabc\r\n0\r\n\r\n"),
    "chunk size with 0x": chunked(b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a plus": chunked(b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk size negative": chunked(b"-3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with an underscore": chunked(b"0_3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a space before": chunked(b" 3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a space after": chunked(b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunk size with 17 digits": chunked(b"00000000000000003\r\nabc\r\n0\r\n\r\n"),
    "chunk size that overflows 64 bits": chunked(b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "chunk line ends with bare LF": chunked(b"3\nabc\r\n0\r\n\r\n"),
    "chunk line ends with bare CR": chunked(b"3\rabc\r\n0\r\n\r\n"),
    "chunk line with LF in its extension": chunked(b"3;a\n\r\nabc\r\n0\r\n\r\n"),
    "chunk line with CR in its extension": chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "chunk data ends with bare LF": chunked(b"3\r\nabc\n0\r\n\r\n"),
    "chunk data ends with two other bytes": chunked(b"3\r\nabcXX0\r\n\r\n"),
    "chunk data longer than its size": chunked(b"3\r\nabcd\r\n0\r\n\r\n"),
    "chunk data shorter than its size": chunked(b"5\r\nabc\r\n0\r\n\r\n"),
    "last chunk line ends with bare LF": chunked(b"3\r\nabc\r\n0\n\n"),
    "extension without a name": chunked(b"3;\r\nabc\r\n0\r\n\r\n"),
    "extension with an open quotation": chunked(b'3;a="b\r\nabc\r\n0\r\n\r\n'),
    "extension with a control character": chunked(b"3;a=\x01\r\nabc\r\n0\r\n\r\n"),
    "extension with a line break in quotation marks": chunked(b'3;a="\r\nabc\r\n0\r\n\r\n"\r\nabc\r\n0\r\n\r\n'),
    "extension of 2000 bytes": chunked(b"3;a=" + b"b" * 2000 + b"\r\nabc\r\n0\r\n\r\n"),
    "mostly extensions": chunked(b"".join(b"1;a=%b\r\nx\r\n" % (b"b" * 900) for _ in range(40)) + b"0\r\n\r\n"),
    "no last chunk": chunked(b"3\r\nabc\r\n"),
    "no end of the trailer": chunked(b"3\r\nabc\r\n0\r\n"),
    "trailer without a colon": chunked(b"0\r\nX\r\n\r\n"),
    "trailer with an empty name": chunked(b"0\r\n: b\r\n\r\n"),
    "trailer folded": chunked(b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailer with bare LF": chunked(b"0\r\nX: a\n\r\n\r\n"),
    "trailer with space before the colon": chunked(b"0\r\nX : a\r\n\r\n"),
    # ---- Expect, and what aiohttp's parser has an opinion on
    "unknown expectation": post(b"Expect: 200-ok\r\nContent-Length: 0\r\n"),
    "expectation list": post(b"Expect: 100-continue, more\r\nContent-Length: 0\r\n"),
    "two media types": post(b"Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n"),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
async def test_a_bad_request_is_refused_and_nothing_after_it_is_read(echo: Listening, raw: bytes) -> None:
    answers = await echo.ask(raw + b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n" if not _is_cut(raw) else raw)

    assert [answer.status for answer in answers] == [400]
    assert json.loads(answers[0].body)["code"] == "bad_request"
    assert answers[0]["Content-Type"] == "application/problem+json"
    assert answers[0]["Connection"] == "close"


def _is_cut(raw: bytes) -> bool:
    # What follows these would complete them, into something that is refused for another reason or into data of a body.
    names = {
        "head ends with the connection",
        "head ends within its end",
        "body shorter than its length",
        "no last chunk",
        "no end of the trailer",
        "TLS hello",
        "SOCKS",
    }
    return any(BAD[name] == raw for name in names)


OTHER: dict[str, tuple[bytes, int, str]] = {
    "head too large": (get(b"X-A: " + b"a" * 40000 + b"\r\n"), 431, "headers_too_large"),
    "target too large": (get(target=b"/" + b"a" * 40000), 431, "headers_too_large"),
    "head without an end too large": (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 40000, 431, "headers_too_large"),
    "too many fields": (get(b"".join(b"X-%d: a\r\n" % n for n in range(300))), 431, "headers_too_large"),
    "trailer too large": (chunked(b"0\r\n" + b"X: a\r\n" * 10000 + b"\r\n"), 431, "headers_too_large"),
    "length over the limit": (post(b"Content-Length: 16777217\r\n"), 413, "body_too_large"),
    "length of 18 digits": (post(b"Content-Length: 999999999999999999\r\n"), 413, "body_too_large"),
    "length over the limit, waiting for 100": (
        post(b"Content-Length: 16777217\r\nExpect: 100-continue\r\n"),
        413,
        "body_too_large",
    ),
}


@pytest.mark.parametrize(("raw", "status", "code"), OTHER.values(), ids=OTHER.keys())
async def test_what_is_too_large_has_its_own_code(echo: Listening, raw: bytes, status: int, code: str) -> None:
    answers = await echo.ask(raw)

    assert [answer.status for answer in answers] == [status]
    assert json.loads(answers[0].body)["code"] == code


GOOD: dict[str, tuple[bytes, str, bytes]] = {
    "empty line before": (b"\r\n" + get(), "GET /a localhost:8610", b""),
    "no space after the colon": (get(host=b"Host:localhost\r\n"), "GET /a localhost", b""),
    "white space around the value": (get(host=b"Host: \t localhost \t \r\n"), "GET /a localhost", b""),
    "field name in odd case": (get(host=b"hOsT: localhost\r\n"), "GET /a localhost", b""),
    "value empty": (get(b"X-A:\r\n"), "GET /a localhost:8610", b""),
    "value in Latin-1": (get(b"X-A: \xe4\r\n"), "GET /a localhost:8610", b""),
    "trailing question mark": (get(target=b"/a?"), "GET /a? localhost:8610", b""),
    "question mark in the query": (get(target=b"/a?b?c/d"), "GET /a?b?c/d localhost:8610", b""),
    "double slashes": (get(target=b"//a//b"), "GET //a//b localhost:8610", b""),
    "dot segments": (get(target=b"/a/./b/../c"), "GET /a/./b/../c localhost:8610", b""),
    "escapes in both cases": (get(target=b"/%2f%2F%c3%A4"), "GET /%2f%2F%c3%A4 localhost:8610", b""),
    "all that RFC 3986 allows": (
        get(target=b"/-._~!$&'()*+,;=:@?/?-._~!$&'()*+,;=:@"),
        "GET /-._~!$&'()*+,;=:@?/?-._~!$&'()*+,;=:@ localhost:8610",
        b"",
    ),
    "what browsers leave as it is": (get(target=b"/a[1]|?b[]={c}|\\^`"), "GET /a[1]|?b[]={c}|\\^` localhost:8610", b""),
    "unknown method": (b"FROB-1 /a HTTP/1.1\r\n" + HOST + b"\r\n", "FROB-1 /a localhost:8610", b""),
    "method in lower case": (b"get /a HTTP/1.1\r\n" + HOST + b"\r\n", "get /a localhost:8610", b""),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", "OPTIONS * localhost:8610", b""),
    "absolute target": (get(target=b"http://127.0.0.1:1/b?c"), "GET /b?c 127.0.0.1:1", b""),
    "absolute target in upper case": (get(target=b"HTTP://LOCALHOST/b"), "GET /b LOCALHOST", b""),
    "absolute target without a path": (get(target=b"http://127.0.0.1"), "GET / 127.0.0.1", b""),
    "absolute target, query only": (get(target=b"http://127.0.0.1?a"), "GET /?a 127.0.0.1", b""),
    "absolute target of OPTIONS": (
        b"OPTIONS http://127.0.0.1 HTTP/1.1\r\n" + HOST + b"\r\n",
        "OPTIONS * 127.0.0.1",
        b"",
    ),
    "IPv6 Host": (get(host=b"Host: [::1]:8610\r\n"), "GET /a [::1]:8610", b""),
    "Host of a future address": (get(host=b"Host: [v1.a:b]\r\n"), "GET /a [v1.a:b]", b""),
    "Host with an empty port": (get(host=b"Host: localhost:\r\n"), "GET /a localhost:", b""),
    "Host with a trailing dot": (get(host=b"Host: localhost.\r\n"), "GET /a localhost.", b""),
    "HTTP/1.0 without Host": (b"GET /a HTTP/1.0\r\n\r\n", "GET /a ", b""),
    "length zero": (post(b"Content-Length: 0\r\n"), "POST /a localhost:8610", b""),
    "length with leading zeros": (post(b"Content-Length: 003\r\n", b"abc"), "POST /a localhost:8610", b"abc"),
    "GET with a body": (get(b"Content-Length: 3\r\n") + b"abc", "GET /a localhost:8610", b"abc"),
    "underscores are another name": (post(b"Content_Length: 9\r\nContent-Length: 3\r\n", b"abc"), "POST /a localhost:8610", b"abc"),
    "chunks": (chunked(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"), "POST /a localhost:8610", b"abcdefg"),
    "coding in odd case": (post(b"Transfer-Encoding: ChUnKeD\r\n", b"1\r\na\r\n0\r\n\r\n"), "POST /a localhost:8610", b"a"),
    "chunk size in both cases": (chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), "POST /a localhost:8610", b"0123456789" * 2),
    "chunk size with zeros": (chunked(b"0003\r\nabc\r\n000\r\n\r\n"), "POST /a localhost:8610", b"abc"),
    "extensions": (chunked(b'3;a;b=c;d="e;\\"f"\r\nabc\r\n0;x\r\n\r\n'), "POST /a localhost:8610", b"abc"),
    "extensions with white space": (chunked(b"3 ; a = b\r\nabc\r\n0\r\n\r\n"), "POST /a localhost:8610", b"abc"),
    "trailer": (chunked(b"3\r\nabc\r\n0\r\nX-T: a\r\nContent-Length: 9\r\n\r\n"), "POST /a localhost:8610", b"abc"),
    "line breaks as data": (chunked(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), "POST /a localhost:8610", b"\r\n\r\n"),
    "upgrade is ignored": (get(b"Connection: upgrade\r\nUpgrade: websocket\r\n"), "GET /a localhost:8610", b""),
    "h2c is ignored": (get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"), "GET /a localhost:8610", b""),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "was", "body"), GOOD.values(), ids=GOOD.keys())
async def test_an_odd_but_valid_request_has_one_meaning(echo: Listening, raw: bytes, was: str, body: bytes) -> None:
    answers = await echo.ask(raw + b"GET /next HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")

    assert answers[0].status == 200
    assert answers[0]["X-Was"] == was
    assert answers[0].body == body
    if not raw.startswith(b"GET /a HTTP/1.0"):
        assert [answer["X-Was"] for answer in answers[1:]] == ["GET /next localhost:8610"]


async def test_no_credential_is_repeated_to_the_client(echo: Listening) -> None:
    answers = await echo.ask(get(b"Authorization: Bearer planted-secret\r\nbroken line\r\nCookie: planted-secret\r\n"))

    assert answers[0].status == 400
    assert b"planted-secret" not in answers[0].body
    assert all("planted-secret" not in value for _, value in answers[0].fields)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(BAD) + len(OTHER) >= 150
