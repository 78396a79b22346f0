"""Who may ask, by the configuration and the keys of the moment."""

from __future__ import annotations

from passoproxy.config.reading import Loaded
from passoproxy.core.admission import Admission, AdmissionPolicy, ClientKey, client_key
from passoproxy.core.events import Warned
from passoproxy.errors import ConfigurationError, Fault
from passoproxy.ports import Observer, nobody


class LiveAdmission:
    """Who may ask, by the present configuration and the present client keys: a changed keys' file counts by itself.

    Raises ConfigurationError where there is no good one to begin with.
    """

    def __init__(self, loaded: Loaded, observer: Observer = nobody) -> None:
        self._loaded, self._observer, self._text = loaded, observer, ""
        self._admission = self._made()

    def __call__(self) -> Admission:
        keys = self._loaded.secrets.client_keys
        if keys is not None and keys() != self._text:
            try:
                self._admission = self._made()
            except ConfigurationError as error:
                # Someone may be writing the file just now; else whoever did has to know.
                self._observer(Warned("client_keys_refused", f"{error}; the keys that were read before hold"))
        return self._admission

    def follow(self, loaded: Loaded) -> None:
        """The configuration was read anew. Raises ConfigurationError where it does not do, and nothing has changed then."""
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
    """The keys of `server.client_keys_file`. Raises ConfigurationError."""
    return tuple(client_key(name, key) for name, key in named_keys(text))


def named_keys(text: str) -> list[tuple[str, str]]:
    """Names and keys of a text with one `name:key` a line, blank lines and `#` comments aside. Raises ConfigurationError."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        name, _, key = (part.strip() for part in line.partition(":"))
        if not line.strip() or line.strip().startswith("#"):
            continue
        if not name or not key:
            raise ConfigurationError(
                Fault("", "server.client_keys_file", f"line {number} is not 'name:key'", "write one name:key a line")
            )
        found.append((name, key))
    return found
