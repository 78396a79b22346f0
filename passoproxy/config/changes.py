"""What a reload changed: which keys take effect at once, and which only at the next start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from passoproxy.config.settings import Settings

LIVE = ("routes", "server.limits", "alerts", "log")
"""Keys, and sections with all that is in them, that change without a restart (contract §7)."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Dotted keys whose values differ; the routes count as one."""

    live: tuple[str, ...] = ()
    at_restart: tuple[str, ...] = ()


def changes(old: Settings, new: Settings) -> Changes:
    """Every key that differs. Secrets are compared and never shown; what is in a file is not a change of the configuration."""
    keys = tuple(_differing(old.model_dump(), new.model_dump(), ""))
    live = tuple(key for key in keys if any(key == each or key.startswith(f"{each}.") for each in LIVE))
    return Changes(live, tuple(key for key in keys if key not in live))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> list[str]:
    found = []
    for name, value in old.items():
        if isinstance(value, dict):
            found += _differing(value, new[name], f"{prefix}{name}.")
        elif value != new[name]:
            found.append(f"{prefix}{name}")
    return found
