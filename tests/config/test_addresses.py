"""Listen addresses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.config.types import Address, FdAddress, TcpAddress, UnixAddress, address, is_host
from passoproxy.core.access import is_loopback


@pytest.mark.parametrize(
    ("text", "found", "beyond"),
    [
        ("127.0.0.1:8610", TcpAddress("127.0.0.1", 8610), False),
        ("127.9.9.9:1", TcpAddress("127.9.9.9", 1), False),
        ("localhost:0", TcpAddress("localhost", 0), False),
        ("[::1]:8610", TcpAddress("::1", 8610), False),
        ("[::]:8610", TcpAddress("::", 8610), True),
        ("0.0.0.0:80", TcpAddress("0.0.0.0", 80), True),
        ("proxy.internal:80", TcpAddress("proxy.internal", 80), True),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock"), False),
        ("fd:proxy", FdAddress("proxy"), False),
    ],
)
def test_addresses_are_read_and_shown_again(text: str, found: Address, beyond: bool) -> None:
    assert address(text) == found
    assert str(found) == text
    assert found.beyond_loopback is beyond


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (8610, "8610 is not an address"),
        (":8610", "no valid host"),
        ("127.0.0.1", "no port"),
        ("[::1]", "no port"),
        ("::1:8610", "brackets"),
        ("[::1:8610", "no valid host"),
        ("[127.0.0.1]:1", "no valid host"),
        ("127.0.0.1:70000", "between 0 and 65535"),
        ("127.0.0.1:x", "between 0 and 65535"),
        ("127.0.1:80", "no valid host"),
        ("999.0.0.1:80", "no valid host"),
        ("a b:80", "no valid host"),
        ("unix:run.sock", "absolute path"),
        ("unix:/" + "x" * 110, "103 bytes"),
        ("fd:", "names no socket"),
        ("fd:a:b", "names no socket"),
    ],
)
def test_what_is_no_address_is_told_how(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        address(value)


@settings(max_examples=100)
@given(st.text(max_size=30))
def test_no_text_is_worse_than_refused(text: str) -> None:
    found, refusal = None, ""
    try:
        found = address(text)
    except ValueError as error:
        refusal = str(error)
    assert (found is not None and address(str(found)) == found) or ";" in refusal


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("LOCALHOST", True),
        ("app.localhost", True),
        ("localhost.", True),
        ("::1", True),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        ("a", True),
        ("a-b.c_d", True),
        ("-a", False),
        ("a-", False),
        ("", False),
        ("1.2.3", False),
        ("fe80::1", True),
        ("a" * 64, False),
        ("a..b", False),
    ],
)
def test_hosts(host: str, valid: bool) -> None:
    assert is_host(host) is valid
