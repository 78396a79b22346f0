"""What the settings say about the pair's custody."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from passoproxy.compose import stores
from passoproxy.compose.stores import cover_of, leaves_full, rests_full, seed_of
from passoproxy.errors import ConfigurationError
from tests.whole import Place

KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("setting", "grace", "is_followed", "why", "leaves"),
    [
        ("auto", 15.0, False, "", True),
        ("auto", 14.9, False, "", False),
        ("auto", 20.0, True, "", False),
        ("auto", 20.0, False, "is in memory (tmpfs)", False),
        ("always", 1.0, True, "is in memory (tmpfs)", True),
        ("never", 20.0, False, "", False),
    ],
)
def test_when_to_leave_with_a_full_tank(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    grace: float,
    is_followed: bool,
    why: str,
    leaves: bool,
) -> None:
    monkeypatch.setattr(stores, "volatile", lambda folder: why)  # what the tests' own folder lies on is not known
    loaded = Place(tmp_path).load(oauth={"refresh_on_exit": setting})
    assert leaves_full(loaded, tmp_path, grace, is_followed) is leaves
    assert rests_full(loaded) is (setting != "never")


def test_the_cover_follows_the_key(tmp_path: Path) -> None:
    assert not cover_of(Place(tmp_path).load()).seals
    file = tmp_path / "key"
    file.write_text(f"\n{KEY}\n")
    file.chmod(0o600)
    loaded = Place(tmp_path).load(
        state={"directory": str(tmp_path / "s"), "key_file": str(file), "previous_key_file": str(file)}
    )
    assert cover_of(loaded).seals
    with pytest.raises(
        ConfigurationError, match=r"state.key_file: does not hold 32 bytes in base64; make one with"
    ) as told:
        stores._key(lambda: "planted, and no key", "state.key_file")
    assert "planted" not in str(told.value)


def test_the_seed_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    assert seed_of(Place(tmp_path).load()) is None
    file = tmp_path / "seed"
    read = seed_of(Place(tmp_path).load(oauth={"seed_file": str(file)}))
    assert read is not None
    with pytest.raises(ConfigurationError, match=r"oauth.seed_file: is not there"):
        read()
    file.touch(mode=0o600)
    file.write_text('{"access_token": "x"}\n')
    assert read() == b'{"access_token": "x"}'
