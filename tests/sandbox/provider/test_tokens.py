"""The shelf of tokens is bounded."""

from passoproxy.sandbox.provider.grants import Chain, Token, TokenShelf


def test_the_oldest_are_forgotten() -> None:
    noted: list[Token] = []
    shelf, chain = TokenShelf(lambda: 0.0, noted.append, size=2), Chain("c", "s", "demo", "*")
    for name in ("a", "b", "c"):
        shelf.put(Token("access", name, chain, 0.0, 1.0))
    assert shelf.find("access", "a") is None
    assert shelf.find("refresh", "b") is None
    assert shelf.of_any_kind("c") is noted[2]
    assert len(noted) == 3
