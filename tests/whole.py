"""A whole daemon in this process, for the tests of what puts it together: its configuration, and the sandbox that it asks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from passoproxy.compose import Wired
from passoproxy.config.load import Loaded, load
from passoproxy.daemon import Daemon
from passoproxy.demo import authorise
from passoproxy.sandbox.app import Sandbox
from passoproxy.sandbox.options import SandboxOptions
from tests.ports import free_port

CONTENT = "/api/v2/content/health/json?lang=en&countries=ZA"
"""A request that the preset's routes store."""

NOWHERE = "http://127.0.0.1:9"


def least(origin: str, folder: Path, admin_port: int, port: int = 0) -> dict[str, Any]:
    """The least that a daemon needs which asks a sandbox."""
    return {
        "provider": "passolution",
        "upstream": {"url": origin},
        "oauth": {
            "authorization_url": f"{origin}/oauth/authorize",
            "token_url": f"{origin}/oauth/token",
            "revocation_url": f"{origin}/oauth/revoke",
            "client_id": "demo",
            "client_secret": "demo",
            "redirect_url": f"http://127.0.0.1:{admin_port}/oauth/callback",
        },
        "server": {"listen": f"127.0.0.1:{port}"},
        "admin": {"listen": f"127.0.0.1:{admin_port}"},
        "state": {"directory": str(folder / "state")},
        "cache": {"directory": str(folder / "cache")},
    }


@dataclass
class Place:
    """Where one daemon has its files. `origin` is the sandbox's base, or an address where nobody is."""

    folder: Path
    origin: str = NOWHERE
    admin_port: int = field(default_factory=free_port)
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def write(self, **sections: Any) -> Path:
        """The least that a daemon needs, and `sections` over it; a section of None is left out."""
        settings = least(self.origin, self.folder, self.admin_port)
        settings["log"] = {"level": "error", "access": False}
        for name, section in sections.items():
            merged = {**settings.get(name, {}), **section} if isinstance(section, dict) else section
            settings[name] = (
                {key: value for key, value in merged.items() if value is not None}
                if isinstance(merged, dict)
                else merged
            )
        self.config.touch(mode=0o600)
        self.config.write_text(yaml.safe_dump({name: each for name, each in settings.items() if each is not None}))
        return self.config

    def load(self, **sections: Any) -> Loaded:
        return load(self.write(**sections), self.environ)

    def again(self) -> Loaded:
        """What stands in the file now."""
        return load(self.config, self.environ)


@contextlib.asynccontextmanager
async def sandboxed(folder: Path, **options: Any) -> AsyncIterator[Place]:
    """A place whose origin is a running sandbox."""
    sandbox = Sandbox(SandboxOptions(port=0, **options))
    origin = await sandbox.start()
    try:
        yield Place(folder, origin)
    finally:
        await sandbox.close()


@dataclass
class Running:
    """A daemon that runs."""

    daemon: Daemon
    wired: Wired
    place: Place

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.wired.control.facts.ports[0]}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.place.admin_port}"


@contextlib.asynccontextmanager
async def running(place: Place, *, authorised: bool = False, **sections: Any) -> AsyncIterator[Running]:
    """The daemon of a place; reloads read its file again."""
    daemon = Daemon(place.load(**sections), reading=place.again)
    async with daemon.running() as wired:
        if authorised:
            await authorise(wired)
        yield Running(daemon, wired, place)
