"""What the settings say about the pair's custody: the cover of its files, the seed, and when to leave with a full tank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from passoproxy.config.reading import Loaded
from passoproxy.config.secrets import Secret, read_secret
from passoproxy.errors import ConfigurationError, Fault
from passoproxy.host.volatile import volatile
from passoproxy.stores.pair.cipher import Key, key_of
from passoproxy.stores.pair.sealed import Cover, Plain, Sealed

LEAST_GRACE = 15.0
"""Seconds that must be left for `oauth.refresh_on_exit: auto` to begin a refresh (contract §3)."""


def cover_of(loaded: Loaded) -> Cover:
    """The seal by `state.key_file`, none without. Raises ConfigurationError where a key cannot be read or is none."""
    key, before = keys_of(loaded)
    return Plain() if key is None else Sealed(key, before)


def keys_of(loaded: Loaded) -> tuple[Key | None, Key | None]:
    """The key that seals and the one before it, for what lies elsewhere. Raises ConfigurationError likewise."""
    given = loaded.secrets
    key = None if given.state_key is None else _key(given.state_key, "state.key_file")
    before = None if given.previous_state_key is None else _key(given.previous_state_key, "state.previous_key_file")
    return key, before


def _key(given: Secret, name: str) -> Key:
    try:
        return key_of(given())
    except ValueError as fault:
        raise ConfigurationError(Fault("", name, str(fault), "make one with: openssl rand -base64 32")) from None


def seed_of(loaded: Loaded) -> Callable[[], bytes] | None:
    """Reads `oauth.seed_file` anew; None without one."""
    path = loaded.settings.oauth.seed_file
    return None if path is None else lambda: read_secret(path, "oauth.seed_file").encode()


def leaves_full(loaded: Loaded, folder: Path, grace: float, is_followed: bool) -> bool:
    """Whether the pair is renewed before a stop, where it is worth it, with `grace` seconds left (`oauth.refresh_on_exit`).

    By `auto` it is not where the new pair would be gone with the machine, nor where somebody else goes on with it.
    """
    match loaded.settings.oauth.refresh_on_exit:
        case "never":
            return False
        case "always":
            return True
        case _:
            return grace >= LEAST_GRACE and not is_followed and not volatile(folder)


def rests_full(loaded: Loaded) -> bool:
    """Whether the pair is renewed before the machine sleeps: the process sleeps with it, so there is nothing to weigh."""
    return loaded.settings.oauth.grant == "authorization_code" and loaded.settings.oauth.refresh_on_exit != "never"
