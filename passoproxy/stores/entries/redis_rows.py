"""Entries as they lie in Redis: one sealed value and a line of what scripts need for each, read back and proven here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from passoproxy.core.cache.entry import Entry
from passoproxy.stores.entries.names import key_name, mark_of, row_name
from passoproxy.stores.entries.redis_view import Known
from passoproxy.stores.entries.sealing import Seal


@dataclass(frozen=True, slots=True)
class Row:
    """A variant as it lies there. `sealed` is for comparing: whoever changes it must have seen the latest."""

    entry: Entry
    sealed: bytes
    stamp: int


def rows_of(seal: Seal, key: str, fields: Mapping[bytes, bytes]) -> tuple[list[Row], list[str]]:
    """The variants in the hash of the primary key with that name, and the identifiers' names of what is there and not ours."""
    rows, foreign = [], []
    for name, sealed in fields.items():
        if name[:2] == b"v:":
            identifier = name[2:].decode("latin-1")
            row = row_of(seal, f"{key}.{identifier}", sealed, fields.get(b"m:" + name[2:]))
            if row is None:
                foreign.append(identifier)
            else:
                rows.append(row)
    return rows, foreign


def row_of(seal: Seal, name: str, sealed: bytes | None, packed: bytes | None) -> Row | None:
    """The variant with that row's name; None where it is not there, or is not ours."""
    entry = seal.open_alone(name, sealed)
    parts = (packed or b"").split()
    if entry is None or sealed is None or len(parts) != 6 or not parts[2].isdigit():
        return None
    return Row(entry, sealed, int(parts[2]))


def visible(rows: list[Row], known: Known) -> list[Entry]:
    """The entries that no purge has taken."""
    if not known.undone:
        return [row.entry for row in rows]
    return [row.entry for row in rows if not known.is_purged(row.entry, row.stamp)]


def identifier_of(entry: Entry) -> str:
    """The identifier's name: what stands behind the dot of a row's."""
    return row_name(entry).rpartition(".")[2]


def varies_of(entry: Entry) -> str:
    """A digest of what the entry varies by: equal ones replace one another."""
    return blake2b(repr(entry.varies).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def body_suffix(entry: Entry) -> str:
    """What the name of the entry's body ends with, behind the prefix and the epoch."""
    return f"b:{row_name(entry)}.{entry.digest[:16]}"


def mark(entry: Entry) -> int:
    """What other processes are told when the entry changes."""
    return mark_of(key_name(entry.key))
