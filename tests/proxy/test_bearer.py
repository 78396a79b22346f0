"""The bearer goes in, and a 401 leads to one more attempt where that can be done (contract §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import AuthorizationRequired, OriginUnreachable, TokenUnavailable
from passoproxy.ports import Body, BytesBody, Request, Response, read_whole
from passoproxy.proxy.bearer import REPLAY_BYTES, Authorizer, token_to_send
from passoproxy.proxy.limiter import Limiter
from tests.fakes import BROKEN, ChunkedBody, FakeClock, ScriptedHop, request, response, settle

OLD, NEW = Bearer("old", 1), Bearer("new", 2)


class FakeBearers:
    """Has a bearer, or gives one to those who wait, and renews as it is told."""

    partition = "p"

    def __init__(
        self,
        current: Bearer | None = OLD,
        waited: Bearer | BaseException = OLD,
        renewed: Bearer | BaseException | None = NEW,
    ) -> None:
        self._current, self._waited, self._renewed = current, waited, renewed
        self.refused: list[Bearer] = []
        self.again: list[tuple[Bearer, str]] = []

    def current(self) -> Bearer | None:
        return self._current

    async def bearer(self) -> Bearer:
        return _given(self._waited)

    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
        if again:
            self.again.append((refused, path))
            return None
        self.refused.append(refused)
        self.path = path
        await asyncio.sleep(0)
        return None if self._renewed is None else _given(self._renewed)


def _given(what: Bearer | BaseException) -> Bearer:
    if isinstance(what, BaseException):
        raise what
    return what


def reading(answer: Callable[[bytes], Response]) -> tuple[list[bytes], object]:
    """A hop that reads the request's body before it answers."""
    got: list[bytes] = []

    class Hop:
        async def send(self, request: Request) -> Response:
            got.append(b"".join([part async for part in request.body]))
            return answer(got[-1])

    return got, Hop()


@dataclass
class Wire(ScriptedHop):
    """Where requests are written: notes the token that each goes out with."""

    bearers: FakeBearers = field(default_factory=FakeBearers)
    tokens: list[str] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.tokens.append(token_to_send(request.trail, self.bearers))
        return await super().send(request)


async def test_a_request_goes_out_with_the_bearer() -> None:
    hop, asked = Wire([response(200, body=b"x")]), request(fields=[("A", "b")])
    answer = await Authorizer(hop, hop.bearers).send(asked)
    assert answer.head.status == 200
    assert hop.seen == [asked]
    assert (hop.tokens, asked.trail.bearer) == (["old"], OLD)
    assert "old" not in repr(asked)


async def test_waits_where_there_is_none_yet() -> None:
    hop = Wire([response()], bearers=FakeBearers(current=None, waited=NEW))
    await Authorizer(hop, hop.bearers).send(request())
    assert hop.tokens == ["new"]


@pytest.mark.parametrize(
    ("bearers", "identity"),
    [
        (FakeBearers(), "p"),
        (FakeBearers(current=None, waited=NEW), ""),  # nobody can tell any more whose it was
        (FakeBearers(current=OLD, renewed=NEW), ""),
    ],
)
async def test_the_trail_tells_whose_bearer_it_was(bearers: FakeBearers, identity: str) -> None:
    hop = ScriptedHop([response(401), response(200)] if identity == "" and bearers.current() else [response(200)])
    asked = request()
    await Authorizer(hop, bearers).send(asked)
    assert asked.trail.authorized_as == identity


async def test_a_clients_own_authorization_is_nobodys_identity() -> None:
    asked = request(fields=[("Authorization", "Basic x")], policy=RoutePolicy(pass_client_authorization=True))
    await Authorizer(ScriptedHop([response(200)]), FakeBearers()).send(asked)
    assert asked.trail.authorized_as is None


@pytest.mark.parametrize("refusal", [AuthorizationRequired("log in"), TokenUnavailable("wait")])
async def test_without_a_bearer_nothing_is_sent(refusal: Exception) -> None:
    hop = ScriptedHop()
    with pytest.raises(type(refusal)):
        await Authorizer(hop, FakeBearers(current=None, waited=refusal)).send(request())
    assert hop.seen == []


async def test_a_401_leads_to_one_renewal_and_one_replay() -> None:
    first = ChunkedBody(b"refused", length=7)
    bearers = FakeBearers()
    hop = Wire([response(401, body=first), response(200)], bearers=bearers)
    asked = request("POST", body=b"body")
    answer = await Authorizer(hop, bearers).send(asked)
    assert answer.head.status == 200
    assert hop.tokens == ["old", "new"]
    assert [await read_whole(seen.body, 9) for seen in hop.seen] == [b"body", b"body"]
    assert hop.seen[0].body is not hop.seen[1].body
    assert (bearers.refused, first.closed, asked.trail.bearer) == ([OLD], True, NEW)


async def test_a_second_401_goes_to_the_client_and_renews_nothing() -> None:
    second = response(401, body=b"again")
    hop = ScriptedHop([response(401), second])
    bearers = FakeBearers()
    assert await Authorizer(hop, bearers).send(request()) is second
    assert len(bearers.refused) == 1
    assert bearers.again == [(NEW, bearers.path)], "the path is known as one that no newer token helps"
    await Authorizer(ScriptedHop([response(401), response(401)]), bearers).send(request(target="/?other=query"))
    assert bearers.again[1] == bearers.again[0]
    await Authorizer(ScriptedHop([response(401), response(200)]), bearers).send(request(target="/other"))
    assert bearers.path != bearers.again[0][1]
    assert len(bearers.again) == 2


async def test_a_401_passes_where_no_newer_bearer_can_be_had() -> None:
    refused = response(401, body=ChunkedBody(b"why"))
    answer = await Authorizer(ScriptedHop([refused]), FakeBearers(renewed=None)).send(request())
    assert answer.head is refused.head
    assert await read_whole(answer.body, 10) == b"why"
    broken = response(401, body=ChunkedBody(b"half", BROKEN))
    with pytest.raises(OriginUnreachable, match="broke off"):
        await Authorizer(ScriptedHop([broken]), FakeBearers(renewed=None)).send(request())


async def test_who_waits_for_a_refresh_holds_no_place_at_the_origin() -> None:
    renewing, waiting = asyncio.Event(), asyncio.Event()

    class Slow(FakeBearers):
        async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
            waiting.set()
            await renewing.wait()
            return await super().renewed(refused, path, again)

    hop = ScriptedHop([response(401, body=ChunkedBody(b"why")), response(200), response(200)])
    limiter = Limiter(hop, max_concurrency=1, queue_timeout=5, clock=FakeClock())
    sending = asyncio.create_task(Authorizer(limiter, Slow()).send(request()))
    await waiting.wait()
    assert limiter.snapshot().in_flight == 0
    assert (await Authorizer(limiter, FakeBearers()).send(request())).head.status == 200
    renewing.set()
    assert (await sending).head.status == 200


async def test_a_401_while_the_chain_is_dead_is_a_fault_for_the_cache() -> None:
    body = ChunkedBody(b"why")
    hop = ScriptedHop([response(401, body=body)])
    with pytest.raises(AuthorizationRequired):
        await Authorizer(hop, FakeBearers(renewed=AuthorizationRequired("dead"))).send(request())
    assert body.closed


async def test_a_client_that_leaves_while_the_pair_is_renewed_closes_the_401() -> None:
    body = ChunkedBody(b"why")
    task = asyncio.ensure_future(Authorizer(ScriptedHop([response(401, body=body)]), FakeBearers()).send(request()))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert body.closed


@pytest.mark.parametrize("body", [ChunkedBody(b"half", BROKEN), ChunkedBody(*[b"x" * 60_000] * 3)])
async def test_a_401_that_breaks_or_is_big_is_no_hindrance(body: ChunkedBody) -> None:
    hop = ScriptedHop([response(401, body=body), response(200)])
    assert (await Authorizer(hop, FakeBearers()).send(request())).head.status == 200
    assert body.closed


async def test_a_streamed_body_is_kept_and_sent_again() -> None:
    got, hop = reading(lambda body: response(401 if len(got) == 1 else 200))
    asked = request("POST", body=ChunkedBody(b"ab", b"c", b""))
    answer = await Authorizer(hop, FakeBearers()).send(asked)  # type: ignore[arg-type]
    assert answer.head.status == 200
    assert got == [b"abc", b"abc"]


async def test_what_was_not_read_at_the_first_attempt_follows_at_the_second() -> None:
    class Early:
        def __init__(self) -> None:
            self.got: list[bytes] = []

        async def send(self, request: Request) -> Response:
            assert request.body.length == 6
            if not self.got:
                self.got.append(await anext(request.body))
                return response(401)
            self.got.append(b"".join([part async for part in request.body]))
            return response(200)

    hop = Early()
    body = ChunkedBody(b"ab", b"cd", b"ef", length=6)
    assert (await Authorizer(hop, FakeBearers()).send(request("POST", body=body))).head.status == 200
    assert hop.got == [b"ab", b"abcdef"]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"x" * (REPLAY_BYTES + 1), 1),
        (b"x" * REPLAY_BYTES, 2),
        (ChunkedBody(*[b"x" * 1024] * 1024), 2),
        (ChunkedBody(*[b"x" * 1024] * 1024, b"x"), 1),
        (ChunkedBody(b"x", length=REPLAY_BYTES + 1), 1),
    ],
    ids=["bytes over", "bytes at", "stream at", "stream over", "said to be over"],
)
async def test_only_bodies_up_to_a_mebibyte_are_sent_again(body: bytes | Body, sent: int) -> None:
    got, hop = reading(lambda body: response(401))
    bearers = FakeBearers()
    answer = await Authorizer(hop, bearers).send(request("PUT", body=body))  # type: ignore[arg-type]
    assert answer.head.status == 401
    assert len(got) == sent
    assert got == [got[0]] * sent
    assert len(bearers.refused) == 1, "the pair is renewed for the others all the same"


async def test_kept_bodies_pass_the_close_on() -> None:
    inner = ChunkedBody(b"a", b"b")

    class Closing:
        async def send(self, request: Request) -> Response:
            await request.body.aclose()
            return response(401 if not inner.closed else 200)

    await Authorizer(Closing(), FakeBearers()).send(request("PUT", body=inner))
    assert inner.closed
    got: list[Request] = []

    class Twice:
        async def send(self, request: Request) -> Response:
            got.append(request)
            return response(401)

    again = ChunkedBody(b"a", b"b")
    await Authorizer(Twice(), FakeBearers()).send(request("PUT", body=again))
    await got[1].body.aclose()
    assert again.closed
    assert [part async for part in got[1].body] == []


PASSING = RoutePolicy(pass_client_authorization=True)


async def test_a_client_with_its_own_authorization_is_left_alone_where_the_route_says_so() -> None:
    hop = ScriptedHop([response(401)])
    bearers = FakeBearers(current=None, waited=AuthorizationRequired("log in"))
    asked = request(fields=[("Authorization", "Basic mine")], policy=PASSING)
    assert (await Authorizer(hop, bearers).send(asked)).head.status == 401
    assert hop.seen == [asked]
    assert (bearers.refused, asked.trail.bearer) == ([], None)


async def test_a_client_without_one_gets_ours_on_such_a_route_too() -> None:
    hop = Wire([response()])
    await Authorizer(hop, hop.bearers).send(request(policy=PASSING))
    assert hop.tokens == ["old"]


async def test_faults_of_the_origin_pass() -> None:
    hop = ScriptedHop([OriginUnreachable("away")])
    with pytest.raises(OriginUnreachable):
        await Authorizer(hop, FakeBearers()).send(request(body=BytesBody(b"")))


class Renewing(FakeBearers):
    """Has another bearer and another identity from one moment on."""

    def becomes(self, bearer: Bearer | None, partition: str = "p") -> None:
        self._current, self.partition = bearer, partition


async def queued(
    answers: list[Response], bearers: Renewing, *, then: Bearer | None, partition: str = "p", **more: object
) -> tuple[Wire, Request]:
    """What the origin sees of a request that waits for a place while another holds it, and the bearer becomes `then`."""
    hop = Wire([response(200, body=ChunkedBody(b"held")), *answers], bearers=bearers)
    limiter = Limiter(hop, max_concurrency=1, queue_timeout=5, clock=FakeClock())
    first = await Authorizer(limiter, bearers).send(request())
    asked = request("PUT", **more)  # type: ignore[arg-type]
    waiting = asyncio.create_task(Authorizer(limiter, bearers).send(asked))
    await settle()
    bearers.becomes(then, partition)
    await first.body.aclose()
    await waiting
    return hop, asked


async def test_a_bearer_that_was_replaced_in_the_queue_is_not_sent() -> None:
    body = b"x" * (REPLAY_BYTES + 1)  # it could not be sent again after a 401
    hop, asked = await queued([response(200)], Renewing(), then=NEW, body=body)
    assert hop.tokens == ["old", "new"]
    assert (asked.trail.bearer, asked.trail.authorized_as) == (NEW, "p")


async def test_what_was_asked_for_one_account_is_not_sent_as_another() -> None:
    hop, asked = await queued([response(200)], Renewing(), then=NEW, partition="q")
    assert hop.tokens == ["old", "old"]
    assert (asked.trail.bearer, asked.trail.authorized_as) == (OLD, "p")


async def test_the_bearer_that_was_sent_is_the_one_that_is_refused() -> None:
    bearers = Renewing(renewed=None)
    await queued([response(401)], bearers, then=NEW)
    assert [each.generation for each in bearers.refused] == [2]


async def test_one_that_ended_in_the_queue_is_sent_where_there_is_no_other() -> None:
    bearers = Renewing(renewed=None)
    hop, _ = await queued([response(401)], bearers, then=None)
    assert hop.tokens == ["old", "old"]
    assert bearers.refused == [OLD]


async def test_a_clients_own_authorization_stays_in_the_queue_too() -> None:
    fields = [("Authorization", "Basic mine")]
    hop, _ = await queued([response(200)], Renewing(), then=NEW, policy=PASSING, fields=fields)
    assert hop.tokens == ["old", ""]
