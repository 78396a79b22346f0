"""Links to the origin become links to the proxy (contract §7): at the start of JSON strings, whatever the split."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http.links import LinkRewriter

ORIGIN = "https://api.passolution.eu"
BASE = "http://localhost:8610"
rewriter = LinkRewriter(ORIGIN)


def rewritten(data: bytes, by: LinkRewriter = rewriter) -> bytes:
    stream = by.streaming(BASE)
    return stream.feed(data) + stream.finish()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('{"a":"https://api.passolution.eu/x"}', '{"a":"http://localhost:8610/x"}'),
        ('["https://api.passolution.eu"]', '["http://localhost:8610"]'),
        ('["https://api.passolution.eu?x"]', '["http://localhost:8610?x"]'),
        ('["https://api.passolution.eu#x"]', '["http://localhost:8610#x"]'),
        (r'["https:\/\/api.passolution.eu\/x"]', r'["http:\/\/localhost:8610\/x"]'),
        (r'["https:\/\/api.passolution.eu"]', r'["http:\/\/localhost:8610"]'),
        ('["HTTPS://API.Passolution.EU/x"]', '["http://localhost:8610/x"]'),
        ('["http://api.passolution.eu/x"]', '["http://localhost:8610/x"]'),
        ('["https://api.passolution.eu:443/x"]', '["http://localhost:8610/x"]'),
        ('["http://api.passolution.eu:80/x"]', '["http://localhost:8610/x"]'),
        ('{"https://api.passolution.eu/x":1}', '{"http://localhost:8610/x":1}'),
    ],
)
def test_rewritten(text: str, made: str) -> None:
    assert rewritten(text.encode()).decode() == made


@pytest.mark.parametrize(
    "text",
    [
        '["see https://api.passolution.eu/x"]',
        '["https://api.passolution.eu.evil.example/x"]',
        '["https://api.passolution.eu:8443/x"]',
        '["http://api.passolution.eu:443/x"]',
        '["https://api.passolution.euro"]',
        '["https://apixpassolution.eu/x"]',
        '["https://web.passolution.eu/x"]',
        r'["\"https://api.passolution.eu/x"]',
        '["https://api.passolution.eu@evil.example/"]',
        '"https://api.passolution.eu',
        "",
    ],
)
def test_left_alone(text: str) -> None:
    assert rewritten(text.encode()).decode() == text


def test_origin_with_a_port_of_its_own() -> None:
    own = LinkRewriter("http://127.0.0.1:8620")
    assert (
        rewritten(b'["http://127.0.0.1:8620/x","http://127.0.0.1/x"]', own)
        == b'["http://localhost:8610/x","http://127.0.0.1/x"]'
    )
    six = LinkRewriter("http://[::1]:8620")
    assert rewritten(b'["http://[::1]:8620/x"]', six) == b'["http://localhost:8610/x"]'


strings = st.one_of(
    st.sampled_from(
        [
            ORIGIN,
            f"{ORIGIN}/a",
            f"{ORIGIN}?a",
            "https://api.passolution.eu.x/",
            f'"{ORIGIN}/',
            "\\",
            '\\"',
            f"\\{ORIGIN}/",
            "https://",
            "ü" * 5,
        ]
    ),
    st.text(max_size=12),
)
documents = st.recursive(
    strings, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4), max_leaves=12
)


def expected(value: object) -> object:
    """What a rewriter that knows the structure would make."""
    if isinstance(value, str):
        rest = value.removeprefix(ORIGIN)
        return BASE + rest if rest != value and rest[:1] in ("", "/", "?", "#") else value
    if isinstance(value, list):
        return [expected(each) for each in value]
    assert isinstance(value, dict)
    return {str(expected(name)): expected(each) for name, each in value.items()}


@given(documents, st.booleans(), st.booleans())
def test_agrees_with_one_that_parses(document: object, ascii_only: bool, as_php_does: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    if as_php_does:
        text = text.replace("/", "\\/")
    assert json.loads(rewritten(text.encode())) == expected(document)


@given(documents, st.lists(st.integers(1, 40), min_size=1, max_size=8), st.booleans())
def test_any_split_gives_the_same_bytes(document: object, steps: list[int], as_php_does: bool) -> None:
    text = json.dumps(document)
    data = (text.replace("/", "\\/") if as_php_does else text).encode()
    stream, parts, at, turn = rewriter.streaming(BASE), [], 0, 0
    while at < len(data):
        step = steps[turn % len(steps)]
        parts.append(stream.feed(data[at : at + step]))
        at, turn = at + step, turn + 1
    parts.append(stream.finish())
    assert b"".join(parts) == rewritten(data)


@given(st.binary(max_size=200), st.integers(1, 7))
def test_bytes_that_are_no_json_pass_whole(data: bytes, step: int) -> None:
    stream = rewriter.streaming(BASE)
    made = b"".join([*(stream.feed(data[at : at + step]) for at in range(0, len(data), step)), stream.finish()])
    assert made == data


def test_holds_back_no_more_than_one_match() -> None:
    stream = rewriter.streaming(BASE)
    assert len(stream.feed(b'"' + b"x" * 1000)) == 1001
    assert stream.feed(b'"https://api') == b""
    assert stream.feed(b'.passolution.eu/"') == b'"http://localhost:8610/'
    assert stream.finish() == b'"'


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("https://api.passolution.eu/a?b#c", f"{BASE}/a?b#c"),
        ("https://api.passolution.eu", BASE),
        ("//api.passolution.eu/a", f"{BASE}/a"),
        ("/a", "/a"),
        ("a?u=https://api.passolution.eu/", "a?u=https://api.passolution.eu/"),
        ("https://api.passolution.eu.evil/", "https://api.passolution.eu.evil/"),
        ("https://api.passolution.eu@evil/", "https://api.passolution.eu@evil/"),
    ],
)
def test_references(value: str, made: str) -> None:
    assert rewriter.reference(value, BASE) == made


def test_link_field() -> None:
    value = '<https://api.passolution.eu/a>; rel="next", <https://else.example/>; rel=prev; title="<https"'
    assert rewriter.link(value, BASE) == f'<{BASE}/a>; rel="next", <https://else.example/>; rel=prev; title="<https"'


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("https://api.example/v1/a?b", "http://p/ds/a?b"),
        ("//api.example/v1", "http://p/ds"),
        ("/v1/a", "/ds/a"),
        ("/v1", "/ds"),
        ("/v1?b", "/ds?b"),
        ("/v10/a", "https://api.example/v10/a"),
        ("/V1/a", "https://api.example/V1/a"),
        ("https://api.example/v10/a", "https://api.example/v10/a"),
        ("a/b", "a/b"),
        ("?b", "?b"),
        ("//other.example/v1/a", "//other.example/v1/a"),
    ],
)
def test_references_below_a_path_of_the_origin_and_of_the_proxy(value: str, made: str) -> None:
    assert LinkRewriter("https://api.example/v1", "/ds").reference(value, "http://p") == made


@pytest.mark.parametrize(
    ("origin", "base_path", "value", "made"),
    [
        ("https://api.example", "/ds", "/a", "/ds/a"),
        ("https://api.example", "/ds", "https://api.example", "http://p/ds"),
        ("https://api.example/v1", "", "/v1/a", "/a"),
        ("https://api.example/v1", "", "/v1?b", "/?b"),
        ("https://api.example/v1", "", "/v1?/b", "/?/b"),
        ("https://api.example/v1", "", "/v1//evil.example/b", "http://p//evil.example/b"),
        ("https://api.example/v1", "", "/v1/\\evil.example", "http://p/\\evil.example"),
        ("https://api.example/v1", "", "/v1/\t/evil.example", "http://p/\t/evil.example"),
        ("https://api.example", "", "/a", "/a"),
    ],
)
def test_either_path_alone(origin: str, base_path: str, value: str, made: str) -> None:
    assert LinkRewriter(origin, base_path).reference(value, "http://p") == made


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_json_below_a_path_of_the_origin(size: int) -> None:
    stream = LinkRewriter("https://api.example/v1/x", "/ds").streaming("http://p")
    text = rb'["https:\/\/api.example\/v1\/x\/a","HTTPS://API.example/v1/x","https://api.example/v1/xy","https://api.example/v1/X/"]'
    made = b"".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size)) + stream.finish()
    assert made == rb'["http:\/\/p\/ds\/a","http://p/ds","https://api.example/v1/xy","https://api.example/v1/X/"]'
