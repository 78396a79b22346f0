"""Content hashes without volatile members, and the tags made of them."""

import gzip

import pytest

from passoproxy.core.cache.content import content_digest, is_made, made_etag
from passoproxy.core.http.messages import fields_of

VOLATILE = ("requestid", "meta.took")
JSON = [("Content-Type", "application/json; charset=utf-8")]


def digest(body, fields=JSON, volatile=VOLATILE):
    return content_digest(body, fields_of(fields), volatile)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1,"requestid":"x"}', b'{"a":1,"requestid":"y"}', True),
        (b'{"a":1,"meta":{"took":1}}', b'{"a":1,"meta":{"took":2}}', True),
        (b'{"a":1,"requestid":"x"}', b'{"a":2,"requestid":"x"}', False),
        (b'{"a":1}', b'{"a":"1"}', False),
        (b'{"a":{"requestid":"x"}}', b'{"a":{"requestid":"y"}}', False),
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
