"""The readings of a path. That denied paths are denied under each is in tests/core/test_admission.py."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http.paths import readings


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", {"/"}),
        ("/a/B", {"/a/b"}),
        ("/a//b/./c/", {"/a/b/c"}),
        ("//a/./b/", {"/a/b", "/b"}),
        ("//a", {"/a", "/"}),
        ("/;x//a/b", {"/a/b", "/b"}),
        ("/x.php//a/b", {"/x.php/a/b", "/a/b", "/b"}),
        ("/a%00b%3f/c", {"/a", "/ab", "/ab?/c"}),
        ("/a/../b", {"/b", "/a/b"}),
        ("/../../b", {"/b"}),
        ("/a/%2e%2e/b", {"/b", "/a/b"}),
        ("/a/..;x/b", {"/b", "/a/b"}),
        ("/a\\..\\b", {"/b", "/a/b"}),
        ("/a/..%20/b", {"/b", "/a/b"}),
        ("/a;x=1/b;y", {"/a/b"}),
        ("/%61%2562%252563", {"/abc"}),
        ("/a%2fb%5cc", {"/a/b/c"}),
        ("/a%00b", {"/ab", "/a"}),
        ("/a%3fb/c", {"/a", "/a?b/c"}),
        ("/a%23b", {"/a", "/a#b"}),
        ("/a%c0%afb", {"/a/b"}),
        ("/a%c1%9cb", {"/a/b"}),
        ("/a%e0%80%afb", {"/a/b"}),
        ("/a%f0%80%80%afb", {"/a/b"}),
        ("/a%25u002fb", {"/a/b"}),
        ("/a%25ud800", {"/a\udced\udca0\udc80"}),
        ("/%c3%a4", {"/ä"}),
        ("/100%25", {"/100%"}),
        ("/index.php", {"/index.php"}),
        ("/index.php/", {"/index.php"}),
        ("/index.php/a", {"/index.php/a", "/a"}),
        ("/x/Index%2EPHP/a", {"/x/index.php/a", "/a"}),
        ("/index.phpa/b", {"/index.phpa/b", "/a/b"}),
        ("/a.php/b.php/c", {"/a.php/b.php/c", "/b.php/c", "/c"}),
    ],
)
def test_readings(path: str, expected: set[str]) -> None:
    assert readings(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/" + "%2e%2e/a/" * 100,
        "/" + "%" * 21 + "3" * 20 + "61",  # an escaped digit of an escaped digit of…
        "/" + "a%2f/" * 300,
        "/" + "".join(f"{n}%3f/" for n in range(100)),
        "/" + "".join(f"{n}/..;/" for n in range(64)),
        "/" + "%2fa" * 300,
        "/" + "a.php/" * 9 + "a",
        "/a.php/" + "".join(f"{n}/../" for n in range(64)),
    ],
)
def test_what_can_be_read_in_too_many_ways_is_not_read(path: str) -> None:
    assert readings(path) is None


def test_without_scripts_nothing_begins_behind_them() -> None:
    assert readings("/index.php/a", scripts=False) == {"/index.php/a"}


def test_nesting_below_the_bound_is_read() -> None:
    assert readings("/" + "%" * 9 + "3" * 8 + "61") == {"/a"}


def test_deep_nesting_of_one_kind_is_read_in_one_go() -> None:
    assert readings("/%" + "25" * 10000 + "61") == {"/a"}


@given(st.text("/.%2eEfF5cC;\\a0?#ud8", max_size=60))
def test_every_path_is_read_quickly_and_to_the_end(path: str) -> None:
    began = time.thread_time()
    found = readings("/" + path)
    assert time.thread_time() - began < 2
    assert found is None or all(reading.startswith("/") and "/../" not in reading + "/" for reading in found)
