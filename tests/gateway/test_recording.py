"""The file of a recording: every answer comes back byte by byte, what a hand broke is named with its line, what is personal is seen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of
from passoproxy.core.redaction import Redactor
from passoproxy.gateway.recording import InvalidRecording, Recording, masked_body, personal, printed, read

JSON = ("Content-Type", "application/json")

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
LAYOUTS = [{"separators": (",", ":")}, {}, {"indent": 2}, {"indent": 4}, {"indent": 3}]


def written(value: object, ascii: bool, layout: dict[str, object], slashes: bool, end: str) -> bytes:
    text = json.dumps({"v": value}, ensure_ascii=ascii, **layout)  # type: ignore[arg-type]
    return ((text.replace("/", "\\/") if slashes else text) + end).encode("utf-8", "surrogatepass")


DOCUMENTS = st.builds(
    written, VALUES, st.booleans(), st.sampled_from(LAYOUTS), st.booleans(), st.sampled_from(["", "\n", "\n\n"])
)
BODIES = (
    DOCUMENTS
    | st.binary(max_size=300)
    | st.text(max_size=200).map(str.encode)
    | st.text("a \n\t:#-", max_size=12).map(str.encode)
)
NAMES = st.sampled_from(["Content-Type", "X-A", "x-a", "Link", "Null", "Y"])
BYTES = st.binary(max_size=30).map(lambda data: data.translate(None, b"\0\r\n").decode("utf-8", "surrogateescape"))
TEXTS = BYTES | st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=30)
FIELDS = st.lists(st.tuples(NAMES, TEXTS), max_size=5)


def of(body: bytes, *fields: tuple[str, str], status: int = 200, asked: bytes = b"", target: str = "/a") -> Recording:
    head = RequestHead("POST" if asked else "GET", target, fields_of([JSON] if asked else []))
    return Recording(head, asked, ResponseHead(status, fields_of(fields or [JSON])), body)


@given(BODIES, BODIES, FIELDS, st.lists(TEXTS, max_size=3))
def test_what_is_written_is_read(body: bytes, asked: bytes, fields: list[tuple[str, str]], volatile: list[str]) -> None:
    head = RequestHead("PUT", "/a?b=%20c&d=[]", fields_of(fields))
    recording = Recording(head, asked, ResponseHead(418, fields_of(fields)), body, tuple(volatile))
    back = read(printed(recording, ["request.a"]).encode("utf-8", "surrogatepass"), "a.yaml")
    assert (back.body, back.asked, back.volatile) == (body, asked, tuple(volatile))
    for before, after in ((head.fields, back.request.fields), (recording.head.fields, back.head.fields)):
        assert {name.lower(): after.getall(name) for name in after} == {
            name.lower(): before.getall(name) for name in before
        }


def test_a_person_reads_it() -> None:
    body = b'{"a":{"url":"http:\\/\\/x\\/","name":"Z\\u00fcrich"},"requestid":"1"}'
    recording = Recording(
        RequestHead("GET", "/a?lang=en"),
        b"",
        ResponseHead(200, fields_of([JSON, ("Vary", "A"), ("Vary", "B, C")])),
        body,
        ("Date", "body.requestid"),
    )
    assert printed(recording, ["response.body.a.name"]) == (
        "# A recording of passoproxy: edit it freely, it is read again when it changes (docs/gateway.md).\n"
        "# May hold personal data (response.body.a.name): look before you share it.\n"
        "request:\n  method: GET\n  target: /a?lang=en\n"
        'response:\n  status: 200\n  headers:\n    Content-Type: application/json\n    Vary: [A, "B, C"]\n'
        "  style: ascii, slashes\n  json: |\n"
        '    {\n      "a": {\n        "url": "http://x/",\n        "name": "Zürich"\n      },\n      "requestid": "1"\n    }\n'
        "volatile: [Date, body.requestid]\n"
    )


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"a": 1}', "json"),
        (b'{"a": 1e5}', "text"),  # not as Python writes it
        (b'{"a": 1, "a": 1}', "text"),
        (b'{"a": NaN}', "text"),
        (b"[" * 100_000, "text"),
        (b"[" * 300 + b"1," * 11_000 + b"1" + b"]" * 300, "text"),  # 6 MiB of spaces
        (b"line\nline\n", "text"),
        (b"\xff", "base64"),
    ],
)
def test_a_body_is_what_it_can_be(body: bytes, key: str) -> None:
    text = printed(of(body))
    assert f"\n  {key}: " in text
    assert read(text.encode(), "a").body == body


# ---- edited by hand ----------------------------------------------------------------------------------------------------

WHOLE = "request:\n  method: GET\n  target: /a\nresponse:\n  status: 200\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.yaml:1: is no mapping of keys; write request, response, volatile as keys of it"),
        ("- a", "a.yaml:1: is no mapping"),
        ("a: [", "a.yaml:2: is not YAML: "),
        ("a: \x01", "a.yaml: is not YAML: "),
        ("\x80", "a.yaml: is not UTF-8"),
        ("[" * 5000, "a.yaml:1: is not YAML: exceeded maximum nesting depth"),
        (WHOLE.partition("response")[0], "a.yaml:1: response: is missing"),
        ("response: {status: 200}", "a.yaml:1: request: is missing"),
        ("reqest: {}\n", "a.yaml:1: reqest: is no key"),
        (WHOLE + "more: 1", "a.yaml:6: more: is no key; keys are request, response, volatile"),
        (WHOLE + "request: {}", "a.yaml:6: request: stands twice"),
        (WHOLE.replace("method", "methods"), "a.yaml:2: request.methods: is no key"),
        (WHOLE.replace("  method: GET\n", ""), "a.yaml:2: request.method: is missing"),
        (WHOLE.replace("GET", "[GET]"), "a.yaml:2: request.method: is no text"),
        (WHOLE.replace("GET", "G T"), "a.yaml:2: request.method: is no method"),
        (WHOLE.replace("/a", "a"), "a.yaml:3: request.target: is no target"),
        (WHOLE.replace("200", "99"), "a.yaml:5: response.status: '99' is no status"),
        (WHOLE + "  headers: x\n", "a.yaml:6: response.headers: is no mapping"),
        (WHOLE + "  headers: {a b: c}\n", "a.yaml:6: response.headers.a b: is no header field"),
        (WHOLE + '  headers: {a: [b, "c\\nd"]}\n', "a.yaml:6: response.headers.a: is no header field"),
        (
            WHOLE + "  headers: {Content-Encoding: gzip}\n",
            "a.yaml:6: response.headers.Content-Encoding: the body stands",
        ),
        (WHOLE + "  json: {a: 1}\n", "a.yaml:6: response.json: is no block of text; write 'json: |' and"),
        (WHOLE + "  json: |\n    {\n      a\n    }\n", "a.yaml:8: response.json: is not JSON: "),
        (WHOLE + "  json: '{'\n", "a.yaml:6: response.json: is not JSON: "),
        (WHOLE + f"  json: '{'[' * 100_000}'\n", "a.yaml:6: response.json: is JSON that cannot be read"),
        (WHOLE + f"  json: '{'[' * 990}{']' * 990}'\n", "a.yaml:6: response.json: is JSON that cannot be read"),
        (WHOLE + '  json: |\n    "\\ud800"\n', "a.yaml:6: response.json: has half a character"),
        (
            WHOLE + "  style: pretty\n  json: '{}'\n",
            "a.yaml:6: response.style: pretty is no style; words are compact, ",
        ),
        (WHOLE + "  base64: '***'\n", "a.yaml:6: response.base64: is not base64"),
        (WHOLE + "  text: a\n  json: '1'\n", "a.yaml:6: response.text: stands beside json; keep one"),
        (WHOLE.replace("200", "204") + "  text: a\n", "a.yaml:5: response: a 204 has no body"),
        (WHOLE + '  headers: {a: !latin-1 "\\u2028"}\n', "a.yaml:6: response.headers.a: is not latin-1; take"),
        (WHOLE + '!latin-1 "\\xff": 1\n', "a.yaml:6: \\udcff: is no key"),
        (WHOLE + "volatile: Date\n", "a.yaml:6: volatile: is no list"),
    ],
)
def test_what_a_hand_broke_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidRecording) as caught:
        read(text.encode("latin-1"), "a.yaml")
    assert str(caught.value).startswith(said)
    assert "; " in str(caught.value)


def test_a_hand_may_write_little() -> None:
    text = "response: {status: '404', text: no}\nrequest: {target: /b, method: DELETE, headers: {A: [x, y]}}\n"
    read_back = read(text.encode(), "a")
    assert (read_back.request.method, read_back.body, read_back.head.status) == ("DELETE", b"no", 404)
    assert read_back.request.fields.getall("a") == ["x", "y"]


def test_framing_is_the_proxys_own() -> None:
    text = WHOLE + "  headers: {Content-Length: '99', Transfer-Encoding: chunked, Connection: close, A: b}\n"
    assert dict(read(text.encode(), "a").head.fields) == {"A": "b"}
    head = WHOLE.replace("GET", "HEAD") + "  headers: {Content-Length: '99'}\n"
    assert dict(read(head.encode(), "a").head.fields) == {"Content-Length": "99"}


# ---- whether it changed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a": 1, "requestid": 1}', b'{"requestid": 2, "a": 1}', True),
        (b'{"a": 1}', b'{"a": true}', False),
        (b'{"a": 1}', b'{"a": 1, "b": 2}', False),
        (b"text", b"text", True),
        (b"text", b"other", False),
    ],
)
def test_what_says_the_same(one: bytes, other: bytes, same: bool) -> None:
    first = Recording(RequestHead("GET", "/"), b"", ResponseHead(200, fields_of([("Date", "1")])), one, ("Date",))
    second = Recording(
        RequestHead("GET", "/"), b"", ResponseHead(200, fields_of([("date", "2")])), other, ("body.requestid",)
    )
    assert first.says_the_same(second) is same
    assert second.says_the_same(first) is same


# ---- what must not be in it, and what a person should look at -------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "clean"),
    [
        (b'{"password":"a","code":"NO"}', "application/json", b'{"password":"***","code":"NO"}'),
        (b'{"a":1}', "application/json", b'{"a":1}'),
        (b'{"password":"a","password":"b"}', "application/json", b'{"password": "***","password": "***"}'),
        (b"user=x&password=hush", "application/x-www-form-urlencoded", b"user=x&password=***"),
        (b"\xe9 password=hush", "text/plain", b"\xe9 password=***"),
        (b"\xe9 password=hush", "application/x-www-form-urlencoded", b"\xe9 password=***"),
        (b"\xff\xd8 password=hush", "image/jpeg", b"\xff\xd8 password=hush"),
        (b'{"pass\\u0077ord":"hush","a":1.50}', "application/json", b'{"password": "***", "a": 1.5}'),
        (b'{"a":1.50}', "application/json", b'{"a":1.50}'),
        (
            b"[" * 700 + b'{"password":"hush"}' + b"]" * 700,
            "application/json",
            b"[" * 700 + b'{"password": "***"}' + b"]" * 700,
        ),
        ('{"password":"hush"}'.encode("utf-16"), "application/json", '{"password":"***"}'.encode("utf-16")),
        (
            b"--B\r\nContent-Disposition: form-data; name=new_password\r\n\r\nhush\r\n--B\r\n"
            b'Content-Disposition: form-data; name="f"; filename=password\r\n\r\n\xff\r\n--B--\r\n',
            "Multipart/form-data; boundary=B",
            b"--B\r\nContent-Disposition: form-data; name=new_password\r\n\r\n***\r\n--B\r\n"
            b'Content-Disposition: form-data; name="f"; filename=password\r\n\r\n\xff\r\n--B--\r\n',
        ),
    ],
)
def test_credentials_in_bodies_are_masked(body: bytes, kind: str, clean: bytes) -> None:
    fields = fields_of([("Content-Type", kind)])
    assert masked_body(body, fields, Redactor()) == clean
    assert masked_body(clean, fields, Redactor()) == clean


@pytest.mark.parametrize("name", ["a\nvolatile: [body.b]\n#", "a\u2028b", "a\x85b", "a\ud800b", "a" * 9000])
def test_a_name_in_the_comment_is_one_line(name: str) -> None:
    recording = of(json.dumps({name: {"email": "a@example.com"}}).encode())
    (said,) = names = personal(recording)
    assert len(said) <= 200
    assert read(printed(recording, names).encode(), "a") == recording


def test_personal_data_is_seen_by_name_and_by_pattern() -> None:
    asked = b'{"travellers": [{"passportNumber": "X1", "dateOfBirth": "1990-01-01"}, {"passport_number": "X2"}], "lang": "en"}'
    body = b'{"contact": "a@example.com", "birthrate": 1, "passport": {"allowed": true}, "email": ""}'
    found = personal(of(body, asked=asked, target="/a?email=x&lang=en"))
    assert found == [
        "request.target email",
        "request.body.travellers.passportNumber",
        "request.body.travellers.dateOfBirth",
        "request.body.travellers.passport_number",
        "response.body.contact",
    ]
    zone = b"P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"
    assert personal(of(zone, ("Content-Type", "text/plain"), target="/a?q=a%40example.com")) == [
        "request.target",
        "response.body",
    ]
    assert personal(of(b'{"countries": ["DE"], "mrz": null}')) == []
