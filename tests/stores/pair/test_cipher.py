"""One sealed file: every byte of it counts, and what it says of itself is part of the seal."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.stores.pair.encryption import KeyUnknown, Label, SealBroken, is_sealed, key_of, label_of

TEXT = base64.b64encode(bytes(range(32))).decode()
KEY = key_of(TEXT)
LABEL = Label("a" * 32, "pair", 7, 3)
CONTENT = b'{"access_token": "planted-secret"}'


def read(data: bytes) -> bytes:
    """A file as the store reads it: is it sealed, by which key, and does it open."""
    if not is_sealed(data):
        raise SealBroken("no seal")
    assert label_of(data)[0] == KEY.name
    return KEY.open(data)


def test_what_is_closed_opens_again_and_says_what_it_is():
    sealed = KEY.close(LABEL, CONTENT)
    assert is_sealed(sealed)
    assert label_of(sealed) == (KEY.name, LABEL)
    assert KEY.open(sealed) == CONTENT


def test_nothing_of_content_or_key_is_seen():
    sealed = KEY.close(LABEL, CONTENT)
    assert b"planted" not in sealed
    assert TEXT not in repr(KEY)
    assert bytes(range(8)).hex() not in KEY.name
    assert KEY.name in repr(KEY)


def test_no_two_seals_are_alike():
    assert len({KEY.close(LABEL, CONTENT) for _ in range(50)}) == 50


@pytest.mark.parametrize("bits", [0x01, 0x20, 0x80, 0xFF])
def test_every_byte_flipped_is_noticed_and_never_taken_for_another_key(bits):
    sealed = KEY.close(LABEL, CONTENT)
    for at in range(len(sealed)):
        torn = sealed[:at] + bytes([sealed[at] ^ bits]) + sealed[at + 1 :]
        with pytest.raises(SealBroken) as told:
            read(torn)
        assert not isinstance(told.value, KeyUnknown)
        assert told.value.word == "damaged"


def test_every_length_but_the_whole_is_noticed():
    sealed = KEY.close(LABEL, CONTENT)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            read(sealed[:length])
    with pytest.raises(SealBroken):
        KEY.open(sealed + b"\n")


def test_a_label_cannot_be_exchanged():
    one, other = KEY.close(LABEL, CONTENT), KEY.close(Label("a" * 32, "pair", 8, 3), CONTENT)
    with pytest.raises(SealBroken):
        KEY.open(other.partition(b"\n")[0] + b"\n" + one.partition(b"\n")[2])


def test_another_key_has_another_name_and_does_not_open():
    other = key_of(base64.b64encode(bytes(32)).decode())
    assert other.name != KEY.name
    with pytest.raises(SealBroken):
        other.open(KEY.close(LABEL, CONTENT))


@given(st.binary(max_size=300), st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_any_content_and_number(content, number, mark):
    label = Label("0" * 32, "record", number, mark)
    sealed = KEY.close(label, content)
    assert (label_of(sealed)[1], KEY.open(sealed)) == (label, content)


@given(st.binary(max_size=400))
def test_no_garbage_is_read(garbage):
    for data in (garbage, b"passoproxy-sealed " + garbage):
        with pytest.raises(SealBroken):
            label_of(data)


def test_white_space_around_a_key_is_cut():
    assert key_of(f"\n {TEXT}\r\n").name == KEY.name


@pytest.mark.parametrize("text", ["", "planted", TEXT[:-4], TEXT + "AAAA", TEXT.replace("A", "!"), "ä" * 44])
def test_what_is_no_key_is_told_without_repeating_it(text):
    with pytest.raises(ValueError, match="does not hold 32 bytes in base64") as told:
        key_of(text)
    assert not text or text not in str(told.value)
