"""A folder of recordings: which one answers a request, which come near it, and the file that a new one is kept in.

All calls block, and are made from one thread. Files are known by size and times and read again when those change, so that a person may edit
them at any time. What answers a request is decided by the cache's own key, made of request and recording alike.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from hashlib import sha256
from itertools import count
from pathlib import Path

from passoproxy.core.cache.key import Content, Unreadable, content_of, primary_key
from passoproxy.core.cache.policy import KeyPolicy
from passoproxy.core.cache.vary import Varies, nominated, varies
from passoproxy.core.http.messages import NO_FIELDS, RequestHead, fields_of
from passoproxy.core.redaction import SECRET_FIELDS, Redactor
from passoproxy.core.units import show_size
from passoproxy.errors import Fault
from passoproxy.folders import stamp_of
from passoproxy.gateway.recording import (
    LONGEST_FILE,
    InvalidRecording,
    Recording,
    boundary_of,
    masked_body,
    masked_value,
    personal,
    printed,
    read,
)
from passoproxy.values import dataclass

NEAREST = 3
"""So many recordings are named for a request that none answers."""

_SUFFIX = ".yaml"
_ABANDONED = 60.0
"""Seconds after which a file that was begun is taken for the rest of a process that was killed."""

_BEGUN = ".passoproxy-"
_LIKE, _MOST_COMPARED = 0.7, 500
"""How much of a path has to be the same for it to be a slip of the other, and how many recordings of such a path are looked at."""

_UNTOLD = SECRET_FIELDS | {"accept-encoding", "content-type"}
"""Request fields by which no recording is chosen: credentials, what is the proxy's own, and what is part of the key already."""


@dataclass(slots=True, eq=False)
class Known:
    """A file as it was read last: a recording, or what is wrong with it; `asked` is the request that it answers, None if that is not known.

    The recording is without the answer's body if not `is_whole`.
    """

    path: Path
    stamp: tuple[int, ...]
    recording: Recording | None
    fault: Fault | None
    asked: tuple[RequestHead, bytes] | None
    made: tuple[KeyPolicy, str] | None = None
    is_whole: bool = True

    def key(self, policy: KeyPolicy) -> str:
        """The key of the request that it answers."""
        assert self.asked is not None
        if self.made is None or self.made[0] != policy:
            self.made = policy, key_of(*self.asked, policy)
        return self.made[1]


def key_of(head: RequestHead, body: bytes, policy: KeyPolicy) -> str:
    """The cache's key of a masked request, of any method; the same for HEAD and GET."""
    if policy.headers:
        policy = replace(policy, headers=tuple(name for name in policy.headers if name.lower() not in _UNTOLD))
    content = None
    if body:
        try:
            content = content_of(head.fields, body, policy)
        except Unreadable:
            kind = head.fields.get("Content-Type", "")
            if (boundary := boundary_of(kind)) is not None:  # made anew for each request
                kind, body = "multipart", body.replace(boundary, b"")
            content = Content(kind, body, frozenset())
    return primary_key("", head, policy, content)


def masked(head: RequestHead, body: bytes, redactor: Redactor) -> tuple[RequestHead, bytes]:
    """A request without credentials: so it is recorded, and so it is held against recordings."""
    path, mark, query = head.target.partition("?")
    target = f"{redactor.content(path)}{mark}{redactor.parameters(query)}"
    fields = fields_of([(name, masked_value(name, text, redactor)) for name, text in head.fields.items()])
    return RequestHead(head.method, target, fields), masked_body(body, head.fields, redactor)


class Folder:
    """The recordings below `path`, without the bodies of answers beyond `longest_kept` bytes: a recorder needs them seldom. `count` and `faults` are
    those of the last look, and may be read from any thread."""

    def __init__(self, path: Path, longest_kept: int = LONGEST_FILE) -> None:
        self.path, self._longest_kept = path, longest_kept
        self._known: dict[str, Known] = {}
        self._by_path: dict[str, list[Known]] = {}
        self.count = 0
        self.faults: tuple[Fault, ...] = ()

    def look(self) -> None:
        """Reads what is new or has changed. A folder that cannot be read has no recordings."""
        before, found = self._known, dict[str, Known]()
        for at, stamp in sorted(self._stamps()):
            known = before.get(at)
            found[at] = known if known is not None and known.stamp == stamp else self._kept(self._read(Path(at), stamp))
        if found != before:
            self._take(found)

    def _kept(self, known: Known) -> Known:
        if known.recording is not None and len(known.recording.body) > self._longest_kept:
            known.recording, known.is_whole = replace(known.recording, body=b""), False
        return known

    def _take(self, found: dict[str, Known]) -> None:
        self._known, self._by_path = found, {}
        for each in found.values():
            if each.asked is not None:
                self._by_path.setdefault(each.asked[0].path, []).append(each)
        self.count = sum(each.recording is not None for each in found.values())
        self.faults = (*(each.fault for each in found.values() if each.fault is not None), *self._twice())

    def _stamps(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for folder, folders, names in os.walk(self.path):
            folders[:] = [each for each in folders if not each.startswith(".")]
            for name in names:
                if name.endswith((_SUFFIX, ".yml")) and not name.startswith("."):
                    at = os.path.join(folder, name)
                    if stamp := stamp_of(Path(at)):
                        yield at, stamp

    def _read(self, path: Path, stamp: tuple[int, ...]) -> Known:
        name = self._shown(path)
        try:
            with open(
                path, "rb", opener=lambda at, flags: os.open(at, flags | os.O_NONBLOCK)
            ) as file:  # a FIFO is empty
                raw = file.read(LONGEST_FILE + 1)
            if len(raw) > LONGEST_FILE:
                raise InvalidRecording(
                    Fault(name, "", f"is longer than {show_size(LONGEST_FILE)}", "take it out of the folder")
                )
            recording = read(raw, name)
        except OSError as error:
            fault = Fault(name, "", f"cannot be read: {error.strerror}", "make it a file that this user may read")
            return Known(path, stamp, None, fault, None)
        except InvalidRecording as error:
            return Known(path, stamp, None, error.fault, error.request)
        return Known(path, stamp, recording, None, (recording.request, recording.asked))

    def _twice(self) -> Iterator[Fault]:
        for all_of in self._by_path.values():
            first: dict[object, Known] = {}
            for each in (each for each in all_of if each.recording is not None):
                assert each.asked is not None
                head, body = each.asked
                fields = tuple(sorted(head.fields.items()))
                if (other := first.setdefault((head.method, head.target, fields, body), each)) is not each:
                    at, earlier = (self._shown(known.path) for known in (each, other))
                    yield Fault(at, "request", f"is that of {earlier}, which answers", "remove one of the two")

    # ---- which one answers -------------------------------------------------------------------------------------------------

    def find(self, head: RequestHead, body: bytes, policy: KeyPolicy) -> Known | None:
        """What answers a masked request; one that can be read before one that cannot, and HEAD by what GET is answered if need be.

        Of several, the one whose other request fields (those that its answer varies by) are the same, else the first by name.
        """
        methods = ("HEAD", "GET") if head.method == "HEAD" else (head.method,)
        key, found = "", list[Known]()
        for each in self._by_path.get(head.path, ()):
            assert each.asked is not None
            if each.asked[0].method in methods:
                key = key or key_of(head, body, policy)
                if each.key(policy) == key:
                    found.append(each)
        return min(
            found,
            key=lambda each: (each.recording is None, not _suits(each, head), methods.index(_asked(each).method)),
            default=None,
        )

    def nearest(self, head: RequestHead) -> list[str]:
        """The requests that come nearest to one that is not recorded, with their files, at most `NEAREST`: the same path before a like one, then the
        same method, then the likeness of their queries."""

        def likeness(one: str, other: str) -> float:
            return SequenceMatcher(None, one[:200], other[:200]).ratio()

        def distance(each: Known) -> tuple[bool, bool, float]:
            asked = _asked(each)
            return asked.path != head.path, asked.method != head.method, -likeness(head.target, asked.target)

        alike = {path: likeness(head.path, path) for path in self._by_path}
        paths = sorted(alike, key=lambda path: -alike[path])[:NEAREST]
        slips = [path for path in paths if alike[path] >= _LIKE] or paths[:1]
        near = sorted((each for path in slips for each in self._by_path[path][:_MOST_COMPARED]), key=distance)
        return [self._named(each, head) for each in near[:NEAREST]]

    def _named(self, each: Known, head: RequestHead) -> str:
        asked = _asked(each)
        is_same = asked.method == head.method and asked.target == head.target
        other = ", with another body" if is_same else ""
        return f"{asked.method} {asked.target[:200]} ({self._shown(each.path)}{other})"

    def _shown(self, path: Path) -> str:
        return readable(path.relative_to(self.path))

    # ---- kept --------------------------------------------------------------------------------------------------------------

    def clear_begun(self) -> None:
        """Removes what processes that were killed had begun to write. Raises OSError."""
        for left in self.path.rglob(f"{_BEGUN}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()

    def keep(self, recording: Recording, policy: KeyPolicy, *, replaces: bool) -> tuple[Path, list[str]] | None:
        """Writes a recording in the place of the one that answers the same request, and gives its file and what in it looks like personal data; None
        if that says the same, or if not `replaces` and there is one, or one of GET for HEAD. Whole or not at all, mode 0600. Raises OSError, and ValueError for
        one that is too long.
        """
        self.look()
        head, body = recording.request, recording.asked
        if head.method == "HEAD" and (known := self.find(head, body, policy)) and _asked(known).method == "GET":
            return None
        own, key = _varies(recording), key_of(head, body, policy)
        found = [
            each
            for each in self._by_path.get(head.path, ())
            if _asked(each).method == head.method
            and each.key(policy) == key
            and (each.recording is None or _varies(each.recording) == own)
        ]
        before = min(found, key=lambda each: each.recording is None, default=None)
        if before is not None and before.recording is not None:
            there = before.recording if before.is_whole else self._read(before.path, before.stamp).recording
            if not replaces or (there is not None and there.says_the_same(recording)):
                return None
            # a person may have named more that says nothing when it changes
            named = tuple(dict.fromkeys((*recording.volatile, *before.recording.volatile)))
            recording = replace(recording, volatile=named)
        path = self._place(recording, own, policy) if before is None else before.path
        names = personal(recording)
        if len(data := printed(recording, names).encode()) > LONGEST_FILE:
            raise ValueError(f"its file would be longer than {show_size(LONGEST_FILE)}")
        _write(path, data)
        known = self._kept(Known(path, stamp_of(path), recording, None, (head, body)))
        self._take(dict(sorted({**self._known, str(path): known}.items())))
        return path, names

    def _place(self, recording: Recording, own: Varies, policy: KeyPolicy) -> Path:
        """A name that no other request's recording has: a person may have changed the request in a file."""
        name = _name(recording, own, policy)
        for number in count(2):
            known = self._known.get(str(path := self.path / f"{name}{_SUFFIX}"))
            if known is None or known.asked is None:
                return path
            name = f"{name}-{number}"
        raise AssertionError


def readable(path: Path) -> str:
    """A path as text, whatever its bytes are."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _asked(each: Known) -> RequestHead:
    assert each.asked is not None
    return each.asked[0]


def _varies(recording: Recording) -> Varies:
    return varies(_telling(recording), recording.request.fields)


def _telling(recording: Recording) -> list[str]:
    """The request fields that tell this recording from like ones, lower case."""
    names = {name.lower() for name in recording.request.fields} | set(nominated(recording.head.fields) or ())
    return sorted(names - _UNTOLD)


def _suits(each: Known, head: RequestHead) -> bool:
    return each.recording is None or varies(_telling(each.recording), head.fields) == _varies(each.recording)


def telling_fields(head: RequestHead, names: Iterable[str]) -> RequestHead:
    """A request with those of its fields that a recording keeps: its body's type, and `names` (lower case)."""
    kept = (set(names) - _UNTOLD) | {"content-type"}
    pairs = [(name, text) for name, text in head.fields.items() if name.lower() in kept]
    return head.with_fields(fields_of(pairs) if pairs else NO_FIELDS)


def _name(recording: Recording, own: Varies, policy: KeyPolicy) -> str:
    head = recording.request
    key = f"{head.method}\0{key_of(head, recording.asked, policy)}\0{own!r}"
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", f"{head.method}{head.path}").strip("-.")[:80]
    return f"{readable}-{sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"


def _write(path: Path, data: bytes) -> None:
    file, begun = tempfile.mkstemp(prefix=_BEGUN, dir=path.parent)  # 0600
    try:
        with open(file, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(begun, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(begun)
        raise
