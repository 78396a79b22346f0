"""A folder with a configuration in it, for the tests of this room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from passoproxy.config.load import Loaded, load
from passoproxy.config.secrets import Secret
from passoproxy.errors import ConfigurationError, Fault

LEAST = "oauth: {client_id: abc, client_secret_file: secret}\n"
"""The least that a passolution configuration needs; `Folder` has the secret beside it."""

SECRET = "s3cr3t-planted"


class Folder:
    """Files of mode 0600 in a folder, and `load` as the program calls it there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("secret", SECRET + "\n")

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        target = self.path / name
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        target.chmod(mode)
        return target

    def load(
        self,
        text: str | bytes | None = LEAST,
        environ: Mapping[str, str] | None = None,
        *,
        secrets: bool = True,
    ) -> Loaded:
        if text is not None:
            self.write("c.yaml", text)
        return load(Path("c.yaml"), {"HOME": str(self.path), **(environ or {})}, self.path, secrets=secrets)

    def faults(
        self,
        text: str | bytes | None,
        environ: Mapping[str, str] | None = None,
        *,
        secrets: bool = True,
    ) -> tuple[Fault, ...]:
        with pytest.raises(ConfigurationError) as raised:
            self.load(text, environ, secrets=secrets)
        assert raised.value.exit_code == 78
        assert "planted" not in str(raised.value)
        assert all(fault.where and fault.problem and "\n" not in str(fault) for fault in raised.value.faults)
        return raised.value.faults

    def fault(self, text: str | bytes | None, environ: Mapping[str, str] | None = None) -> str:
        (fault,) = self.faults(text, environ)
        return str(fault)


def text_of(secret: Secret | None) -> str:
    """The text of a secret that is configured."""
    assert secret is not None
    return secret()
