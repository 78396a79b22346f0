"""`passoproxy wait`: until the daemon can answer requests; for scripts and jobs."""

from __future__ import annotations

import time
from typing import Annotated

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, option, seconds_of
from passoproxy.cli.output import say, say_json
from passoproxy.errors import CommandFailure

LOOK_EVERY = 0.2
"""Seconds between two looks."""


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
    from passoproxy.cli.client import meant

    end, daemon = time.monotonic() + seconds_of("--timeout", timeout), None
    while True:
        try:
            remote = meant(config, state)
            is_ready, said = remote.ready()
            daemon = remote.daemon
        except CommandFailure as fault:
            if fault.exit_code not in (1, 3, 69):
                raise
            is_ready, said = False, str(fault)
        if is_ready or time.monotonic() + LOOK_EVERY > end:
            break
        time.sleep(LOOK_EVERY)
    if as_json:
        say_json({"ready": is_ready, "detail": said, "daemon": daemon})
    if not is_ready:
        raise CommandFailure(f"not ready within {timeout}: {said}")
    if not as_json:
        say(said)
