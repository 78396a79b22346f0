"""`gateway.replay`: a hop that answers from recordings, where the cache, the bearer and the origin stand otherwise.

Nothing is stored and nothing is dialled: files are looked at for each request, so that an edit counts from the next one on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from passoproxy.core.cache import cache_status
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.etag import content_digest, made_etag
from passoproxy.core.cache.policy import KeyPolicy, RoutePolicy
from passoproxy.core.events import Warned
from passoproxy.core.http.forwarding import from_origin
from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.core.redaction import Redactor
from passoproxy.core.routes import UNLISTED, RouteTable
from passoproxy.errors import BodyBroken, Fault, Offline, Refusal
from passoproxy.gateway.folder import Folder, Known, masked, readable
from passoproxy.gateway.recording import LONGEST_BODY, uncoded
from passoproxy.ports import BytesBody, Clock, EntryStore, Observer, Request, Response
from passoproxy.proxy.cache import Cache, answered
from passoproxy.proxy.explain import Explainer, Explanation
from passoproxy.proxy.fetch import LARGEST_TAGGED, gets_tag
from passoproxy.proxy.spool import gathered

HIT = f"{cache_status.NAME}; hit"
"""Our member of Cache-Status: nothing was asked."""


class Replay:
    """The hop. Answers have the fields and the Date that were recorded, `Age: 0`, and are hits."""

    def __init__(self, folder: Path, redactor: Callable[[], Redactor], clock: Clock, observer: Observer) -> None:
        self._folder, self._redactor, self._clock, self._observer = Folder(folder), redactor, clock, observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self._told: tuple[Fault, ...] = ()
        self._folder.look()

    async def look(self) -> None:
        """Reads what has changed, and tells which files cannot be used now, and which can again."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.look)
        self._tell()

    def _tell(self) -> None:
        before, self._told = self._told, self._folder.faults
        for fault in self._told:
            if fault not in before:
                self._observer(Warned("recording_invalid", f"{self._folder.path}/{fault}", about=_file_of(fault)))
        now = {_file_of(fault) for fault in self._told}
        for about in {_file_of(fault) for fault in before} - now:
            said = f"{self._folder.path}/{about} can be used, or is gone"
            self._observer(Warned("recording_invalid", said, over=True, about=about))

    def shown(self) -> dict[str, object]:
        """For the daemon's status."""
        faults = list(map(str, self._folder.faults))
        return {
            "mode": "replay",
            "directory": str(self._folder.path),
            "recordings": self._folder.count,
            "invalid": faults,
        }

    async def send(self, request: Request) -> Response:
        """The recorded answer. Raises Offline for what is not recorded, naming what comes near, and for a file that cannot be used."""
        found = await self.found(request)
        request.trail.cache = "hit"
        assert found.recording is not None
        entry = _entry(found, request.policy or UNLISTED)
        return answered(request.head, entry, BytesBody(found.recording.body), "0", HIT, self._clock.wall())

    async def found(self, request: Request) -> Known:
        """The recording that answers. Raises Offline, as `send`."""
        body = await gathered(request.body, LONGEST_BODY)
        if not isinstance(body, BytesBody):
            said = f"the request's body is longer than {LONGEST_BODY} bytes, which no recording has (gateway.replay)"
            raise Offline(said)
        policy = (request.policy or UNLISTED).key
        found = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._found, request.head, body.data, policy, self._redactor()
        )
        self._tell()
        if isinstance(found, str):
            raise Offline(found)
        return found

    def _found(self, head: RequestHead, body: bytes, policy: KeyPolicy, redactor: Redactor) -> Known | str:
        """In the thread: the recording, or why there is none."""
        folder = self._folder
        folder.look()
        with contextlib.suppress(BodyBroken, ValueError):
            body, head = (
                uncoded(body, head.fields),
                head.with_fields(changed(head.fields, without=("Content-Encoding",))),
            )
        head, body = masked(head, body, redactor)
        found = folder.find(head, body, policy)
        if found is not None and found.recording is not None:
            return found
        asked = f"{head.method} {head.target[:500]}"
        if found is not None:
            return f"{asked}: its recording in {folder.path} cannot be used: {found.fault}"
        near = folder.nearest(head)
        said = f"{asked} is not recorded in {folder.path}"
        if near:
            said += f"; nearest: {'; '.join(near)}"
        elif not folder.count:
            said += ", which holds no recording; run the application once with gateway.record"
        if folder.faults:
            more = f" (and {len(folder.faults) - 1} more)" if len(folder.faults) > 1 else ""
            said += f"; a file cannot be used: {folder.faults[0]}{more}"
        return said

    async def close(self) -> None:
        """Ends its thread."""
        await asyncio.to_thread(self._thread.shutdown)


def _entry(found: Known, policy: RoutePolicy) -> Entry:
    """With the tag that the cache would give it."""
    recording = found.recording
    assert recording is not None
    request, head, body = recording.request, recording.head, recording.body
    digest, length = sha256(body).hexdigest(), [("Content-Length", str(len(body)))] if body else []
    # as the origin's: what a hand wrote passes no further than that
    fields = changed(from_origin(head, pass_cookies=policy.pass_cookies).fields, having=length)
    entry = Entry(digest, str(found.path), "", request.method, request.target, head.status, fields)
    content = ""
    if policy.stores and gets_tag(entry) and len(body) <= LARGEST_TAGGED:
        work = content_digest(body, fields, policy.volatile_fields)
        try:
            while True:
                next(work)
        except StopIteration as done:
            content = str(done.value)
    return entry.with_content(digest, len(body), content, made_etag(content) if content else "")


def _file_of(fault: Fault) -> str:
    """The file's name without the line."""
    name, _, line = fault.where.rpartition(":")
    return name if name and line.isdecimal() else fault.where


class ReplayExplainer(Explainer):
    """Says which recording of `replay` answers a request."""

    def __init__(
        self,
        replay: Replay,
        store: EntryStore,
        cache: Cache,
        table: Callable[[], RouteTable],
        admits: Callable[[RequestHead], None],
        clock: Clock,
    ) -> None:
        super().__init__(store, cache, table, admits, clock)
        self._replay = replay

    async def explain(self, head: RequestHead, body: bytes) -> Explanation:
        """What would become of the request."""
        request = self._inward(head, body)
        policy = request.policy or UNLISTED
        found = Explanation("miss", head.method, head.target, policy.name, None, (), pattern=policy.match)
        try:
            self._admits(head)
            known = await self._replay.found(request)
        except Offline as missing:
            member = f"{cache_status.NAME}; fwd=bypass; detail={missing.code}"
            return replace(found, reasons=(f"504 {missing.code}: {missing.detail}",), cache_status=member)
        except Refusal as refused:
            said = f"refused with {refused.status} {refused.code}: {refused.detail}"
            return replace(found, outcome="pass", reasons=(said,))
        return replace(
            found, outcome="hit", reasons=(f"recorded in {readable(known.path)} (gateway.replay)",), cache_status=HIT
        )
