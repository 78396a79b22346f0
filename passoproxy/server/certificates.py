"""The certificate of a TLS listener, followed in its files: whoever renews it restarts nobody (contract §3: every `*_file`).

How one context is made is `listeners`' business.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from passoproxy.core.events import Warned
from passoproxy.errors import CannotCreate
from passoproxy.ports import Clock, Observer
from passoproxy.server.listeners import TlsFiles, tls_context

FOLLOW_EVERY = 10.0
"""Seconds between two looks at the files."""

_Stamp = tuple[tuple[int, ...], ...]


class Certificate:
    """`context` is for the listener, for good; each connection gets what the files held at the last look. Raises CannotCreate.

    `check` looks at the private key's file each time before it is read; it raises CannotCreate where that may not be used.
    """

    def __init__(self, files: TlsFiles, check: Callable[[Path], None] = lambda key_file: None) -> None:
        self._files, self._stamp, self._check = files, _stamp(files), check
        check(files.key_file)
        self._current = tls_context(files)
        self.context = tls_context(files)
        # Swapped for each connection at its ClientHello: loading into a context in use would leave half a pair where the
        # files do not match, and could add an authority but not take one away.
        self.context.sni_callback = self._swap

    def look(self) -> bool:
        """Whether the files have changed, and are used from now on. Raises CannotCreate once where they cannot be; the last good ones hold."""
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._check(self._files.key_file)
        self._current = tls_context(self._files)
        return True

    async def keep_following(self, clock: Clock, observer: Observer, every: float = FOLLOW_EVERY) -> None:
        """Looks again and again, for as long as it is let."""
        while True:
            await clock.sleep(every)
            try:
                self.look()
            except CannotCreate as error:
                observer(Warned("certificate_refused", f"{error}; the one that was read before holds"))

    def _swap(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def _stamp(files: TlsFiles) -> _Stamp:
    return tuple(_of(path) for path in (files.cert_file, files.key_file, files.client_ca_file) if path is not None)


def _of(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
