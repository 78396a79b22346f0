"""How long the loop was kept from its next turn, however busy the machine is with other things."""

from __future__ import annotations

import asyncio
import time


class Turns:
    """Watches the turns of one task, as long as the context lasts; all in seconds.

    `computed` is what the loop's own thread computed between two turns, `held` how long the whole process kept the next turn waiting
    while it computed: a thread that does not let go of the interpreter counts, another process that has the core does not. `waits` is by
    the clock on the wall, for people to read.
    """

    def __init__(self) -> None:
        self.computed: list[float] = []
        self.held: list[float] = []
        self.waits: list[float] = []

    async def __aenter__(self) -> Turns:
        self._task = asyncio.ensure_future(self._take())
        await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.02)
        self._task.cancel()

    async def _take(self) -> None:
        while True:
            own, whole, wall = time.thread_time(), time.process_time(), time.perf_counter()
            await asyncio.sleep(0.001)
            waited = time.perf_counter() - wall - 0.001
            self.computed.append(time.thread_time() - own)
            self.held.append(min(waited, time.process_time() - whole))
            self.waits.append(waited)

    def __str__(self) -> str:
        late = sum(wait > 0.01 for wait in self.waits) / len(self.waits)
        return (
            f"between two turns the loop computed {max(self.computed) * 1000:.1f} ms at most and was held {max(self.held) * 1000:.1f} ms;"
            f" on the wall {max(self.waits) * 1000:.1f} ms, over 10 ms in {late:.2%} of {len(self.waits)}"
        )
