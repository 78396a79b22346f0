"""The secret that proves cache rows to be ours: random, in the state folder, never in the cache's own."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from passoproxy.errors import CannotCreate

NAME = "cache.secret"
_BYTES = 32


def secret_in(folder: Path) -> bytes:
    """The secret of `folder`, made where there is none; a damaged one is made anew (stored answers are misses then). Raises CannotCreate."""
    path = folder / NAME
    try:
        found = path.read_bytes()
        if len(found) == _BYTES:
            return found
    except OSError:
        pass  # not there, or not readable: the attempt to make one says what is wrong
    made = secrets.token_bytes(_BYTES)
    temporary = folder / f".{NAME}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(made)
        os.replace(temporary, path)
    except OSError as error:
        raise CannotCreate(f"{path}: cannot be written ({error.strerror}); choose another state.directory") from error
    return made
