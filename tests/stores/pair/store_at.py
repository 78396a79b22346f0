"""A store that dies: run as a program with a folder and `hold`, or `refresh` and on standard input the number of the call at which it is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import begun
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair.directory import DirectoryPairStore

CALLS = ("open", "write", "ftruncate", "fsync", "rename", "close", "unlink", "fchmod")


def die_at(last: int) -> None:
    """kill -9 before the `last`-th call that changes what is durable."""
    count = 0
    for name in CALLS:
        real = getattr(os, name)

        def counted(*args: object, _real=real, **named: object) -> object:
            nonlocal count
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return _real(*args, **named)

        setattr(os, name, counted)


def refresh(store: DirectoryPairStore) -> None:
    """All that a refresh writes, in its order."""
    store.reserve()
    store.save_record(ChainRecord("healthy", intent=begun(None, "def-1", 1, 5.0)))
    print("sent", flush=True)
    store.keep_answer(RawAnswer(b'{"access_token": "a2"}', "application/json", 5.0, previous_generation=1))
    print("kept", flush=True)
    store.commit(Pair("a2", "def-2", 5.0, 3605.0, 3605.0, 3600.0, generation=2))
    store.save_record(ChainRecord("healthy", spent=("x",)))
    print("done", flush=True)


def refresh_and_die_at(last: int, folder: Path) -> int:
    """The exit status of a process of its own that does so; forked, because this one has no threads and its imports are done."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    held = DirectoryPairStore(folder)
    held.acquire()
    die_at(last)
    refresh(held)
    os._exit(0)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    os.umask(0)
    if sys.argv[2] == "hold":
        held = DirectoryPairStore(folder)
        held.acquire()
        print("held", flush=True)
        sys.stdin.read()
    else:
        for line in sys.stdin:
            print("exit", refresh_and_die_at(int(line), folder), flush=True)
