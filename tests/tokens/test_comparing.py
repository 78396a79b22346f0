"""A wrong clock is told once for each change, and nothing is reckoned by it."""

from __future__ import annotations

from passoproxy.core.events import Warned
from passoproxy.core.http.syntax import print_date
from passoproxy.ports import TokenReply
from passoproxy.tokens.provider_client import ClockWatch
from tests.fakes import RememberingObserver
from tests.tokens.life import Life

NOW = 1_800_000_000.0


def reply(offset: float | None) -> TokenReply:
    headers = (("Content-Type", "application/json"),)
    return TokenReply(
        200, headers if offset is None else (*headers, ("Date", print_date(NOW + offset))), b"{}", NOW, NOW
    )


def test_once_per_change():
    observer = RememberingObserver()
    comparing = ClockWatch(observer)
    for offset in (0, None, -600, -610, -600, None, 900, 20, 0, -600):
        comparing.look(reply(offset))
    told = [(each.code, each.detail) for each in observer.of(Warned)]
    assert {code for code, _ in told} == {"clock_wrong"}
    assert [each.over for each in observer.of(Warned)] == [False, False, True, False]
    assert [detail.partition(" (")[0] for _, detail in told] == [
        "this machine's clock is 599 s ahead of the provider's",
        "this machine's clock is 900 s behind the provider's",
        "the clock agrees with the provider's again",
        "this machine's clock is 599 s ahead of the provider's",
    ]


async def test_a_refresh_looks_and_the_pair_lives_by_its_own_clock():
    life = Life()
    keeper = await life.started_with_pair()
    real = life.rotating._reply
    life.rotating._reply = lambda status, body, sent_at: TokenReply(
        status, (*real(status, body, sent_at).headers, ("Date", print_date(sent_at - 7200))), body, sent_at, sent_at
    )
    await life.clock.advance(1450)
    assert [each.code for each in life.observer.of(Warned)] == ["clock_wrong"]
    assert keeper.snapshot().runway_seconds > 3580
    await life.stop()
