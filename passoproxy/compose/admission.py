"""Who may ask, by the configuration and the keys of the moment."""

from __future__ import annotations

import contextlib

from passoproxy.config.reading import Loaded
from passoproxy.core.admission import Admission, AdmissionPolicy, ClientKey, client_key
from passoproxy.errors import ConfigurationError, Fault


class LiveAdmission:
    """Who may ask, by the present configuration and the present client keys: a changed keys' file counts by itself."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded, self._text = loaded, ""
        self._admission = self._made()

    def __call__(self) -> Admission:
        keys = self._loaded.secrets.client_keys
        if keys is not None and keys() != self._text:
            with contextlib.suppress(ConfigurationError):  # the last good keys hold while the file is being written
                self._admission = self._made()
        return self._admission

    def follow(self, loaded: Loaded) -> None:
        """The configuration was read anew."""
        before, self._loaded = self._loaded, loaded
        try:
            self._admission = self._made()
        except ConfigurationError:
            self._loaded = before
            raise

    def _made(self) -> Admission:
        settings = self._loaded.settings
        keys = self._loaded.secrets.client_keys
        self._text = keys() if keys is not None else ""
        return Admission(
            AdmissionPolicy(
                allowed_hosts=settings.server.allowed_hosts,
                allowed_origins=settings.server.allowed_origins,
                deny_paths=settings.upstream.deny_paths,
                allow_paths=settings.upstream.allow_paths,
                allow_methods=settings.upstream.allow_methods,
                client_keys=None if keys is None else client_keys(self._text),
            )
        )


def client_keys(text: str) -> tuple[ClientKey, ...]:
    """The keys of `server.client_keys_file`: `name:key` a line, blank lines and `#` comments aside. Raises ConfigurationError."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, key = line.partition(":")
        if not colon or not name.strip() or not key.strip():
            raise ConfigurationError(
                Fault("", "server.client_keys_file", f"line {number} is not 'name:key'", "write one name:key a line")
            )
        found.append(client_key(name.strip(), key.strip()))
    return tuple(found)
