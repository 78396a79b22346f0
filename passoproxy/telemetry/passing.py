"""Events as plain data and back, for what goes from one process to another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from passoproxy.core.events import Event

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def plain(event: Event) -> tuple[str, dict[str, Any]]:
    """The event's name and its members."""
    return type(event).__name__, asdict(event)


def event_of(name: str, members: dict[str, Any]) -> Event:
    """The reverse. Raises KeyError or TypeError for what is none."""
    return _KINDS[name](**members)
