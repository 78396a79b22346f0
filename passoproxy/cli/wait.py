"""`passoproxy wait`: until the daemon can answer requests; for scripts and jobs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, option, seconds_of
from passoproxy.cli.output import say, say_json
from passoproxy.errors import CommandFailure

LOOK_EVERY = 0.2
"""Seconds between two looks."""
ONE_LOOK = 10.0
"""Seconds for the one look of `--timeout 0s`."""


def wait(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    timeout: Annotated[str, option("--timeout", "DURATION", "How long to wait at most.")] = "60s",
) -> None:
    """Wait until the daemon is ready to answer requests.

    Ready means that /readyz is 200. Exit 1 if it is not within --timeout.

    \b
    Example:
      passoproxy wait --timeout 30s && ./import.sh
    """
    from passoproxy.cli import client  # noqa: F401 what it takes to import it is none of the time

    seconds = seconds_of("--timeout", timeout)
    end, said, daemon = time.monotonic() + seconds, "", None
    while True:
        is_ready = False
        try:
            if looked := _looked(config, state, end - time.monotonic() if seconds else ONE_LOOK):
                is_ready, said, daemon = looked
            else:
                said = said or "the daemon does not answer; it is stopped, or too busy: see its log"
        except CommandFailure as fault:
            if fault.exit_code not in (1, 3, 69):
                raise
            said = str(fault)
        if is_ready or time.monotonic() + LOOK_EVERY > end:
            break
        time.sleep(LOOK_EVERY)
    if as_json:
        say_json({"ready": is_ready, "detail": said, "daemon": daemon})
    if not is_ready:
        raise CommandFailure(f"not ready within {timeout}: {said}")
    if not as_json:
        say(said)


def _looked(config: Path | None, state: Path | None, within: float) -> tuple[bool, str, object] | None:
    """Whether the daemon is ready, what it says, and which one it is; None if that takes longer than `within` seconds. Raises CommandFailure."""
    from passoproxy.cli.client import meant

    found: SimpleQueue[tuple[bool, str, object] | Exception] = SimpleQueue()

    def look() -> None:
        try:
            remote = meant(config, state)
            found.put((*remote.ready(), remote.daemon))
        except Exception as fault:
            found.put(fault)

    # a thread that ends with the process: each step of a look has a time of its own, and all together may take longer
    threading.Thread(target=look, daemon=True).start()
    try:
        looked = found.get(timeout=max(0.0, within))
    except Empty:
        return None
    if isinstance(looked, Exception):
        raise looked
    return looked
