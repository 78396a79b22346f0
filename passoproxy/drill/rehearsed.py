"""The user's own configuration, pointed at a sandbox: margins stay, everything that could reach the real pair, state, origin or people goes."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import yaml

from passoproxy.config.settings import Settings
from passoproxy.core.routes import RouteTable
from passoproxy.errors import CannotCreate

_KEPT = {
    "upstream": (
        "connect_timeout",
        "read_timeout",
        "max_connections",
        "max_concurrency",
        "queue_timeout",
        "user_agent",
    ),
    "oauth": ("client_auth", "scope", "pkce", "refresh_at", "lost_answer_replay", "refresh_on_exit"),
    "server": ("limits", "shutdown_grace"),
    "cache": ("max_size", "memory_size", "max_entry_size", "mode", "shared", "on_revoked"),
}
"""What a rehearsal takes over. All else is the default, so that a key of a later version reaches nobody by being forgotten here."""


def configuration(
    settings: Settings, folder: Path, *, origin: str, provider: str, proxy_port: int, admin_port: int
) -> dict[str, Any]:
    """The tree of the rehearsal's file. `origin` and `provider` are the sandbox's base URLs, `folder` that of the rehearsal."""
    own = settings.plain()
    told = settings.oauth.refresh_token_lifetime
    tree: dict[str, Any] = {section: {name: own[section][name] for name in names} for section, names in _KEPT.items()}
    tree["provider"] = own["provider"]
    tree["routes"] = own["routes"]
    tree["upstream"] |= {"url": origin, "proxy": "none"}
    tree["oauth"] |= {
        "authorization_url": f"{provider}/oauth/authorize",
        "token_url": f"{provider}/oauth/token",
        "client_id": "demo",
        "client_secret": "demo",
        "redirect_url": f"http://127.0.0.1:{admin_port}/oauth/callback",
        # the sandbox's refresh tokens live as long as its access tokens
        "refresh_token_lifetime": told if isinstance(told, str) else "same",
    }
    tree["server"] |= {"listen": f"127.0.0.1:{proxy_port}"}
    tree["admin"] = {"listen": f"127.0.0.1:{admin_port}"}
    tree["state"] = {"directory": str(folder / "state")}
    if settings.state.key is not None or settings.state.key_file is not None:
        tree["state"]["key"] = base64.b64encode(secrets.token_bytes(32)).decode()
    tree["cache"] |= {"directory": str(folder / "cache")}
    tree["log"] = {"level": "warning", "access": False}
    return tree


_SAMPLES = (
    "/api/v2/infosystem/general?lang=en",
    "/api/v2/content/entry/json?lang=en&countries=ZA&nat=DE",
    "/api/v2/content/health/json?lang=en&countries=KE",
    "/api/v2/countries?limit=10",
    "/api/v2/account/subscription",
)


def stored_target(settings: Settings) -> str | None:
    """What the sandbox answers and the user's routes store, of the shortest `ttl` so that its stale windows are rehearsed too; None where nothing is."""
    table = RouteTable(settings.policies(), settings.cache.as_mode())
    found = [(table.find(target.partition("?")[0]), target) for target in _SAMPLES]
    kept = [(route.ttl, target) for route, target in found if route.override and route.ttl and "GET" in route.methods]
    return min(kept)[1] if kept else None


def write(tree: dict[str, Any], path: Path) -> None:
    """`tree` as a file that only we can read."""
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


def stage_folder(state: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder on the disk where the real pair lives, so that the disk behaves as it would. Raises CannotCreate."""
    beside = next(each for each in (state, *state.parents) if each.is_dir())
    choices = [beside.parent, beside] if beside == state else [beside]
    device = beside.stat().st_dev
    for each in choices:
        if each.stat().st_dev == device:
            with contextlib.suppress(OSError):
                return tempfile.TemporaryDirectory(prefix=".passoproxy-drill-", dir=each, ignore_cleanup_errors=True)
    raise CannotCreate(
        f"{beside}: no folder can be made there or beside it for the rehearsal; run 'passoproxy drill' as the user of the daemon"
    )


def environment() -> dict[str, str]:
    """Ours, without what configures a daemon of the person's own or tells a service manager of it."""
    gone = ("PASSOPROXY_", "CREDENTIALS_", "NOTIFY_", "LISTEN_", "WATCHDOG_", "STATE_DIRECTORY", "CACHE_DIRECTORY")
    return {name: value for name, value in os.environ.items() if not name.startswith(gone)}
