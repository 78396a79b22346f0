"""What is rehearsed: every fault of the sandbox, and what can happen to a daemon and its machine.

A trial plays on a stage and leaves it when it is plain how it ends; what that is worth is judged in `rehearsing`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from passoproxy.drill.environment import Stage

Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trial:
    """`tried` is what happens, for people. `options` are the sandbox's.

    `lost_answer`: keeping the pair takes presenting a token again. `hopeless` says why no client could keep it; '' where one can.
    """

    name: str
    tried: str
    play: Play
    options: dict[str, Any] = field(default_factory=dict)
    lost_answer: bool = False
    hopeless: str = ""


REPLAYS = {"allow_replays": 1}


def _once(fault: str) -> Play:
    """The fault strikes the first refresh."""

    async def play(stage: Stage) -> None:
        first = await stage.enter(pair=True)
        stage.sandbox.faults.arm([f"{fault}:1"])
        generation = await stage.generation(first)
        await stage.comes(lambda: stage.sandbox.faults.armed()[0].struck, stage.pace.real(1.1 * stage.lifetime))
        await stage.recovers(generation, 1.0)

    return play


def _until(fault: str, share: float) -> Play:
    """The fault lasts until `share` of the lifetime is over."""

    async def play(stage: Stage) -> None:
        first = await stage.enter(pair=True)
        stage.sandbox.faults.arm([fault])
        generation = await stage.generation(first)
        await stage.at(share)
        stage.sandbox.faults.arm([])
        await stage.recovers(generation)

    return play


async def _unreachable(stage: Stage) -> None:
    first = await stage.enter(pair=True)
    generation = await stage.generation(first)
    await stage.relay.close()
    await stage.at(0.9)
    await stage.relay.open()
    await stage.recovers(generation)


async def _full_disk(stage: Stage) -> None:
    first = await stage.enter(pair=True)
    generation = await stage.generation(first)
    stage.limit_files(first, 0)
    await stage.at(1.15)
    stage.limit_files(first, -1)
    await stage.recovers(generation)


async def _clock_step(stage: Stage) -> None:
    first = await stage.enter(pair=True)
    for share, seconds in ((0.1, 600.0), (0.2, -600.0), (0.3, 86400.0), (0.6, -86400.0)):
        await stage.at(share)
        stage.steps.add(seconds)
    generation = await stage.generation(first)
    await stage.recovers(generation, 1.0)


async def _suspend(stage: Stage) -> None:
    first = await stage.enter(pair=True)
    generation = await stage.generation(first)
    await stage.at(0.2)
    first.send(signal.SIGSTOP)
    await stage.at(0.8)
    first.send(signal.SIGCONT)
    await stage.recovers(generation)


async def _two_instances(stage: Stage) -> None:
    first = await stage.enter(pair=True)
    generation = await stage.generation(first)
    await stage.enter("second")
    await stage.at(0.2)
    await first.end(signal.SIGKILL)
    await stage.recovers(generation, 1.0)


async def _kill(stage: Stage) -> None:
    """Five refreshes in a row, each killed a little later than the one before: from its arrival at the provider on."""
    actor = await stage.enter(pair=True)
    for real_delay in (0.0, 0.001, 0.003, 0.008, 0.02):
        token = await stage.recovers(0)
        if token.get("chain") == "dead":
            return
        arrived = len(stage.refreshes())
        await stage.comes(
            lambda arrived=arrived: len(stage.refreshes()) > arrived,  # type: ignore[misc]
            stage.pace.real(stage.lifetime),
        )
        await asyncio.sleep(real_delay)
        await actor.end(signal.SIGKILL)
        actor = await stage.enter()
    await stage.recovers(0)


async def _restart(stage: Stage) -> None:
    first = await stage.enter(pair=True)
    await stage.at(0.3)
    await first.end(signal.SIGTERM)  # which may renew the pair: oauth.refresh_on_exit
    # a start takes no longer in compressed time, but would seem to: what it took before is allowed for
    await stage.at(0.85 - stage.start_took * stage.pace.speed / stage.lifetime)
    token = await stage.status(await stage.enter())
    is_new = (token.get("runway_seconds") or 0.0) > 0.5 * stage.lifetime
    await stage.recovers(0 if is_new else token.get("generation", 0))


TRIALS = (
    Trial("refresh_lost", "the answer to a refresh is lost", _once("refresh_lost"), REPLAYS, lost_answer=True),
    Trial(
        "refresh_lost_for_good",
        "the same, at a provider that takes no token twice",
        _once("refresh_lost"),
        hopeless="the provider has spent the token and told nobody the new one",
    ),
    Trial("refresh_garbage", "a refresh is answered with garbage", _once("refresh_garbage"), REPLAYS, lost_answer=True),
    Trial("refresh_slow", "a refresh is answered after 8 s", _once("refresh_slow"), {"slow_seconds": 8.0}),
    Trial("refresh_5xx", "the provider fails for 90 % of the lifetime", _until("refresh_5xx", 0.9)),
    Trial("refresh_429", "the provider is throttled for 80 % of the lifetime", _until("refresh_429", 0.8)),
    Trial("refresh_redirect", "the provider redirects for 80 % of the lifetime", _until("refresh_redirect", 0.8)),
    Trial("provider_away", "no connection to the provider for 90 % of the lifetime", _unreachable),
    Trial("no_expires_in", "an answer without a lifetime", _once("no_expires_in")),
    Trial("expires_in_string", "an answer with its lifetime as text", _once("expires_in_string")),
    Trial("no_new_refresh_token", "an answer without a new refresh token", _once("no_new_refresh_token")),
    Trial("origin_401", "the origin refuses valid tokens for half a lifetime", _until("origin_401", 0.5)),
    Trial("origin_429", "the origin is throttled for half a lifetime", _until("origin_429", 0.5)),
    Trial("origin_5xx", "the origin fails for half a lifetime", _until("origin_5xx", 0.5)),
    Trial("origin_slow", "the origin is slow for half a lifetime", _until("origin_slow", 0.5)),
    Trial("origin_reset_midbody", "the origin resets answers for half a lifetime", _until("origin_reset_midbody", 0.5)),
    Trial("origin_truncated", "the origin cuts answers off for half a lifetime", _until("origin_truncated", 0.5)),
    Trial("revoked", "the owner withdraws the grant", _once("revoked"), hopeless="the owner has withdrawn the grant"),
    Trial("full_disk", "no byte can be written until after the pair's end", _full_disk),
    Trial("clock_step", "the clock steps by 10 minutes and by a day, both ways", _clock_step),
    Trial("suspend", "the daemon is frozen for 60 % of the lifetime", _suspend),
    Trial("restart", "the daemon is down from 30 % to 85 % of the lifetime", _restart),
    Trial("two_instances", "two daemons on one folder, the owner is killed", _two_instances, REPLAYS, lost_answer=True),
    Trial("kill", "kill -9 during five refreshes", _kill, REPLAYS, lost_answer=True),
)
