"""Rows of the shared cache: their names, the sets that they are in, and their sealed heads."""

from __future__ import annotations

from hashlib import blake2b

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.stores.entries.serialization import VERSION, Seal, key_name, row_name
from passoproxy.values import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A variant as it lies in the store. `sealed` is for comparing at an update; `stamp` is the last purge's number when it was stored."""

    name: str
    entry: Entry
    sealed: bytes
    stamp: int


class Rows:
    """Seals heads under `secret`, and opens them under `previous` too. Each secret has rows of its own, `KEY.KID.IDENTIFIER`."""

    def __init__(self, secret: bytes, previous: bytes | None = None) -> None:
        self._seals = {_id_of(each): Seal(each) for each in (secret, previous) if each is not None}

    def names(self, entry: Entry) -> list[str]:
        """The row of an entry under each secret, the present one first."""
        key, _, identifier = row_name(entry).partition(".")
        return [f"{key}.{each}.{identifier}" for each in self._seals]

    def is_ours(self, name: str) -> bool:
        """Whether that row is under one of the secrets, so that it is damaged if it does not open."""
        return _id_in(name) in self._seals

    def close(self, name: str, entry: Entry) -> bytes:
        """The sealed head for one of `names`."""
        return self._seals[_id_in(name)].close(entry)

    def open(self, name: str, sealed: bytes, packed: bytes) -> Row | None:
        """The variant in that row; None if it is not there, is damaged or is sealed under another secret."""
        seal, known = self._seals.get(_id_in(name)), packed.split()
        if seal is None or len(known) != 5 or not known[0].isdigit():
            return None
        key, _, identifier = name.split(".", 2)
        entry = seal.open(f"{key}.{identifier}", sealed)
        return None if entry is None else Row(name, entry, sealed, int(known[0]))


def varies_of(name: str, entry: Entry) -> str:
    """What the entry of a row varies by, as a digest: equal ones under the same secret replace one another."""
    return _digest(_id_in(name) + repr(entry.varies))


def set_of_key(key: str) -> str:
    """The set of a primary key's variants."""
    return f"k:{key_name(key)}"


def sets_of(entry: Entry) -> str:
    """The sets that an entry's row is in, the primary key's first."""
    tags = (f"t:{_digest(tag)}" for tag in entry.tags)
    one = (f"u:{_digest(entry.target)}", f"r:{_digest(entry.route)}", f"p:{_digest(entry.partition)}")
    return " ".join((set_of_key(entry.key), *one, *tags))


def set_of(selector: Selector) -> str:
    """The smallest set that has all rows which `selector` means; `used` has every row."""
    match selector:
        case Selector(key=str(key)):
            return set_of_key(key)
        case Selector(target=str(target)):
            return f"u:{_digest(target)}"
        case Selector(tag=str(tag)):
            return f"t:{_digest(tag)}"
        case Selector(route=str(route)):
            return f"r:{_digest(route)}"
        case Selector(partition=str(partition)):
            return f"p:{_digest(partition)}"
        case _:
            return "used"


def _id_of(secret: bytes) -> str:
    """The name of a secret and of the format of sealed heads."""
    return blake2b(secret + bytes((VERSION,)), digest_size=4, person=b"passoproxy kid").hexdigest()


def _id_in(name: str) -> str:
    return name.partition(".")[2].partition(".")[0]


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
