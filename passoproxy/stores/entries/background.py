"""A thread of a cache folder's own, which works behind everybody's back: it can be woken, and is stopped before the store is closed."""

from __future__ import annotations

import threading


class Background:
    """Runs `_run` from `start` on, which ends soon after `_stopping` is set and waits by `_wake`; both are set at the end."""

    def __init__(self, name: str) -> None:
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def ask(self) -> None:
        """There is something to do."""
        self._wake.set()

    def stop(self) -> None:
        """Ends, also in the midst of its work. Blocks."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        raise NotImplementedError
