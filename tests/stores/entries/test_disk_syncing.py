"""Syncing what was stored: what lies where a body should holds it up as little as it does a reader."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from passoproxy.stores.entries.disk.bodies import BODIES, Syncing


def test_a_pipe_in_the_place_of_a_body_holds_nothing_up(tmp_path: Path) -> None:
    pipe = tmp_path / BODIES / "ab" / "pipe"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    syncing = Syncing(tmp_path)
    syncing.note(["ab/pipe"])
    stopping = threading.Thread(target=syncing.stop)
    stopping.start()
    stopping.join(10)
    held_up = stopping.is_alive()
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # lets go of whoever waits for its other end
    stopping.join(10)
    assert not held_up
