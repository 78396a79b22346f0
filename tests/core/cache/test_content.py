"""Content hashes without volatile members, and the tags made of them."""

import gzip
import json
import zlib
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from passoproxy.core.cache.etag import LARGEST_READ, content_digest, is_made, made_etag
from passoproxy.core.http.messages import fields_of

VOLATILE = ("requestid", "meta.took")
JSON = [("Content-Type", "application/json; charset=utf-8")]


def steps(body, fields=JSON, volatile=VOLATILE):
    """The digest, and in how many steps it was made."""
    work, count = content_digest(body, fields_of(fields), volatile), 0
    while True:
        try:
            next(work)
            count += 1
        except StopIteration as done:
            return done.value, count


def digest(body, fields=JSON, volatile=VOLATILE):
    return steps(body, fields, volatile)[0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1,"requestid":"x"}', b'{"a":1,"requestid":"y"}', True),
        (b'{"a":1,"meta":{"took":1}}', b'{"a":1,"meta":{"took":2}}', True),
        (b'{"a":1,"requestid":"x"}', b'{"a":2,"requestid":"x"}', False),
        (b'{"a":1}', b'{"a":"1"}', False),
        (b'{"\xff":1,"requestid":"x"}', b'{"\xff":1,"requestid":"y"}', True),  # a name that is no text is no name
        (b'{"a":{"requestid":"x"}}', b'{"a":{"requestid":"y"}}', False),
        (b'{"requestid":[{"a":[1,"]"]}],"a":1}', b'{"requestid" : null,"a":1}', True),
        (b'{"a":1,"requestid":"}\\"]"}', b'{"a":1,"requestid":{"meta":{}}}', True),
        (b'{"request\\u0069d":1}', b'{"requestid":2}', True),
        (
            b'{"request\\xd":1,"requestid":"x"}',
            b'{"request\\xd":1,"requestid":"y"}',
            True,
        ),  # nor one with a broken escape
        (b'{"requestid":1,"requestid":2}', b'{"requestid":3,"requestid":4}', True),
        (b'[{"requestid":1},[{"requestid":2}]]', b'[{"requestid":3},[{"requestid":4}]]', True),
        (b'{"meta":[{"took":1,"n":1},{"took":2}]}', b'{"meta":[{"took":3,"n":1},{"took":4}]}', True),
        (b'{"meta":{"took":1},"took":1}', b'{"meta":{"took":1},"took":2}', False),
        (b'{"a":"requestid","b":1}', b'{"a":"requestid","b":2}', False),
        (b'{"meta":1,"a":{"took":1}}', b'{"meta":1,"a":{"took":2}}', False),
        (b'"requestid"', b'"requestie"', False),
        (b'{"requestid":1}}', b'{"requestid":2}}', False),
        (b'{"requestid":1', b'{"requestid":2', False),
        (b'}"requestid":1{', b'}"requestid":2{', False),
        (b"{", b"{ ", False),
        (b"[" * 5000 + b"]" * 5000, b"[" * 5000 + b" " + b"]" * 5000, False),
    ],
)
def test_volatile_members_are_left_out(one, other, same):
    assert (digest(one) == digest(other)) is same


def test_gzip_is_read_and_other_codings_are_hashed_as_they_are():
    plain, other = b'{"a":1,"requestid":"x"}', b'{"a":1,"requestid":"y"}'
    coded = [*JSON, ("Content-Encoding", "gzip")]
    assert digest(gzip.compress(plain), coded) == digest(gzip.compress(other), coded) == digest(plain)
    assert digest(plain, [*JSON, ("Content-Encoding", "br")]) != digest(other, [*JSON, ("Content-Encoding", "br")])
    assert digest(plain, coded) != digest(other, coded)  # not gzip at all
    cut = gzip.compress(plain)[:-4]
    assert digest(cut, coded) != digest(plain)


def test_what_is_no_json_or_has_no_volatile_members_is_hashed_whole():
    one, other = b'{"requestid":"x"}', b'{"requestid":"y"}'
    assert digest(one, [("Content-Type", "text/html")]) != digest(other, [("Content-Type", "text/html")])
    assert digest(one, [("Content-Type", "application/problem+json")]) == digest(
        other, [("Content-Type", "application/problem+json")]
    )
    assert digest(one, volatile=()) != digest(other, volatile=())


def test_made_tags_are_weak_and_known():
    assert is_made(made_etag("a" * 64))
    assert made_etag("a" * 64).startswith('W/"')
    assert not is_made('W/"abc"')
    assert not is_made('"pp-abc"')


DROPPED = object()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["requestid", "meta", "took", "a", 'b"]', "é"]), inner, max_size=4)
    ),
    max_leaves=20,
)


def with_volatile(value, new, path=()):
    """With `new` in the place of each volatile member; without them if it is DROPPED."""
    if isinstance(value, list):
        return [with_volatile(item, new, path) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {
        name: new if ".".join((*path, name)) in VOLATILE else with_volatile(member, new, (*path, name))
        for name, member in value.items()
    }
    return {name: member for name, member in changed.items() if member is not DROPPED}


@given(VALUES, VALUES, st.booleans(), st.sampled_from([None, 2]))
@example({}, {"requestid": None}, False, None)
def test_two_texts_are_equal_just_where_they_differ_in_volatile_members_alone(one, other, ascii_only, indent):
    def written(value):
        return json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()

    assert digest(written(with_volatile(one, 1))) == digest(written(with_volatile(one, other)))
    if written(with_volatile(one, 0)) == written(with_volatile(other, 0)):
        assert digest(written(one)) == digest(written(other))
    elif with_volatile(one, DROPPED) != with_volatile(other, DROPPED):
        assert digest(written(one)) != digest(written(other))


def test_what_is_long_or_all_brackets_is_hashed_as_it_is_and_nothing_is_done_in_one_go():
    coded = [*JSON, ("Content-Encoding", "gzip")]
    for plain, is_read in (
        (b'{"requestid": 1, "a": [' + b'"some words", ' * (LARGEST_READ // 14 - 10) + b"1]}", True),
        (b'{"requestid": 1, "a": [' + b'"some words", ' * (LARGEST_READ // 14 + 10) + b"1]}", False),
        (b'{"requestid": 1, "a": [' + b"[]," * 300_000 + b"1]}", False),
        (b'{"requestid": 1, "a": ' + b"[" * 8_000_000 + b"]" * 8_000_000 + b"}", False),
    ):
        for body, fields in ((plain, JSON), (zlib.compress(plain, 9, 31), coded)):
            found, count = steps(body, fields)
            assert (found == sha256(body).hexdigest()) is not is_read
            assert count >= 16 or (not is_read and len(body) > LARGEST_READ)
