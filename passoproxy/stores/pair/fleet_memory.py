"""What an instance remembers of its fleet in its own folder: how far the pair had come, so that an older one is never taken for the newest."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from passoproxy.errors import PairStoreFailure
from passoproxy.stores.pair.files import read_secret, write_secret

NAME = "fleet.json"


@dataclass(frozen=True, slots=True)
class Memory:
    """`shared`: this folder's pair is the fleet's, and not one from before. `seen` is the highest generation ever heard of, `fence` the highest
    that this instance had, `sealed` that the store's content was sealed (then nothing plain is taken from it any more), `client` whose fleet it
    is, as `Pair.client`."""

    shared: bool = False
    seen: int = 0
    fence: int = 0
    sealed: bool = False
    client: str = ""


def remembered(path: Path) -> Memory:
    """What was remembered in a file; of one that cannot be read, that there was one."""
    try:
        data = read_secret(path)
        if data is None:
            return Memory()
        found = json.loads(data)
        client = str(found.get("client", ""))
        return Memory(found["shared"] is True, int(found["seen"]), int(found["fence"]), found["sealed"] is True, client)
    except (PairStoreFailure, ValueError, TypeError, KeyError):
        return Memory(shared=True)


def remember(path: Path, memory: Memory) -> None:
    """Makes it durable; a disk that is full must not keep the fleet from going on."""
    with contextlib.suppress(PairStoreFailure):
        write_secret(path, json.dumps(asdict(memory)).encode())
