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
    return _good(path) or _made(path)


def _good(path: Path) -> bytes | None:
    try:
        found = path.read_bytes()
    except OSError:
        return None  # not there, or not readable: the attempt to make one says what is wrong
    return found if len(found) == _BYTES else None


def _made(path: Path) -> bytes:
    made = secrets.token_bytes(_BYTES)
    temporary = path.with_name(f".{NAME}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(made)
        try:
            # A link and not a rename: of two that make one at the same time, both go on with the first one's.
            os.link(temporary, path)
        except FileExistsError:
            if (theirs := _good(path)) is not None:
                made = theirs
            else:
                os.replace(temporary, path)
    except OSError as error:
        raise CannotCreate(f"{path}: cannot be written ({error.strerror}); choose another state.directory") from error
    finally:
        temporary.unlink(missing_ok=True)
    return made
