"""What is in this process's memory: the variants of keys and bodies of some of them, within a number of bytes; and which key goes first.

A key is there with all its variants or not at all, so that a select can be answered from here alone. Bodies may be missing; nothing
here waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.stores.entries.serialization import with_variant, youngest_first


class S3Fifo:
    """Which key goes next: S3-FIFO (Yang and others, 2023), chosen by `bench/eviction.py` (docs/decisions/0012-eviction.md).

    A key is on trial until it is asked for again; only then it gets among those that stay, and has a second chance there each round. One bit
    of use a key, so that a hit costs one addition to a set (`used`). A key that was given up is remembered for a while as a ghost: when it
    comes back it needs no trial. A walk over keys that are asked for once pushes out nothing else.
    """

    __slots__ = ("_asked", "_ghosts", "_staying", "_trial", "used")

    _TRIAL_SHARE = 0.15
    _SPARE_GHOSTS = 16

    def __init__(self) -> None:
        self._trial: OrderedDict[str, None] = OrderedDict()
        self._staying: OrderedDict[str, None] = OrderedDict()
        self._ghosts: OrderedDict[str, None] = OrderedDict()
        self._asked: set[str] = set()
        self.used: Callable[[str], None] = self._asked.add

    def added(self, key: str) -> None:
        if key in self._ghosts:
            del self._ghosts[key]
            self._staying[key] = None
        else:
            self._trial[key] = None

    def removed(self, key: str) -> None:
        self._asked.discard(key)
        if key in self._trial:
            del self._trial[key]
        else:
            del self._staying[key]

    def cleared(self) -> None:
        for part in (self._trial, self._staying, self._ghosts, self._asked):
            part.clear()

    def victim(self) -> str:
        found = self._from_trial()
        return self._from_staying() if found is None else found

    def _from_trial(self) -> str | None:
        """The next that failed its trial, unless the trial is short enough; those before it that passed stay."""
        while (
            len(self._trial) > max(1, self._TRIAL_SHARE * (len(self._trial) + len(self._staying))) or not self._staying
        ):
            key = next(iter(self._trial))
            if key not in self._asked:
                self._remember(key)
                return key
            self._asked.discard(key)
            del self._trial[key]
            self._staying[key] = None
        return None

    def _from_staying(self) -> str:
        """The first key that was not asked for since its last turn; the others go to the end once more. Ends: each pass takes one bit away."""
        while True:
            key = next(iter(self._staying))
            if key not in self._asked:
                return key
            self._asked.discard(key)
            self._staying.move_to_end(key)

    def _remember(self, key: str) -> None:
        self._ghosts[key] = None
        while len(self._ghosts) > len(self._staying) + self._SPARE_GHOSTS:
            self._ghosts.popitem(last=False)


_KEY_BYTES = 600
_ENTRY_BYTES = 1600
_PAIR_BYTES = 220
_LET_GO = 64
"""What the objects themselves take, measured by `tests/stores/entries/test_shelf.py`: near enough for a bound."""


def weight_of(entry: Entry) -> int:
    """Bytes of memory that an entry takes without its body."""
    texts = sum(len(name) + len(value) + _PAIR_BYTES for name, value in entry.fields.items())
    return _ENTRY_BYTES + texts + 2 * entry.chosen_length + len(entry.key)


Watchers = set[Callable[[], None]]


class _Held:
    """One key's variants, their bodies by identifier, and the bytes of all. `watchers` are called when it leaves, or others take its place."""

    __slots__ = ("bodies", "variants", "watchers", "weight")

    def __init__(self, variants: tuple[Entry, ...]) -> None:
        self.variants = variants
        self.bodies: dict[str, bytes] = {}
        self.watchers: Watchers | None = None
        self.weight = _KEY_BYTES + sum(weight_of(entry) for entry in variants)

    def gone(self) -> None:
        watchers, self.watchers = self.watchers, None
        while watchers:
            watchers.pop()()


class Shelf:
    """At most `max_bytes`, of which one key may take an eighth. `on_drop` is told of every key that goes."""

    def __init__(
        self,
        max_bytes: int,
        on_drop: Callable[[str], None] | None = None,
    ) -> None:
        self._max_bytes, self._most_of_key = max_bytes, max_bytes // 8
        self._eviction = S3Fifo()
        self.used = self._eviction.used
        """Marks a key as asked for."""
        self._on_drop = on_drop
        self._keys: dict[str, _Held] = {}
        self._leaving: list[_Held] = []
        self.bytes_used = 0
        self.evictions = 0
        self.clearings = 0
        """How often everything was forgotten at once, of which watchers are not told."""

    def __len__(self) -> int:
        return sum(len(held.variants) for held in self._keys.values())

    @property
    def key_count(self) -> int:
        """How many keys are here."""
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._keys))

    def variants(self, key: str) -> tuple[Entry, ...] | None:
        """All variants, the youngest first; None if the key is not here."""
        held = self._keys.get(key)
        if held is None:
            if self._leaving:
                self._let_go()
            return None
        if held.variants:  # to be stored is no second use of a key that had nothing
            self.used(key)
        return held.variants

    def has(self, key: str) -> bool:
        """Whether the key is here; no use of it."""
        return key in self._keys

    def body(self, entry: Entry) -> bytes | None:
        """The body of exactly this entry, if it is here."""
        held = self._keys.get(entry.key)
        return None if held is None else held.bodies.get(entry.identifier)

    def watchers(self, entry: Entry) -> Watchers | None:
        """Those who are told, once, that the variants of this entry's key have changed or left; None if this very entry is not here."""
        held = self._keys.get(entry.key)
        if held is None or not any(known is entry for known in held.variants):
            return None
        if held.watchers is None:
            held.watchers = set()
        return held.watchers

    def held(self, entry: Entry) -> Entry | None:
        """The variant of the same identifier, without marking its key as used."""
        held = self._keys.get(entry.key)
        if held is None:
            return None
        return next((known for known in held.variants if known.identifier == entry.identifier), None)

    def put(self, key: str, variants: Sequence[Entry]) -> bool:
        """These are all variants now; bodies of those that stayed are kept. Whether there was room."""
        ordered = youngest_first(variants)
        held = _Held(ordered)
        old = self._keys.get(key)
        if old is not None:
            stayed = {entry.identifier: entry.digest for entry in ordered}
            for entry in old.variants:
                if entry.identifier in old.bodies and stayed.get(entry.identifier) == entry.digest:
                    held.bodies[entry.identifier] = old.bodies[entry.identifier]
            held.weight += sum(map(len, held.bodies.values()))
        if held.weight > self._most_of_key:
            self.drop(key)
            return False
        if old is None:
            self._eviction.added(key)
        else:
            self.bytes_used -= old.weight
            if old.variants:
                self.used(key)
            old.gone()
        self._keys[key] = held
        self.bytes_used += held.weight
        self._make_room()
        return key in self._keys

    def add(self, entry: Entry, body: bytes | None) -> bool:
        """A new variant among those of its key, which must be here or have no others. Whether it (and its body) has room."""
        held = self._keys.get(entry.key)
        known = held.variants if held is not None else ()
        return self.put(entry.key, with_variant(known, entry)) and (body is None or self.put_body(entry, body))

    def put_body(self, entry: Entry, body: bytes) -> bool:
        """The body of a variant that is here; whether there was room."""
        held = self._keys.get(entry.key)
        if held is None or not any(
            known.identifier == entry.identifier and known.digest == entry.digest for known in held.variants
        ):
            return False
        added = len(body) - len(held.bodies.get(entry.identifier, b""))
        if held.weight + added > self._most_of_key:
            return False
        held.bodies[entry.identifier] = body
        held.weight += added
        self.bytes_used += added
        self._make_room()
        return entry.key in self._keys

    def remove(self, entry: Entry) -> bool:
        """Takes one variant away; a key without variants goes too. Whether it was here."""
        held = self._keys.get(entry.key)
        rest = [known for known in held.variants if known.identifier != entry.identifier] if held else []
        if held is None or len(rest) == len(held.variants):
            return False
        if rest:
            self.put(entry.key, rest)
        else:
            self.drop(entry.key)
        return True

    def replace(self, entry: Entry) -> bool:
        """Another head for the variant of the same identifier. Whether it was here."""
        held = self._keys.get(entry.key)
        if held is None or all(known.identifier != entry.identifier for known in held.variants):
            return False
        others = [known for known in held.variants if known.identifier != entry.identifier]
        self.put(entry.key, [entry, *others])
        return True

    def find(self, selector: Selector, keys: Sequence[str]) -> list[Entry]:
        """What `selector` means among `keys`."""
        held = (self._keys[key] for key in keys if key in self._keys)
        return [entry for each in held for entry in each.variants if selector.matches(entry)]

    def drop(self, key: str) -> bool:
        """Forgets a key with all its variants; whether it was here."""
        held = self._keys.pop(key, None)
        if held is None:
            return False
        self.bytes_used -= held.weight
        self._eviction.removed(key)
        held.gone()
        if self._on_drop is not None:
            self._on_drop(key)
        return True

    def clear(self) -> None:
        """Forgets everything, without a word to `on_drop` and watchers.

        The memory itself is freed in pieces, whenever something is looked for or put here, because a hundred megabytes of entries take too long
        at once. Until then it counts.
        """
        self.clearings += 1
        self._leaving.extend(self._keys.values())
        self._keys = {}
        self._eviction.cleared()

    def _let_go(self) -> None:
        for _ in range(min(_LET_GO, len(self._leaving))):
            self.bytes_used -= self._leaving.pop().weight

    def _make_room(self) -> None:
        if self._leaving:
            self._let_go()
        while self.bytes_used > self._max_bytes:
            if self._leaving:
                self._let_go()
                continue
            victim = self._eviction.victim()
            self.evictions += len(self._keys[victim].variants)
            self.drop(victim)
