"""The count of requests to the origin (`core.budget`) as a file of the state folder, so that it goes on over a restart. It is no secret.

Daemons that share the folder share the count: each adds what it sent. A file that cannot be understood is kept aside, and the count begins anew.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

from passoproxy.core.budget import FILE_WARNING, SLOT_SECONDS, SLOTS, Ages
from passoproxy.core.events import Warned
from passoproxy.ports import Observer
from passoproxy.stores.pair.files import read_secret, set_aside, write_secret

NAME = "origin_requests.json"


class FileLedger:
    """A Ledger in `folder`."""

    def __init__(self, folder: Path, observer: Observer) -> None:
        self._path, self._observer = folder / NAME, observer

    async def add(self, count: int, known: Mapping[int, int], now: float) -> Ages:
        """See Ledger. Raises PairStoreFailure."""
        # A thread ends what it has begun, also if its caller is cancelled.
        ages, damage = await asyncio.to_thread(self._added, count, known, now)
        if damage:
            self._observer(Warned(FILE_WARNING, damage))
        return ages

    def _added(self, count: int, known: Mapping[int, int], now: float) -> tuple[Ages, str]:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            at = int(now // SLOT_SECONDS)
            found, damage = self._read(at, now)
            ages = dict(found)
            if count:
                ages[0] = ages.get(0, 0) + count
            # A file that was removed, or put back to an earlier time, is brought up to date.
            ages = {age: max(ages.get(age, 0), known.get(age, 0)) for age in ages.keys() | known.keys()}
            if ages != found:
                document = {
                    "step_seconds": SLOT_SECONDS,
                    "requests": {str(at - age): ages[age] for age in sorted(ages)},
                }
                write_secret(self._path, json.dumps(document).encode())
            return ages, damage
        finally:
            os.close(folder)

    def _read(self, at: int, now: float) -> tuple[Ages, str]:
        """What the file has, and what is wrong with it."""
        data, ages = read_secret(self._path), Ages()
        try:
            requests = {} if data is None else json.loads(data)["requests"]
            for slot, count in requests.items():
                # A clock that was set back leaves counts in the future: they count as of now.
                if type(count) is not int or not 0 <= count < 2**53:  # metrics are floats
                    raise ValueError(count)
                if (age := max(0, at - int(slot))) < SLOTS:
                    ages[age] = ages.get(age, 0) + count
        except (ValueError, TypeError, KeyError, AttributeError):
            aside = set_aside(self._path, int(now))
            return (
                Ages(),
                f"{self._path}: cannot be understood and is kept as {aside.name}; origin requests are counted anew",
            )
        return ages, ""
