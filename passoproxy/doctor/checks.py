"""What a check is given and what it finds; and the checks in their order."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path

from passoproxy.config.load import Loaded
from passoproxy.errors import PassoproxyError
from passoproxy.folders import folder_in_use
from passoproxy.values import dataclass

Data = Mapping[str, object]


class Verdict(Enum):
    """The value is the word that people and scripts read."""

    GOOD = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `remedy` is what to do, '' for nothing."""

    check: str
    verdict: Verdict
    seen: str
    remedy: str = ""


@dataclass(slots=True)
class Visit:
    """What the checks look at. `status` is that of the daemon that runs on these folders (`/api/status`), None if none does; `path` is
    what the one request asks for.
    """

    loaded: Loaded
    status: Data | None
    path: str
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def recordings(self) -> Path | None:
        """The folder that the daemon answers from in the origin's place, or would; None if it asks the origin."""
        if self.status is None:
            return self.loaded.settings.gateway.replay
        match self.status.get("gateway"):
            case {"mode": "replay", "directory": str(folder)}:
                return Path(folder)
        return None

    @property
    def user(self) -> int:
        """The user id under which the daemon runs, or would run if it was started now."""
        folder = folder_in_use(self.loaded.settings.state.folder)
        return folder.stat().st_uid if self.status is not None and folder.exists() else os.geteuid()


def good(check: str, seen: str) -> Finding:
    """A finding that asks for nothing."""
    return Finding(check, Verdict.GOOD, seen)


def told(check: str, verdict: Verdict, text: str, remedy: str = "") -> Finding:
    """The finding for a text whose last part says what to do; `remedy` if it has one part alone."""
    seen, _, last = text.rpartition("; ")
    return Finding(check, verdict, seen or last, last if seen else remedy)


def failure(check: str, error: PassoproxyError) -> Finding:
    """The finding for an error."""
    return told(check, Verdict.FAILED, str(error))


async def examined(visit: Visit) -> AsyncIterator[Finding]:
    """The findings of all checks, as they come. A check that breaks is a finding as well."""
    from passoproxy.doctor import files, network, service

    table: tuple[Callable[[Visit], AsyncIterator[Finding]], ...] = (
        files.configuration,
        files.folders,
        files.disks,
        files.recordings,
        network.provider,
        network.origin,
        network.store,
        network.alerts,
        service.listeners,
        service.answers,
    )
    for check in table:
        try:
            async for finding in check(visit):
                yield finding
        except PassoproxyError as error:
            yield failure(check.__name__, error)
        except Exception as error:  # the steps after it are tried all the same
            seen = f"this step broke off ({error if isinstance(error, OSError) else type(error).__name__})"
            yield Finding(check.__name__, Verdict.FAILED, seen, "mend what it names; else it is a fault of passoproxy")
