"""Taping passes on what it is given, and has never seen a credential."""

from __future__ import annotations

from passoproxy.core.oauth.pair import Bearer
from passoproxy.proxy.bearer import Authorizing
from passoproxy.proxy.recorder import Taping
from tests.fakes import ScriptedHop, request, response


async def test_passes_on() -> None:
    asked, answer = request(), response()
    behind = ScriptedHop([answer])
    assert await Taping(behind).send(asked) is answer
    assert behind.seen == [asked]


async def test_stands_before_the_bearer_is_known() -> None:
    class OneBearer:
        partition = "p"

        def current(self) -> Bearer:
            return Bearer("planted")

        async def bearer(self) -> Bearer:
            return self.current()

        async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> None: ...

    seen = []

    class Watching(Taping):
        async def send(self, request):  # type: ignore[no-untyped-def]
            seen.append(request)
            return await super().send(request)

    origin = ScriptedHop([response()])
    await Watching(Authorizing(origin, OneBearer())).send(request())
    assert "Authorization" not in seen[0].head.fields
    assert origin.seen[0].head.fields["Authorization"] == "Bearer planted"
