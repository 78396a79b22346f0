"""Which redirect addresses are allowed, and how parameters are added."""

import pytest

from passoproxy.sandbox.provider.authorize import allowed, extended, is_loopback


@pytest.mark.parametrize(
    ("address", "registered", "right"),
    [
        ("http://127.0.0.1:1/x", (), True),
        ("http://[::1]:1/x", (), True),
        ("http://localhost/", (), True),
        ("https://127.0.0.1/", (), False),
        ("http://10.0.0.1/", (), False),
        ("http://127.0.0.1.evil.example/", (), False),
        ("http:///x", (), False),
        ("ftp://127.0.0.1/", (), False),
        ("http://127.0.0.1:1/x", ("http://127.0.0.1:2/x",), True),
        ("http://127.0.0.1:1/y", ("http://127.0.0.1:2/x",), False),
        ("https://app.example/a", ("https://app.example/a",), True),
        ("https://app.example:444/a", ("https://app.example/a",), False),
    ],
)
def test_allowed(address: str, registered: tuple[str, ...], right: bool) -> None:
    assert allowed(address, registered) is right


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "example.org", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_parameters_are_added_to_what_is_there() -> None:
    assert extended("http://h/p", {"a": "1 &", "b": None}) == "http://h/p?a=1+%26"
    assert extended("http://h/p?x=1", {"a": "1"}) == "http://h/p?x=1&a=1"
