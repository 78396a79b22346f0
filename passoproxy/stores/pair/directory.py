"""The pair in a folder: generations, the chain's record, a raw answer under way, and the lock that tells who owns them.

    lock            held by the owner for life               answer.json    a raw answer, durable before it is interpreted
    pair.N.json     generation N; two are kept               reserve        room for the next answer, taken before a refresh is sent
    record.json     chain state, intent, spent tokens        *.damaged-T    what could not be understood, kept aside since T
    imports.json    pairs of imports that wait for their proof, in case the record is damaged
    seal            which folder this is, if it is sealed (and *.rolled-back-T, *.foreign-T, *.unsealed-T, *.other-key-T)
    *.kept-CLIENT   what belongs to another client or token endpoint than the configuration's, until that is configured again

All of them pass the store's cover (`encryption`) on their way to disk and back; only the lock and the empty reserve do not.
Nothing here decides anything: which generation counts is its number, what a left-over means is decided in `core/oauth/transaction`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from passoproxy.core.http.syntax import print_date
from passoproxy.core.oauth.pair import Pair
from passoproxy.errors import CannotCreate, PairDamaged, PairStoreFailure, PairStoreOwned
from passoproxy.folders import own_folder
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair import serialization
from passoproxy.stores.pair.encryption import FolderCover, SealBroken
from passoproxy.stores.pair.files import (
    TEMPORARY,
    created,
    is_refused,
    move,
    read_secret,
    remove,
    set_aside,
    sync_folder,
    take_room,
    write_secret,
)
from passoproxy.stores.pair.settlement import NAME as FLEET
from passoproxy.stores.pair.settlement import Memory, remembered


class Ownership:
    """A flock on one file: it ends with the process, however that ends, and a left-over file holds nothing. The name inside is for people."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> None:
        """Raises PairStoreOwned naming the owner, CannotCreate if the file cannot be made."""
        try:
            descriptor = created(self._path)
        except OSError as fault:
            raise CannotCreate(
                f"{self._path}: cannot be made ({fault.strerror}); set state.directory to a folder that can be written"
            ) from fault
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise PairStoreOwned(
                f"{self._path.parent}: already served by {owner}; stop it, or give this one another state.directory"
            ) from None
        except OSError as fault:
            os.close(descriptor)
            raise CannotCreate(
                f"{self._path}: cannot be locked ({fault.strerror}); set state.directory to a local file system"
            ) from fault
        self._descriptor = descriptor
        self._sign(descriptor)

    def prove(self) -> None:
        """Makes sure that the lock which is held is the one that others ask for: its file may have been removed, and made anew by another process.

        Raises PairStoreOwned if another process holds that one, CannotCreate if it cannot be made again.
        """
        held = os.fstat(self._descriptor)
        with contextlib.suppress(OSError):
            there = os.stat(self._path, follow_symlinks=False)
            if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                return
        before = self._descriptor
        self.take()
        os.close(before)

    def leave(self) -> None:
        """Gives the lock up; the file stays, because removing it would let two owners hold two files of one name."""
        os.close(self._descriptor)

    def _sign(self, descriptor: int) -> None:
        name = {"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())}
        # the name is for people only: a full disk must not keep the lock from being held
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(name).encode(), 0)


def _owner(descriptor: int) -> str:
    try:
        name = json.loads(os.pread(descriptor, 1024, 0))
        return f"process {int(name['pid'])} on {str(name['host'])[:100]} since {print_date(float(name['since']))}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


ROOM = 96 * 1024
"""Bytes of the reserve: an answer of 64 KiB in base64 with all that stands around it, the seal included."""

_IMPORTS = "imports.json"
_GENERATION = re.compile(r"pair\.([0-9]{1,18})\.json")

T = TypeVar("T", Pair, ChainRecord, RawAnswer)


class DirectoryPairStore:
    """A PairStore in `directory`; `folder` is where it really is once acquired. `wall` names damaged files by their time.

    `client` is whose pair it gives and takes, as `Pair.client`; '' for any.

    `acquire` also raises ConfigurationError, if `cover` has not the key of what is there.
    """

    def __init__(
        self, directory: Path, wall: Callable[[], float] = time.time, cover: FolderCover | None = None, client: str = ""
    ) -> None:
        self.folder = directory
        self.client = client
        self._wall = wall
        self._cover = cover or FolderCover()
        self._ownership: Ownership | None = None
        self._known: set[int] = set()
        """Generations that were read or written here since the folder is ours: no other one is written over."""
        self._knows_record = False
        """The same of the record."""
        self._imports: ChainRecord | None = None
        """What the spare of the imports has, if it was written here."""

    def acquire(self) -> None:
        if self._ownership is None:
            self.folder = own_folder(self.folder, "state.directory")
            ownership = Ownership(self.folder / "lock")
            ownership.take()
            try:
                self._cover.begin(self.folder, self._files(), int(self._wall()))
            except BaseException:
                ownership.leave()
                raise
            self._ownership = ownership
            with contextlib.suppress(PairStoreFailure):  # what cannot be moved now is found again at the next start
                self._sort()
            for left_over in self.folder.glob(f"*{TEMPORARY}"):
                with contextlib.suppress(OSError):
                    left_over.unlink()

    def release(self) -> None:
        if self._ownership is not None:
            self._ownership.leave()
            self._ownership = None
            self._known.clear()
            self._knows_record = False
            self._imports = None

    def may_present(self) -> bool:
        return True  # `reserve` has proved it, and the kernel keeps the lock

    def load(self) -> Pair | None:
        """A damaged newest generation is moved aside and named by PairDamaged; asked again, the one before it is given."""
        numbers = self._generations()
        if not numbers:
            return None
        path = self._generation(numbers[-1])
        pair = self._read(path, "pair", numbers[-1], Pair)
        if pair is not None and pair.generation != numbers[-1]:
            aside = set_aside(path, int(self._wall()))
            raise PairDamaged(f"{path}: holds another generation than its name says; kept as {aside.name}")
        if pair is not None and not self._is_ours(pair):
            self._sort()  # it could not be moved at the start
            return self.load()
        self._known.add(numbers[-1])
        return pair

    def load_record(self) -> ChainRecord:
        """A damaged record is moved aside and named by PairDamaged; from then on, until one is saved, it is missing, which is named too."""
        path = self.folder / "record.json"
        record = self._read(path, "record", None, ChainRecord)
        if record is None and self._had_record():
            raise PairDamaged(f"{path}: is missing, and it is not known which tokens were spent")
        self._knows_record = True
        if record is not None and not _waiting(record):
            with contextlib.suppress(
                PairStoreFailure
            ):  # of an import that is done with: a crash came between the two files
                remove(self.folder / _IMPORTS)
        return ChainRecord() if record is None else record.of(self.client) if self.client else record

    def imports(self) -> ChainRecord:
        """A damaged file is moved aside and named by PairDamaged; asked again, none waits."""
        path = self.folder / _IMPORTS
        with contextlib.suppress(PairStoreFailure):
            found = self._read(path, "imports", None, ChainRecord)
            if found is not None:
                return found.of(self.client) if self.client else found
        return ChainRecord()

    def _had_record(self) -> bool:
        """Whether there was a record before: it is written with the first pair, and at the latest before a token is presented."""
        return any(number > 1 for number in self._generations()) or any(self.folder.glob("record.json.*-*"))

    def kept(self) -> tuple[Pair, ...]:
        newest: dict[str, Pair] = {}
        for path in self._kept():
            pair = self._understood(path)
            if isinstance(pair, Pair) and pair.generation >= newest.get(pair.client, pair).generation:
                newest[pair.client] = pair
        return tuple(sorted(newest.values(), key=lambda pair: pair.obtained_at, reverse=True))

    def reserve(self) -> None:
        """PairStoreOwned if the lock's file was removed and another process has made it anew: a token is never presented by two."""
        self._prove()
        take_room(self.folder / "reserve", ROOM)

    def keep_answer(self, answer: RawAnswer) -> None:
        answer = replace(answer, client=self.client)
        data = self._cover.close("answer", answer.previous_generation, serialization.encode(answer))
        write_secret(self.folder / "answer.json", data, room=self.folder / "reserve")

    def pending_answer(self) -> RawAnswer | None:
        answer = self._read(self.folder / "answer.json", "answer", None, RawAnswer)
        if answer is not None and not self._is_ours(answer):
            self._sort()
            return self.pending_answer()
        return answer

    def commit(self, pair: Pair) -> None:
        """Generations that were not read here, and those with a higher number (from before a loss), are moved aside; older ones than the one before
        are removed. PairStoreOwned if one of them is another process's, as in `reserve`."""
        for number in self._generations():
            if number > pair.generation or (number == pair.generation and number not in self._known):
                self._prove()
                set_aside(self._generation(number), int(self._wall()))
        self._write_pair(pair)
        self._known.add(pair.generation)
        remove(self.folder / "answer.json")
        for number in self._generations()[:-2]:
            remove(self._generation(number))

    def save_record(self, record: ChainRecord) -> None:
        self._prove()  # else another process's spent tokens would be forgotten
        record = record if record.client else replace(record, client=self.client)
        if not self._knows_record:
            self._spare(self.folder / "record.json")
        waiting = _waiting(record)
        if waiting and waiting != self._imports:
            spare = self._cover.close("imports", 0, serialization.encode(waiting))
            write_secret(self.folder / _IMPORTS, spare)
        write_secret(self.folder / "record.json", self._cover.close("record", 0, serialization.encode(record)))
        self._cover.recorded()
        self._knows_record = True
        if waiting is None and (self.folder / _IMPORTS).exists():
            remove(self.folder / _IMPORTS)
        self._imports = waiting

    def erase(self) -> None:
        """What was not committed goes first: found without the generation that it follows, it would count for a pair."""
        for name in ("answer.json", "reserve"):
            remove(self.folder / name)
        with _told(self.folder):
            sync_folder(self.folder)
        for number in self._generations():
            remove(self._generation(number))
        with _told(self.folder):
            sync_folder(self.folder)

    # ---- whose files they are

    def _sort(self) -> None:
        """What is another client's is kept under another name, and what was kept of ours has its own again. A crash within is gone on with.

        A pair of which it is not known whose it is becomes ours, and that is written into it. Files that cannot be understood stay.
        """
        if not self.client:
            return
        for path in (*map(self._generation, self._generations()), self.folder / "answer.json", self.folder / FLEET):
            found = self._understood(path)
            if found is not None and not self._is_ours(found):
                self._name(path, path.name + _kept_as(found.client))
        for path in self.folder.glob(f"*{_kept_as(self.client)}"):
            self._name(path, path.name.removesuffix(_kept_as(self.client)))
        for number in self._generations():
            found = self._understood(self._generation(number))
            if isinstance(found, Pair) and not found.client:
                self._write_pair(found)

    def _name(self, path: Path, name: str) -> None:
        """Gives a file another name; a file that has it already, which is out of use or damaged, is moved aside."""
        target = path.with_name(name)
        if target.exists():
            set_aside(target, int(self._wall()), "superseded")
        move(path, target)

    def _understood(self, path: Path) -> Pair | RawAnswer | Memory | None:
        """What a file holds; None if there is none, or if it cannot be understood, which is left for the load to report."""
        kind, _, rest = path.name.partition(".")
        with contextlib.suppress(PairStoreFailure, ValueError):
            if kind == "fleet":
                return remembered(path)
            data = read_secret(path)
            if data is not None and kind == "pair":
                return serialization.decode(Pair, self._cover.open(kind, int(rest.partition(".")[0]), data))
            if data is not None:
                return serialization.decode(RawAnswer, self._cover.open(kind, None, data))
        return None

    def _kept(self) -> list[Path]:
        return sorted(self.folder.glob("*.kept-*"))

    def _is_ours(self, found: Pair | RawAnswer | Memory) -> bool:
        return not self.client or found.client in ("", self.client)

    # ---- files

    def _files(self) -> list[Path]:
        """Everything that passes the cover, the newest pair first."""
        pairs = [self._generation(number) for number in reversed(self._generations())]
        kept = [path for path in self._kept() if not path.name.startswith(FLEET)]
        return [
            *pairs[:1],
            *(self.folder / name for name in ("record.json", _IMPORTS, "answer.json")),
            *pairs[1:],
            *kept,
        ]

    def _write_pair(self, pair: Pair) -> None:
        """Whatever is written here is ours from then on."""
        content = serialization.encode(replace(pair, client=self.client or pair.client))
        write_secret(self._generation(pair.generation), self._cover.close("pair", pair.generation, content))

    def _prove(self) -> None:
        if self._ownership is not None:
            try:
                self._ownership.prove()
            except CannotCreate as fault:
                raise PairStoreFailure(str(fault)) from fault

    def _spare(self, path: Path) -> None:
        """What is not read for its mode, owner or kind is moved aside before another one is written in its place."""
        if is_refused(path):
            set_aside(path, int(self._wall()), "unread")

    def _generation(self, number: int) -> Path:
        return self.folder / f"pair.{number}.json"

    def _generations(self) -> list[int]:
        with _told(self.folder):
            found = (_GENERATION.fullmatch(path.name) for path in self.folder.iterdir())
            return sorted(int(match[1]) for match in found if match)

    def _read(self, path: Path, kind: str, number: int | None, what: type[T]) -> T | None:
        data = read_secret(path)
        if data is None:
            return None
        try:
            return serialization.decode(what, self._cover.open(kind, number, data))
        except ValueError as fault:
            word = fault.word if isinstance(fault, SealBroken) else "damaged"
            aside = set_aside(path, int(self._wall()), word)
            said = "cannot be understood" if word == "damaged" else "is not used"
            raise PairDamaged(
                f"{path}: {said} ({fault}); kept as {aside.name}, which nothing will overwrite"
            ) from fault


def _waiting(record: ChainRecord) -> ChainRecord | None:
    """The imports of `record` that wait for their proof, each as one whose answer was lost once; None if none waits."""
    found = record.candidate
    if found is not None:
        found = replace(found, intent=replace(found.intent, presented=1, lost=True))
    others = tuple(other for each in record.others if (other := _waiting(replace(each, others=()))) is not None)
    return ChainRecord(client=record.client, candidate=found, others=others) if found or others else None


def _kept_as(client: str) -> str:
    """What stands behind the names of another client's files."""
    return f".kept-{hashlib.sha256(client.encode()).hexdigest()[:12]}"


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise PairStoreFailure(f"{folder}: cannot be read ({fault.strerror})") from fault
