"""Path patterns of the configuration."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http.paths import Pattern, compile_pattern, decoded_once


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("/**", ["/", "/a", "/a/b/", "//"], ["*", "a"]),
        ("/x/**", ["/x", "/x/", "/x/y/z"], ["/xy", "/y/x", "/"]),
        ("/", ["/"], ["/a", ""]),
        ("/a", ["/a"], ["/a/", "/A", "/ab"]),
        ("/a/*", ["/a/b", "/a/"], ["/a", "/a/b/c"]),
        ("/a/*/c", ["/a/b/c", "/a//c"], ["/a/c", "/a/b/b/c"]),
        ("/**/z", ["/z", "/a/z", "/a/b/z"], ["/az", "/z/a"]),
        ("/**/a/**", ["/a", "/x/a", "/a/y", "/x/a/y"], ["/xa", "/ab"]),
        ("/a/**/b/**/c", ["/a/b/c", "/a/x/b/y/c", "/a/b/b/c/c"], ["/a/bb/c", "/a/c", "/a/b/cc"]),
        ("/**/**/x", ["/x", "/a/x"], ["/y"]),
        ("/v*/x*y*z", ["/v1/xyz", "/v/x1y2z", "/v/xyzz"], ["/v/xy", "/v/x/yz", "/v/zyx"]),
        ("/a**b", ["/ab", "/axb"], ["/a/b"]),
        ("/a.b+(c)", ["/a.b+(c)"], ["/axb+(c)"]),
        ("/a\nb/*", ["/a\nb/\n"], []),
    ],
)
def test_patterns(text: str, yes: list[str], no: list[str]) -> None:
    pattern = compile_pattern(text)
    assert [path for path in yes if not pattern.matches(path)] == []
    assert [path for path in no if pattern.matches(path)] == []


def test_case_counts_unless_it_does_not() -> None:
    assert not compile_pattern("/aB/**").matches("/Ab")
    assert compile_pattern("/aB/**", ignore_case=True).matches("/Ab/c")


def test_a_pattern_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="must begin with '/'"):
        Pattern("a/**")
    assert repr(Pattern("/a")) == "Pattern('/a')"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/**/a/**/a/**/a/**/b", "/a" * 16000),
        ("/*a*a*a*a*b", "/" + "a" * 32000),
        ("/**/*a*/**/*a*/b", "/aaaa" * 6000),
    ],
)
def test_hostile_paths_take_time_in_proportion(text: str, path: str) -> None:
    began = time.thread_time()
    assert not compile_pattern(text).matches(path)
    assert time.thread_time() - began < 2


def _reference(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_reference(pattern[1:], path[skipped:]) for skipped in range(len(path) + 1))
    return bool(path) and _segment(pattern[0], path[0]) and _reference(pattern[1:], path[1:])


def _segment(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_segment(pattern[1:], text[skipped:]) for skipped in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and _segment(pattern[1:], text[1:])


@given(
    st.lists(st.sampled_from(["**", "*", "a", "b", "a*", "*b*a"]), min_size=1, max_size=5),
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5),
)
def test_patterns_mean_what_the_slow_and_obvious_matcher_says(pattern: list[str], path: list[str]) -> None:
    text = "/" + "/".join(pattern)
    assert compile_pattern(text).matches("/" + "/".join(path)) == _reference(pattern, path)


@pytest.mark.parametrize(
    ("path", "decoded"),
    [("/a", "/a"), ("/%41%2f", "/A/"), ("/%2541", "/%41"), ("/%c3%a4", "/ä"), ("/%ff", "/\udcff"), ("/%", "/%"), ("/%4", "/%4"), ("/%zz", "/%zz")],
)  # fmt: skip
def test_decoding_once(path: str, decoded: str) -> None:
    assert decoded_once(path) == decoded
