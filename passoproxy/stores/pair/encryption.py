"""What the pair's files pass on their way to disk and back: nothing, or with a key a seal that encrypts, authenticates and tells files apart.

A sealed file is a header line, then what AES-256-GCM made of the content:

    passoproxy-sealed 1 KEY STORE KIND NUMBER MARK NONCE CHECK␤ciphertext and tag

The whole header is the associated data, so a file that was renamed, moved from another folder or put back from an earlier time does not open as
something that it is not. KEY names the key without telling it; CHECK is the header's own digest, which tells a damaged header from one of another
key. A sealed folder has one more file, `seal`, with the folder's own identity.

Sealing begins in a folder of plain files (they are read once, and written sealed) and goes on under a new key (what the previous one sealed is
written anew). Bytes are sealed and not values, because a store around a store would leave generations, times, intent and spent tokens in clear.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from passoproxy.errors import ConfigurationError, Fault, PairStoreFailure
from passoproxy.stores.pair.files import read_secret, set_aside, write_secret
from passoproxy.values import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"passoproxy-sealed "
KEY_BYTES = 32
_NONCE_BYTES = 12
_LONGEST_HEADER = 256
_HEADER = re.compile(
    rb"(passoproxy-sealed 1 ([0-9a-f]{16}) ([0-9a-f]{32}) ([a-z]{1,16}) ([0-9]{1,18}) ([0-9]{1,18}) ([0-9a-f]{24})) ([0-9a-f]{8})"
)


class SealBroken(ValueError):
    """A file does not open. `word` tells the kind, for the name under which it is kept: damaged, rolled-back, foreign, unsealed or other-key."""

    def __init__(self, text: str, word: str = "damaged") -> None:
        super().__init__(text)
        self.word = word


class KeyUnknown(SealBroken):
    """A file that looks whole, and is sealed with a key that is not here."""

    def __init__(self, key: str) -> None:
        super().__init__(f"it is sealed with another key ({key})", "other-key")


@dataclass(frozen=True, slots=True)
class Label:
    """What a sealed file is: of which folder, what kind, which number of its kind, and how many records had been written before it."""

    store: str
    kind: str
    number: int
    mark: int


@dataclass(frozen=True, slots=True)
class Key:
    """A key that seals. `name` may be shown."""

    name: str
    _cipher: AESGCM = field(repr=False)

    def close(self, label: Label, content: bytes) -> bytes:
        """A sealed file."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        words = (self.name, label.store, label.kind, str(label.number), str(label.mark), nonce.hex())
        told = MAGIC + b"1 " + " ".join(words).encode()
        header = told + b" " + _check(told) + b"\n"
        return header + self._cipher.encrypt(nonce, content, header)

    def open(self, data: bytes) -> bytes:
        """The content of a file whose label was read and names this key. Raises SealBroken."""
        from cryptography.exceptions import InvalidTag

        header, _, sealed = data.partition(b"\n")
        nonce = bytes.fromhex(header.split(b" ")[-2].decode())
        try:
            return self._cipher.decrypt(nonce, sealed, header + b"\n")
        except InvalidTag:
            raise SealBroken("it was changed or is torn: its seal is broken") from None


def key_of(text: str) -> Key:
    """The key that `text` holds: 32 bytes in base64. Raises ValueError, which never repeats it."""
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ValueError("does not hold 32 bytes in base64")
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return Key(_derived(raw, b"passoproxy pair key name", 8).hex(), AESGCM(_derived(raw, b"passoproxy pair files", 32)))


def is_sealed(data: bytes) -> bool:
    """Whether a file claims to be sealed."""
    return data.startswith(MAGIC)


def label_of(data: bytes) -> tuple[str, Label]:
    """The name of the key that sealed a file, and what the file says that it is; nothing of it is proven yet. Raises SealBroken."""
    header = data[:_LONGEST_HEADER].partition(b"\n")[0]
    found = _HEADER.fullmatch(header)
    if found is None or found[8] != _check(found[1]):
        raise SealBroken("its header was changed or is torn")
    key, store, kind, number, mark = (part.decode() for part in found.groups()[1:6])
    return key, Label(store, kind, int(number), int(mark))


def _check(told: bytes) -> bytes:
    return hashlib.sha256(told).hexdigest()[:8].encode()


def _derived(raw: bytes, purpose: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose).derive(raw)


IDENTITY = "seal"
"""The file in a sealed folder that says which one it is, and whether plain files may still be in it."""


class Cover:
    """The keys of a place: `key` seals, `previous` is still read. Without a key nothing is sealed."""

    def __init__(self, key: Key | None = None, previous: Key | None = None) -> None:
        self._key, self._previous = key, previous
        self._keys = {each.name: each for each in (previous, key) if each is not None}

    @property
    def seals(self) -> bool:
        """Whether there is a key."""
        return self._key is not None

    def _opened(self, data: bytes) -> tuple[Label, bytes]:
        """Raises KeyUnknown, SealBroken."""
        name, label = label_of(data)
        if name not in self._keys:
            raise KeyUnknown(name)
        return label, self._keys[name].open(data)


class FleetCover(Cover):
    """The seal of what lies in the store of a fleet. It binds kind and generation, and no folder: the store belongs to all instances."""

    _store = hashlib.sha256(b"passoproxy fleet").hexdigest()[:32]  # in the place of a folder's name

    def close(self, kind: str, number: int, content: bytes) -> bytes:
        """What goes to the store."""
        return content if self._key is None else self._key.close(Label(self._store, kind, number, 0), content)

    def open(self, kind: str, number: int | None, data: bytes, *, plain: bool = True) -> bytes:
        """The reverse; `number` None takes any, `plain` also what is not sealed. Raises KeyUnknown, SealBroken."""
        if not is_sealed(data):
            if self._key is not None and not plain:
                raise SealBroken("it is not sealed, and everything in this store was", "unsealed")
            return data
        label, content = self._opened(data)
        if (label.store, label.kind) != (self._store, kind) or number not in (None, label.number):
            raise SealBroken(f"it is a sealed {label.kind} {label.number} in the place of a {kind} {number}", "foreign")
        return content


class FolderCover(Cover):
    """What a folder's bytes pass on their way to the disk and back. `kind` is pair, record, imports or answer; `number` tells those of a kind apart.

    Without a key it refuses a folder that is sealed, so that nothing in it is taken for damage or written over.
    """

    def __init__(self, key: Key | None = None, previous: Key | None = None) -> None:
        super().__init__(key, previous)
        self.previous_key = ""
        """What a person is to know of `state.previous_key_file` since the last `begin`: whether it may go; '' without one."""
        self._store = secrets.token_hex(16)
        self._takes_plain = False
        self._mark = 0
        """The number of the last record on the disk; whatever is written after it carries it."""
        self._identified: tuple[str, bool] | None = None
        """What the identity on the disk says: the name of its key, and whether plain files are taken."""

    def begin(self, folder: Path, files: Iterable[Path], stamp: int) -> None:
        """Takes a folder over whose files are `files`, the ones that count most first. Raises ConfigurationError if the key does not fit,
        and nothing has been touched then. `stamp` names what is kept aside (epoch seconds)."""
        there = [path for path in files if path.exists()]
        found = [(path, data) for path in there if (data := _readable(path)) is not None]
        identity = folder / IDENTITY
        given = _readable(identity)
        self._refuse_unknown_keys([*([(identity, given)] if given is not None else []), *found])
        if self._key is None:
            return
        if given is None or not self._recognise(given):
            if given is not None:
                set_aside(identity, stamp)
            self._takes_plain = not (labels := self._labels(found))
            self._store = labels[0].store if labels else self._store  # a lost identity stands in every file
            self._identify(identity, self._key)
        self._mark = max((label.mark for label in self._labels(found) if label.store == self._store), default=0)
        for path, data in found:
            # damage is left for the load to find; what cannot be written stays readable as it is, and the next start tries again
            with contextlib.suppress(SealBroken, PairStoreFailure):
                if (sealed := self._sealed_anew(path, data, self._key)) is not None:
                    write_secret(path, sealed)
        if self._takes_plain and all((data := _readable(path)) is not None and is_sealed(data) for path in there):
            self._takes_plain = False
        self._identify(identity, self._key)
        self.previous_key = self._said_of_previous(folder, [identity, *there])

    def close(self, kind: str, number: int, content: bytes) -> bytes:
        """What goes to the disk."""
        if self._key is None:
            return content
        number = self._mark + 1 if kind == "record" else number
        return self._key.close(Label(self._store, kind, number, self._mark), content)

    def recorded(self) -> None:
        """The record that was closed last is on the disk."""
        self._mark += 1

    def open(self, kind: str, number: int | None, data: bytes) -> bytes:
        """The reverse; `number` None takes any. Raises SealBroken for what does not belong there."""
        if self._key is None:
            return data
        if not is_sealed(data):
            if self._takes_plain:
                return data
            raise SealBroken("it is not sealed, and everything in this folder is", "unsealed")
        label, content = self._opened(data)
        if label.store != self._store:
            raise SealBroken("it belongs to another state folder", "foreign")
        if label.kind != kind:
            raise SealBroken(f"it is a sealed {label.kind} in the place of a {kind}", "foreign")
        if number is not None and label.number != number:
            raise SealBroken(f"it is number {label.number} in the place of {number}", "rolled-back")
        if kind == "record" and label.number < self._mark:
            raise SealBroken("it was written before the files beside it were", "rolled-back")
        return content

    def _refuse_unknown_keys(self, found: Iterable[tuple[Path, bytes]]) -> None:
        """Before anything is written: every file that counts must be of a key that is here."""
        for path, data in found:
            if not is_sealed(data):
                continue
            problem = f"is not set, and {path} is sealed{_by(data)}" if self._key is None else ""
            with contextlib.suppress(SealBroken):
                if self._key is not None and label_of(data)[0] not in self._keys:
                    problem = f"is not the key of {path}, which is sealed{_by(data)}"
            if problem:
                raise ConfigurationError(Fault("", "state.key_file", problem, _REMEDY))

    def _recognise(self, given: bytes) -> bool:
        """Takes up what the identity says; whether it could be read."""
        try:
            label, content = self._opened(given)
        except SealBroken:
            return False
        if label.kind != "identity":
            return False
        self._store, self._takes_plain = label.store, content == _TAKES_PLAIN
        self._identified = (label_of(given)[0], self._takes_plain)
        return True

    def _labels(self, found: Iterable[tuple[Path, bytes]]) -> list[Label]:
        labels = []
        for _, data in found:
            with contextlib.suppress(SealBroken):
                labels.append(self._opened(data)[0])
        return labels

    def _sealed_anew(self, path: Path, data: bytes, key: Key) -> bytes | None:
        """A file that is plain, or sealed with the previous key, as it is to be written; None if it stays as it is."""
        if not is_sealed(data):
            kind, number = _place(path)
            return key.close(Label(self._store, kind, number, self._mark), data) if self._takes_plain else None
        name, label = label_of(data)
        return None if name == key.name else key.close(label, self._opened(data)[1])

    def _said_of_previous(self, folder: Path, paths: Iterable[Path]) -> str:
        if self._previous is None:
            return ""
        for path in paths:
            data = _readable(path)
            with contextlib.suppress(SealBroken):
                if data is None or (is_sealed(data) and label_of(data)[0] == self._previous.name):
                    return f"is still needed: {path} could not be written anew under state.key_file; the next start tries again"
        return f"is not needed for {folder} any more: everything in it is sealed with state.key_file now"

    def _identify(self, identity: Path, key: Key) -> None:
        """Writes the identity unless it is so already; one that cannot be written now is found again in the files, at the next start."""
        wanted = (key.name, self._takes_plain)
        if wanted == self._identified:
            return
        content = _TAKES_PLAIN if self._takes_plain else b""
        with contextlib.suppress(PairStoreFailure):
            write_secret(identity, key.close(Label(self._store, "identity", 0, 0), content))
            self._identified = wanted


_TAKES_PLAIN = b"plain files are still taken"
"""What the identity holds until the last plain file of its folder was sealed."""

_REMEDY = "name the key that it was sealed with there or in state.previous_key_file; nothing was changed"


def _by(data: bytes) -> str:
    try:
        return f" with the key {label_of(data)[0]}"
    except SealBroken:
        return ""


def _readable(path: Path) -> bytes | None:
    """What can be read now; an unreadable file is reported when it is loaded."""
    try:
        return read_secret(path)
    except PairStoreFailure:
        return None


def _place(path: Path) -> tuple[str, int]:
    """Kind and number of a plain file by its name: `pair.7.json`, `record.json`, `answer.json`."""
    kind, _, rest = path.name.partition(".")
    return kind, int(rest.partition(".")[0]) if kind == "pair" else 0
