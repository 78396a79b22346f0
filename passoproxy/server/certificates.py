"""The certificate of a TLS listener, followed in its files: whoever renews it restarts nobody (contract §3: every `*_file`).

How one context is made is `listeners`' business.
"""

from __future__ import annotations

import os
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
    """`context` is for the next connection: what the files held at the last look. Raises CannotCreate.

    `check` looks at the private key's file each time before it is read; it raises CannotCreate where that may not be used. `on_new_authority` is
    called when another authority vouches for clients: those that the one before vouched for have to come again.
    """

    def __init__(
        self,
        files: TlsFiles,
        check: Callable[[Path], None] = lambda key_file: None,
        on_new_authority: Callable[[], None] = lambda: None,
    ) -> None:
        self._files, self._stamp, self._check, self._on_new_authority = files, _stamp(files), check, on_new_authority
        check(files.key_file)
        self.context = tls_context(files)
        self._authorities = self.context.get_ca_certs(binary_form=True)

    def look(self) -> bool:
        """Whether the files have changed, and are used from now on. Raises CannotCreate once where they cannot be; the last good ones hold."""
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._check(self._files.key_file)
        # A new one, and not the files loaded into the one in use: that would leave half a pair where they do not match, keep an authority
        # that was taken away, and resume sessions that it vouched for.
        self.context = tls_context(self._files)
        authorities = self.context.get_ca_certs(binary_form=True)
        if authorities != self._authorities:
            self._on_new_authority()
        self._authorities = authorities
        return True

    async def keep_following(self, clock: Clock, observer: Observer, every: float = FOLLOW_EVERY) -> None:
        """Looks again and again, for as long as it is let."""
        while True:
            await clock.sleep(every)
            try:
                self.look()
            except CannotCreate as error:
                observer(Warned("certificate_refused", f"{error}; the one that was read before holds"))


def _stamp(files: TlsFiles) -> _Stamp:
    return tuple(_of(path) for path in (files.cert_file, files.key_file, files.client_ca_file) if path is not None)


def _of(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
