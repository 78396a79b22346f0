"""One sealed file as bytes: a header line that says what it is, and what AES-256-GCM made of the content.

    passoproxy-sealed 1 KEY STORE KIND NUMBER MARK NONCE CHECK␤ciphertext and tag

The whole header is the associated data, so a file that was renamed, moved from another folder or put back from an earlier time does not
open as something that it is not. KEY names the key without telling it; CHECK is the header's own digest, which tells a damaged header from
one of another key. Which file belongs where is the business of `sealed`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

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
    """A file is whole as far as anybody can tell, and sealed with a key that is not here."""

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
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose).derive(raw)
