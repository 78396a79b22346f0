"""Queries in keys and bypasses."""

import pytest

from passoproxy.core.cache.policy import KeyPolicy
from passoproxy.core.cache.query import field_names, normalised


@pytest.mark.parametrize(
    ("query", "policy", "expected"),
    [
        ("b=2&a=1", KeyPolicy(), "a=1&b=2"),
        ("a=2&a=1", KeyPolicy(), "a=2&a=1"),  # the order of values counts
        ("b=2&a=1", KeyPolicy(sort_query=False), "b=2&a=1"),
        ("a=1", KeyPolicy(), "a=1"),
        ("", KeyPolicy(), ""),
        ("b=2&utm=x&a=1", KeyPolicy(ignore_query=("utm",)), "a=1&b=2"),
        ("b=2&%75tm=x&a=1", KeyPolicy(ignore_query=("utm",), sort_query=False), "b=2&a=1"),
        ("utm=x", KeyPolicy(ignore_query=("utm",)), ""),
        ("a[1]=2&a[]=1", KeyPolicy(), "a[1]=2&a[]=1"),  # another order would be another list
        ("a[]=1&a[1]=2", KeyPolicy(), "a[]=1&a[1]=2"),
        ("b&a", KeyPolicy(), "a&b"),
        ("%62=1&a=1", KeyPolicy(), "a=1&%62=1"),  # sorted as decoded, kept as sent
    ],
)
def test_normalised(query, policy, expected):
    assert normalised(query, policy) == expected


@pytest.mark.parametrize(
    "encoded",
    [
        "mark_visited=true",
        "a=1&mark_visited",
        "mark_visited[]=1",
        "mark_visited[x][y]=1",
        "mark.visited=1",
        "mark+visited=1",
        "mark%20visited=1",
        "%6dark_visited=1",
        "mark%5Fvisited=1",
        "mark[visited=1",
        "+mark_visited=1",
        "mark_visited%00x=1",
    ],
)
def test_names_as_frameworks_see_them(encoded):
    assert "mark_visited" in field_names(encoded)


@pytest.mark.parametrize("encoded", ["xmark_visited=1", "a=mark_visited", "MARK_VISITED=1", "a[mark_visited]=1"])
def test_other_names(encoded):
    assert "mark_visited" not in field_names(encoded)
