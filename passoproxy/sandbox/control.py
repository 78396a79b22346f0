"""The sandbox's own controls under `/__sandbox/`: faults, changes, and the journal."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from aiohttp import web

from passoproxy.sandbox.data.countries import countries
from passoproxy.sandbox.faults import FAULTS, FaultSet
from passoproxy.sandbox.journal import Journal, Noted
from passoproxy.sandbox.origin.changes import Changes

_PART = 500


class _Unusable(Exception):
    """A control request that cannot be carried out; its text says why."""


class Control:
    """Switches and looks at a running sandbox."""

    def __init__(self, faults: FaultSet, changes: Changes, journal: Journal) -> None:
        self._faults, self._changes, self._journal = faults, changes, journal

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/__sandbox/faults", self.show_faults),
            web.post("/__sandbox/faults", self.arm),
            web.post("/__sandbox/changes", self.change),
            web.get("/__sandbox/journal", self.show_journal),
            web.delete("/__sandbox/journal", self.clear_journal),
        ]

    async def show_faults(self, request: web.Request) -> web.StreamResponse:
        """What is armed, how often it will still strike (null: until switched off), how often it did; and all names."""
        return _json({"faults": [asdict(fault) for fault in self._faults.armed()], "known": FAULTS})

    async def arm(self, request: web.Request) -> web.StreamResponse:
        """`{"faults": ["NAME:N", …]}` replaces the whole set."""
        try:
            texts = _words(await _members(request, {"faults"}), "faults")
            self._faults.arm(texts)
        except (_Unusable, ValueError) as refused:
            return _json({"error": str(refused)}, 400)
        return await self.show_faults(request)

    async def change(self, request: web.Request) -> web.StreamResponse:
        """`{"countries": ["TR"], "important": true}` changes what is said about destinations."""
        try:
            members = await _members(request, {"countries", "important"})
            codes = [code.upper() for code in _words(members, "countries")]
            important = members.get("important", True)
            if not isinstance(important, bool):
                raise _Unusable("important must be true or false")
            for code in codes:
                if code not in countries():
                    raise _Unusable(f"no such country: {code!r}; known are {', '.join(countries())}")
        except _Unusable as refused:
            return _json({"error": str(refused)}, 400)
        self._changes.mark(codes, important=important)
        return _json({"countries": codes, "important": important})

    async def show_journal(self, request: web.Request) -> web.StreamResponse:
        """Requests from index `since` on, every token, and the index to go on from."""
        since = request.query.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            return _json({"error": "since must be a whole number from 0"}, 400)
        requests, following = self._journal.requests(int(since)), self._journal.next_index
        answer = web.StreamResponse(headers={"Cache-Control": "no-store", "Content-Type": "application/json"})
        await answer.prepare(request)
        await answer.write(b'{"requests": [')
        await _write(answer, requests)
        await answer.write(b'], "tokens": [')
        await _write(answer, self._journal.tokens())
        await answer.write(f'], "next": {following}}}'.encode())
        return answer

    async def clear_journal(self, request: web.Request) -> web.StreamResponse:
        self._journal.clear()
        return web.Response(status=204)


async def _write(answer: web.StreamResponse, items: Sequence[Noted]) -> None:
    """Writes the items of a JSON list in parts: a long journal is larger than what should be sent, or held, at once."""
    for start in range(0, len(items), _PART):
        part = json.dumps([item.describe() for item in items[start : start + _PART]])[1:-1]
        await answer.write(f"{', ' if start else ''}{part}".encode())


async def _members(request: web.Request, known: set[str]) -> dict[str, object]:
    try:
        members = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise _Unusable("the body must be JSON") from None
    if not isinstance(members, dict):
        raise _Unusable("the body must be a JSON object")
    for name in members:
        if name not in known:
            raise _Unusable(f"unknown member {name!r}; known are {', '.join(sorted(known))}")
    return members


def _words(members: dict[str, object], name: str) -> list[str]:
    value = members.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Unusable(f"{name} must be a list of strings")
    return value


def _json(members: dict[str, object], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, text=json.dumps(members), content_type="application/json", headers=headers)
