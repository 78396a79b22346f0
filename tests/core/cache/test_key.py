"""RFC 9111 §4.1 and contract §3: primary keys, keyed content, side effects."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.key import Unreadable, content_of, primary_key, side_effects
from passoproxy.core.cache.policy import BypassPolicy, KeyPolicy
from passoproxy.core.http.messages import RequestHead, fields_of

JSON = "application/json"


def key(target="/x", method="GET", fields=(), policy=None, partition="me", body=None, content_type=JSON):
    policy = policy or KeyPolicy()
    fields = [*fields, ("Content-Type", content_type)] if body is not None else list(fields)
    head = RequestHead(method, target, fields_of(fields))
    return primary_key(partition, head, policy, None if body is None else content_of(head.fields, body, policy))


def test_each_part_of_a_key_counts():
    keys = [
        key(),
        key(partition="you"),
        key(method="POST", body=b"{}"),
        key("/y"),
        key("/x?"),
        key("/x?a=1"),
        key("/x?a=2"),
        key("/X"),
        key("/%78"),
        key(method="POST", body=b"[]"),
        key(method="POST", body=b"{}", content_type="application/vnd.x+json"),
        key(method="POST", body=b"a=1", content_type="application/x-www-form-urlencoded"),
        key(method="POST", body=b"a=1&b=2", content_type="application/x-www-form-urlencoded"),
        key(method="POST", body=b"b=2&a=1", content_type="application/x-www-form-urlencoded"),
        key(policy=KeyPolicy(headers=("Accept",))),
        key(policy=KeyPolicy(headers=("Accept",)), fields=[("Accept", "")]),
        key(policy=KeyPolicy(headers=("Accept",)), fields=[("Accept", "a")]),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"method": "HEAD"}),
        ({"target": "/x?a=1&b=2"}, {"target": "/x?b=2&a=1"}),
        ({"method": "POST", "body": b'{"a":1,"b":2.0}'}, {"method": "POST", "body": b'{"b":2,"a":1}'}),
        (
            {"method": "POST", "body": b"{}"},
            {"method": "POST", "body": b"{}", "content_type": "Application/JSON; charset=UTF-8"},
        ),
        ({"fields": [("Accept", "a")]}, {"fields": [("Accept", "b")]}),
    ],
)
def test_equal_requests(one, other):
    assert key(**one) == key(**other)


def test_a_query_of_which_nothing_counts_is_none():
    policy = KeyPolicy(ignore_query=("utm", "ref"))
    assert key("/x?utm=1", policy=policy) == key("/x?ref=2&utm=3", policy=policy) == key("/x", policy=policy)
    assert key("/x?", policy=policy) != key("/x", policy=policy)


def test_named_fields_are_keyed_as_lists():
    policy = KeyPolicy(headers=("X-B", "x-a"))
    same = KeyPolicy(headers=("X-A", "X-b"))
    assert key(policy=policy, fields=[("X-A", "1, 2"), ("X-B", "3")]) == key(
        policy=same, fields=[("x-b", "3"), ("x-a", "1"), ("x-a", "2")]
    )


def test_ignored_body_fields():
    policy = KeyPolicy(ignore_body_fields=("session", "filter.page"))
    one = key(method="POST", policy=policy, body=b'{"a":1,"session":7,"filter":{"page":1,"q":2}}')
    assert one == key(method="POST", policy=policy, body=b'{"a":1,"filter":{"q":2}}')
    assert one != key(method="POST", policy=policy, body=b'{"a":1,"filter":{"q":3}}')


def test_a_long_target_is_hashed():
    assert len(key("/" + "x" * 65536)) == 64


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([("Content-Type", "multipart/form-data; boundary=x")], b"--x--"),
        ([("Content-Type", "text/plain")], b"hello"),
        ([], b"{}"),
        ([("Content-Type", JSON)], b"{"),
        ([("Content-Type", JSON)], b""),
        ([("Content-Type", JSON), ("Content-Encoding", "gzip")], b"{}"),
        ([("Content-Type", JSON + "; charset=latin1")], b"{}"),
    ],
)
def test_unreadable_bodies(fields, body):
    with pytest.raises(Unreadable):
        content_of(fields_of(fields), body, KeyPolicy())


def test_an_empty_body_of_no_type_is_keyed():
    assert content_of(fields_of(), b"", KeyPolicy()).canonical_form == b""
    assert content_of(fields_of([("Content-Encoding", "identity")]), b"", KeyPolicy()).names == frozenset()


def test_other_parameters_of_json_stay_in_the_key():
    one = content_of(fields_of([("Content-Type", JSON + "; profile=a; charset=utf-8")]), b"{}", KeyPolicy())
    assert one.media_type == JSON + ";profile=a"


NAMES = BypassPolicy(("trip", "subscribe"))


@pytest.mark.parametrize(
    ("target", "body", "content_type", "found"),
    [
        ("/x", None, JSON, ""),
        ("/x?", None, JSON, ""),
        ("/x?a=1", None, JSON, ""),
        ("/x?trip=1", None, JSON, "trip"),
        ("/x?subscribe[]=1&trip=2", None, JSON, "subscribe"),
        ("/x?_method=DELETE&trip=1", None, JSON, "_method"),
        ("/x", b'{"trip":{}}', JSON, "trip"),
        ("/x", b'{"a":{"trip":null}}', JSON, "trip"),
        ("/x", b'{"a":"trip"}', JSON, ""),
        ("/x", b'{"_method":"PUT"}', JSON, "_method"),
        ("/x", b"trip[name]=a", "application/x-www-form-urlencoded", "trip"),
        ("/x", b"a=1&_method=put", "application/x-www-form-urlencoded", "_method"),
        ("/x", b"a=trip", "application/x-www-form-urlencoded", ""),
        ("/x?a=1&access_token=secret&trip=1", None, JSON, "access_token"),
        ("/x?access%5Ftoken=secret", None, JSON, "access_token"),
        ("/x?access_tokens=1&token=2", None, JSON, ""),
        ("/x", b'{"a":[{"refresh_token":"secret"}]}', JSON, "refresh_token"),
        ("/x", b"client_secret=secret", "application/x-www-form-urlencoded", "client_secret"),
    ],
)
def test_side_effects(target, body, content_type, found):
    fields = fields_of([("Content-Type", content_type)])
    content = None if body is None else content_of(fields, body, KeyPolicy())
    assert side_effects(target, NAMES, content) == found


def test_an_ignored_body_field_still_has_its_side_effect():
    policy = KeyPolicy(ignore_body_fields=("trip",))
    fields = fields_of([("Content-Type", JSON)])
    assert side_effects("/", NAMES, content_of(fields, b'{"trip":1}', policy)) == "trip"


texts = st.text(st.characters(codec="utf-8"), max_size=4)


@given(st.lists(st.tuples(texts, texts, texts), min_size=2, max_size=4, unique=True))
def test_no_text_can_be_taken_for_another_part(parts):
    keys = {
        primary_key(
            json.dumps(a),
            RequestHead("GET", "/" + json.dumps(b), fields_of([("h", json.dumps(c))])),
            KeyPolicy(headers=("h",)),
        )
        for a, b, c in parts
    }
    assert len(keys) == len(parts)


@given(st.permutations(list(itertools.product("abc", "12"))))
def test_any_order_of_names_is_one_key(pairs):
    by_value = sorted(pairs, key=lambda pair: pair[1])  # per name the order of values stays
    assert key("/x?" + "&".join("=".join(pair) for pair in by_value)) == key("/x?a=1&a=2&b=1&b=2&c=1&c=2")
