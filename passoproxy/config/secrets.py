"""Secrets: a value, or a file that is read again when it has changed. Neither shows what it holds.

Also whether other users can read such a file (contract §3: that is refused, with two exceptions that only warn).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import SecretStr

from passoproxy.errors import ConfigurationError, Fault
from passoproxy.folders import stamp_of
from passoproxy.values import dataclass

MAX_BYTES = 1024 * 1024
RECHECK_AFTER = 10.0
"""Seconds until a secret's file is looked at again; well below the contract's 30."""

Secret = Callable[[], str]
"""Gives the secret as it is now."""


class FileSecret:
    """A secret in a file, its surrounding white space cut; call it for the text.

    At most every `recheck_after` seconds the file is looked at, and read if it was changed or replaced. The first call raises
    ConfigurationError if the file cannot be read, or if other users can read it. Later calls keep the last good text (the file may be being
    written just now), and `fault` says what is wrong.
    """

    __slots__ = ("_checked", "_environ", "_monotonic", "_recheck_after", "_stamp", "_value", "fault", "key", "path")

    def __init__(
        self,
        path: Path,
        key: str = "",
        environ: Mapping[str, str] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        recheck_after: float = RECHECK_AFTER,
    ) -> None:
        self.path, self.key, self._environ = path, key, environ
        self.fault: Fault | None = None
        self._monotonic, self._recheck_after = monotonic, recheck_after
        self._value: str | None = None
        self._stamp: tuple[int, ...] = ()
        self._checked = 0.0

    def __call__(self) -> str:
        now = self._monotonic()
        if self._value is not None and now - self._checked < self._recheck_after:
            return self._value
        try:
            self._read()
            self.fault = None
        except ConfigurationError as error:
            self.fault = error.faults[0]
            if self._value is None:
                raise
        self._checked = now
        assert self._value is not None
        return self._value

    def __repr__(self) -> str:
        return f"FileSecret({str(self.path)!r})"

    def _read(self) -> None:
        stamp = stamp_of(self.path)
        if stamp and stamp == self._stamp:
            return
        self._value = read_secret(self.path, self.key, self._environ)
        self._stamp = stamp


def read_secret(path: Path, key: str = "", environ: Mapping[str, str] | None = None) -> str:
    """The text of a secret's file, surrounding white space cut.

    Raises ConfigurationError with one fault that names file and remedy, also where users other than owner and group can read or write it.
    """
    try:
        # a FIFO would make us wait for ever
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unusable(
                    path, key, "is not a regular file", "name a file that holds the secret and nothing else"
                )
            refuse_exposed(path, key, environ, file.fileno())
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unusable(
            path,
            key,
            "is not there",
            f"put the secret into that file (mode 0600), or name another in {key or 'the key'}",
        ) from None
    except PermissionError:
        raise _unusable(
            path,
            key,
            "cannot be read: permission denied",
            "make it readable for the user that runs passoproxy (owner, mode 0600), or hand it on with LoadCredential= in its unit",
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise _unusable(path, key, f"cannot be read: {reason}", "name a readable file") from None
    if len(raw) > MAX_BYTES:
        raise _unusable(path, key, "is larger than 1 MiB", "name a file that holds the secret and nothing else")
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise _unusable(path, key, "is not UTF-8 text", "write the secret as plain text") from None
    if not text:
        raise _unusable(path, key, "is empty", "put the secret into it")
    return text


def _unusable(path: Path, key: str, problem: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(Fault(str(path), key, problem, remedy))


@dataclass(frozen=True, slots=True)
class Exposure:
    """A secret's file that others can read. `excused` says why that is only a warning; empty if it is refused."""

    mode: int
    excused: str = ""


def on_read_only_mount(path: Path | int) -> bool:
    """Whether the file's mount is read-only."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def exposure(
    path: Path,
    environ: Mapping[str, str] | None = None,
    opened: int | None = None,
    *,
    read_only: Callable[[Path | int], bool] = on_read_only_mount,
) -> Exposure | None:
    """Whether users other than owner and group can read or write a file; None if they cannot, or if there is no file.

    `opened` is its descriptor, if it is open. A credential of the service manager has an access list that its mode does not show.
    """
    environ = os.environ if environ is None else environ
    given = environ.get("CREDENTIALS_DIRECTORY", "")
    if given and path.is_relative_to(given):
        return None
    try:
        found = os.stat(path if opened is None else opened)
        # the group is a way of giving a daemon without root its secret; writing by the group is not
        if not found.st_mode & 0o026 or not stat.S_ISREG(found.st_mode):
            return None
        excused = read_only(path if opened is None else opened)
    except OSError:
        return None
    if excused:
        return Exposure(stat.S_IMODE(found.st_mode), "its mount is read-only")
    if found.st_uid == 0 and inside_container(environ):
        return Exposure(stat.S_IMODE(found.st_mode), "it belongs to root in a container")
    return Exposure(stat.S_IMODE(found.st_mode))


def refuse_exposed(path: Path, key: str, environ: Mapping[str, str] | None = None, opened: int | None = None) -> None:
    """Raises ConfigurationError if others can read or write a secret's file, and nothing excuses that."""
    seen = exposure(path, environ, opened)
    if seen is not None and not seen.excused:
        raise _unusable(path, key, f"can be read by others (mode {seen.mode:04o})", f"run: chmod 600 {path}")


def inside_container(environ: Mapping[str, str]) -> bool:
    """Whether this process runs in a container, as engines and orchestrators tell."""
    told = environ.get("container") or environ.get("KUBERNETES_SERVICE_HOST")
    return bool(told) or Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def secret(
    value: SecretStr | None, file: Path | None, key: str, environ: Mapping[str, str] | None = None
) -> Secret | None:
    """The reader of a secret: of the value itself, else of its file; None if there is neither."""
    if value is not None:
        return value.get_secret_value
    return FileSecret(file, f"{key}_file", environ) if file is not None else None


def key_lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, name and key of each `name:key` line of `server.client_keys`, either '' if it is missing; comments are left out."""
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if line and not line.startswith("#"):
            name, _, key = (part.strip() for part in line.partition(":"))
            yield number, name, key
