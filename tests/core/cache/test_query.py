"""Queries in keys and bypasses."""

import pytest

from passoproxy.core.cache.key import form_names, normalised
from passoproxy.core.cache.policy import BypassPolicy, KeyPolicy, variable


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
        # one variable in PHP, of which the last one counts
        ("a_b=1&a.b=2", KeyPolicy(), "a_b=1&a.b=2"),
        ("a.b=1&a_b=2", KeyPolicy(), "a.b=1&a_b=2"),
        ("a_b=1&a%20b=2&a+b=3&a[b=4&%20a_b=5&a_b%00c=6", KeyPolicy(), "a_b=1&a%20b=2&a+b=3&a[b=4&%20a_b=5&a_b%00c=6"),
        ("a_b%00c=6&%20a_b=5&a[b=4&a+b=3&a_b=1", KeyPolicy(), "a_b%00c=6&%20a_b=5&a[b=4&a+b=3&a_b=1"),
        ("a_b[x]=1&a.b=2", KeyPolicy(), "a_b[x]=1&a.b=2"),
        ("a.b=2&a_b[x]=1", KeyPolicy(), "a.b=2&a_b[x]=1"),
        ("a_c=1&a.b=2", KeyPolicy(), "a.b=2&a_c=1"),
        ("a.c=1&a_b=2", KeyPolicy(), "a_b=2&a.c=1"),
        ("u.x=1&u%20x=2&u[x=3&u_x=4&a=5", KeyPolicy(ignore_query=("u_x",)), "a=5"),
        ("u_x=4&a=5", KeyPolicy(ignore_query=("u.x",)), "a=5"),
        ("u[x]=1&u[]=2&a.u=3", KeyPolicy(ignore_query=("u",)), "a.u=3&u[x]=1&u[]=2"),  # others than it
    ],
)
def test_normalised(query, policy, expected):
    assert normalised(query, policy.ignore_query, policy.sort_query) == expected


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
    assert "mark_visited" in form_names(encoded)


@pytest.mark.parametrize("encoded", ["xmark_visited=1", "a=mark_visited", "MARK_VISITED=1", "a[mark_visited]=1"])
def test_other_names(encoded):
    assert "mark_visited" not in form_names(encoded)


@pytest.mark.parametrize("configured", ["mark_visited", "mark.visited", "mark visited", "mark[visited"])
@pytest.mark.parametrize("sent", ["mark_visited=1", "mark.visited=1", "mark[visited=1", "mark+visited[]=1"])
def test_a_bypass_is_named_in_any_of_phps_spellings(configured, sent):
    for policy in (BypassPolicy(query_has=(configured,)), BypassPolicy(body_has=(configured,))):
        assert not policy.names.isdisjoint(form_names(sent))


@pytest.mark.parametrize(
    ("name", "read"),
    [  # as php 8.4's parse_str has them
        ("a.b", ("a_b", "")),
        ("a[b", ("a_b", "")),
        ("a[b[c", ("a_b_c", "")),
        ("a[b.c d", ("a_b_c_d", "")),
        ("a.b[c.d]", ("a_b", "[c.d]")),
        ("a[]b.c", ("a", "[]b.c")),
        ("  a", ("a", "")),
        ("a b ", ("a_b_", "")),
        ("a\0b", ("a", "")),
        ("a[\0b", ("a_", "")),
        ("a[b\0c]", ("a_b", "")),
        ("a]b", ("a]b", "")),
        ("\ta", ("\ta", "")),
    ],
)
def test_names_as_php_reads_them(name, read):
    assert variable(name) == read
