"""The daemon that is rehearsed with, in a process of its own so that it can be killed: `python -m passoproxy.drill.process PART`.

PART is a file that holds everything as JSON: the pace of time, the configuration, and where a pair will be to be taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from passoproxy.config.load import load
from passoproxy.daemon import Daemon
from passoproxy.drill.time_compression import CompressedClock, CompressedLoop, Pace, SharedSeconds
from passoproxy.errors import PassoproxyError

WATCHED_EVERY = 0.5
"""Seconds of the rehearsal between two looks for the pair."""

TIMED_EVERY = 3.0
"""Seconds of the rehearsal between two looks at how late we are."""

DIRECTED_EVERY = 60.0
"""Seconds of the rehearsal between two looks whether the process that directs it lives."""


def main(part: Path) -> int:
    """Plays the part until SIGTERM; the exit code."""
    words = json.loads(part.read_text())
    pace = Pace(*words["pace"])
    clock = CompressedClock(pace, SharedSeconds(Path(words["steps"])))
    late = SharedSeconds(Path(words["late"]))
    try:
        with asyncio.Runner(loop_factory=lambda: CompressedLoop(pace.speed)) as runner:
            pair = Path(words["pair"]) if words["pair"] else None
            runner.run(_play(Path(words["config"]), clock, pair, late, pace))
    except PassoproxyError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 read by the process that started it
        return error.exit_code
    return 0


async def _play(config: Path, clock: CompressedClock, pair: Path | None, late: SharedSeconds, pace: Pace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Daemon(load(config), clock=clock).running() as wired:
        noting = asyncio.create_task(_note_lateness(late, pace))
        parent = os.getppid()
        # the director may be killed: then nothing else would end this process
        while not stop.is_set() and os.getppid() == parent:
            if pair is not None and (document := _brought(pair)) is not None:
                await wired.control.import_pair(document)
                pair = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), WATCHED_EVERY if pair is not None else DIRECTED_EVERY)
        noting.cancel()


async def _note_lateness(late: SharedSeconds, pace: Pace) -> None:
    """Notes by how many real seconds this process was late at most: a refresh that fails then says nothing of the daemon."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(TIMED_EVERY)
        late.raise_to(time.monotonic() - began - pace.real(TIMED_EVERY))


def _brought(pair: Path) -> bytes | None:
    """The pair once it is there; its file is gone then."""
    try:
        document = pair.read_bytes()
    except FileNotFoundError:
        return None
    pair.unlink()
    return document


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
