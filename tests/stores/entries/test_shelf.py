"""Memory within its bound, with whole keys or none."""

from __future__ import annotations

import gc
import tracemalloc

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.memory import Shelf
from tests.stores.entries.making import entry, whole


def test_the_least_recently_used_key_goes_first() -> None:
    gone: list[str] = []
    shelf = Shelf(120_000, on_drop=gone.append)
    made = [whole(entry(n), b"x" * 10_000) for n in range(12)]
    for each in made[:6]:
        assert shelf.add(each, b"x" * 10_000)
    assert shelf.variants(made[0].key) == (made[0],)
    for each in made[6:]:
        assert shelf.add(each, b"x" * 10_000)
    assert gone[0] == made[1].key
    assert shelf.variants(made[0].key) is not None
    assert shelf.variants(made[1].key) is None
    assert shelf.bytes_used <= 120_000
    assert shelf.evictions == len(gone)
    assert len(shelf) == 12 - len(gone)


def test_one_key_takes_an_eighth_at_most() -> None:
    shelf = Shelf(100_000)
    big = whole(entry(), b"x" * 20_000)
    assert not shelf.add(big, b"x" * 20_000)
    assert shelf.variants(big.key) == (big,)
    assert shelf.body(big) is None
    assert not shelf.put(big.key, [entry(0, identifier=str(n)) for n in range(20)])
    assert shelf.variants(big.key) is None
    assert shelf.bytes_used == 0


def test_a_body_stays_with_exactly_its_entry() -> None:
    shelf = Shelf(1 << 20)
    old, other = whole(entry(), b"old"), whole(entry(0, identifier="other", varies=(("x", "1"),)), b"other")
    shelf.put(old.key, [old, other])
    assert shelf.put_body(old, b"old")
    assert shelf.put_body(old, b"old")
    before = shelf.bytes_used
    assert not shelf.put_body(whole(entry(), b"new"), b"new")
    assert not shelf.put_body(whole(entry(7), b"new"), b"new")
    shelf.put(old.key, [old, other])
    assert shelf.body(old) == b"old"
    assert shelf.bytes_used == before
    shelf.put(old.key, [whole(entry(), b"new"), other])
    assert shelf.body(old) is None
    assert shelf.body(entry(9)) is None


def test_removing_and_replacing() -> None:
    shelf = Shelf(1 << 20)
    one, two = whole(entry(), b"1"), whole(entry(0, identifier="two", varies=(("x", "1"),), response_time=1.0), b"2")
    shelf.put(one.key, [one, two])
    assert not shelf.remove(entry(3))
    assert not shelf.replace(entry(3))
    assert shelf.find(Selector(), [one.key, "nowhere"]) == [one, two]
    assert shelf.remove(two)
    assert not shelf.remove(two)
    assert shelf.remove(one)
    assert shelf.bytes_used == 0
    assert list(shelf) == []
    assert not shelf.drop(one.key)
    shelf.put(one.key, [one])
    shelf.clear()
    assert len(shelf) == 0


def test_what_a_client_said_in_a_field_of_vary_counts() -> None:
    shelf = Shelf(1 << 20)
    shelf.put(entry().key, [whole(entry(varies=(("accept-language", "x" * 30_000), ("accept", None))), b"1")])
    assert shelf.bytes_used > 30_000


def test_the_bound_is_of_real_bytes() -> None:
    """What the shelf thinks it holds is what Python's allocator has given, within a third."""
    data = [serialization.encode(whole(entry(n), b"x" * 500)) for n in range(2000)]
    gc.collect()
    tracemalloc.start()
    shelf = Shelf(64 << 20)
    for n, each in enumerate(data):
        made = serialization.decode(each)
        assert isinstance(made, Entry)
        shelf.add(made, bytes([n % 256]) * 500)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{taken / 2000:.0f} bytes an entry with a body of 500, counted as {shelf.bytes_used / 2000:.0f}")
    assert 0.75 < shelf.bytes_used / taken < 1.33


def test_clearing_takes_no_longer_than_a_moment_and_the_bytes_count_until_they_are_freed() -> None:
    gone: list[str] = []
    shelf = Shelf(1 << 20, on_drop=gone.append)
    for n in range(200):
        made = whole(entry(n), b"x" * 1000)
        assert shelf.add(made, b"x" * 1000)
    used = shelf.bytes_used
    shelf.clear()
    assert (len(shelf), gone, shelf.bytes_used) == (0, [], used)
    assert shelf.variants(entry(1).key) is None
    assert 0 < shelf.bytes_used < used
    shelf.put(entry(1).key, [whole(entry(1), b"")])
    shelf.variants("else")
    shelf.variants("else")
    assert shelf.bytes_used < 10_000
    assert shelf.held(entry(1)) == whole(entry(1), b"")
    assert shelf.held(entry(1, identifier="else")) is None


def test_what_was_cleared_makes_room_before_anything_else_has_to_go() -> None:
    shelf = Shelf(300_000)
    for n in range(50):
        shelf.add(whole(entry(n), b"x" * 500), b"x" * 500)
    shelf.clear()
    assert shelf.evictions == 0
    for n in range(50, 100):
        assert shelf.add(whole(entry(n), b"x" * 500), b"x" * 500)
    assert shelf.evictions == 0
    assert len(shelf) == 50
