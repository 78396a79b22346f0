"""What is asked for most: counted cheaply, in bounded memory, the old forgotten first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from passoproxy.proxy.popularity import LARGEST_BODY, LARGEST_HEAD, Usage
from tests.fakes import ChunkedBody, request


def asked(usage: Usage, *keys: str) -> None:
    for key in keys:
        if key in usage.counts:
            usage.counts[key] += 1
        else:
            usage.begin(key, request(target=f"/{key}"))


def targets(usage: Usage, number: int = 100) -> list[str]:
    return [each.head.target for each in usage.most_used(number)]


def test_the_most_used_first() -> None:
    usage = Usage()
    asked(usage, "a", "b", "b", "c", "c", "c")
    assert targets(usage) == ["/c", "/b", "/a"]
    assert targets(usage, 2) == ["/c", "/b"]


def test_they_are_background_requests_of_nobody() -> None:
    usage = Usage()
    usage.begin("k", request("POST", "/p", [("Accept", "x")], b'{"a": 1}'))
    (wish,) = usage.most_used(1)
    assert wish.background
    assert (wish.client.address, wish.client.name, wish.policy) == ("", "", None)
    assert wish.body.data == b'{"a": 1}'  # type: ignore[attr-defined]
    assert wish.head.fields["Accept"] == "x"
    (again,) = usage.most_used(1)
    assert again.trail is not wish.trail
    assert again.body is not wish.body


def test_a_large_body_is_not_remembered_and_a_stream_counts_without_one() -> None:
    usage = Usage()
    usage.begin("large", request("POST", body=b"x" * (LARGEST_BODY + 1)))
    usage.begin("head", request(body=ChunkedBody(b"x")))
    assert len(usage.counts) == 1


def test_a_long_head_is_not_remembered() -> None:
    usage = Usage()
    usage.begin("target", request(target="/" + "x" * LARGEST_HEAD))
    usage.begin("value", request(fields=[("A", "x" * LARGEST_HEAD)]))
    usage.begin("fields", request(fields=[(f"a{number}", "") for number in range(128)]))
    usage.begin("usual", request(target="/a", fields=[("User-Agent", "x" * 200), ("Accept", "*/*")]))
    assert list(usage.counts) == ["usual"]
    assert len(usage.most_used(9)) == 1


def test_what_was_asked_for_long_ago_gives_way() -> None:
    usage = Usage(most=4)
    asked(usage, "a", "a", "a", "a", "b", "c", "d")
    asked(usage, "e")
    assert targets(usage)[0] == "/a"
    assert set(targets(usage)) == {"/a", "/e"}


@given(st.lists(st.sampled_from("abcdefghij"), max_size=200))
def test_it_is_bounded_and_keeps_what_is_asked_for_most(keys: list[str]) -> None:
    usage = Usage(most=4)
    for key in keys:
        asked(usage, key)
        assert 1 <= len(usage.counts) <= 4
    if keys and keys.count(keys[0]) > 2 * (len(keys) - keys.count(keys[0])) + 2:
        assert targets(usage)[0] == f"/{keys[0]}"
