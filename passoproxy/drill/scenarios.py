"""The table of trials: every fault of the sandbox, and what can happen to a daemon and its machine.

A trial ends when its outcome is plain; what that is worth is judged in `runner`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import Any

from passoproxy.drill.environment import Stage
from passoproxy.values import dataclass

Act = Callable[[Stage], Awaitable[None] | None]
Acts = Mapping[float, Act]
"""What is done when this share of the pair's lifetime is over."""


@dataclass(frozen=True, slots=True)
class Trial:
    """`tried` is what happens, for people. `play` has the acts and their times, or one act that is the whole trial.

    `options` are the sandbox's. `lost_answer`: keeping the pair takes presenting a token again. `hopeless` says why no client could keep it;
    '' if one can.
    """

    name: str
    tried: str
    play: Acts | Act
    options: dict[str, Any] = field(default_factory=dict)
    lost_answer: bool = False
    hopeless: str = ""

    async def run(self, stage: Stage) -> None:
        """Plays it. Raises ServiceUnreachable if a daemon does not start."""
        await stage.begin()
        acts = self.play if isinstance(self.play, Mapping) else {0.0: self.play}
        for share, act in acts.items():
            await stage.at(share)
            if (work := act(stage)) is not None:
                await work
        await stage.recovers()


# ---- acts ------------------------------------------------------------------------------------------------------------


def _arm(*faults: str) -> Act:
    return lambda stage: stage.sandbox.faults.arm(list(faults))


def _until(fault: str, share: float) -> Acts:
    """The fault lasts until `share` of the lifetime is over."""
    return {0.0: _arm(fault), share: _arm()}


def _once(fault: str) -> Act:
    """The fault strikes the first refresh."""

    async def act(stage: Stage) -> None:
        stage.sandbox.faults.arm([f"{fault}:1"])
        await stage.comes(lambda: stage.sandbox.faults.armed()[0].struck, stage.pace.real(1.1 * stage.lifetime))

    return act


def _step(seconds: float) -> Act:
    return lambda stage: stage.steps.add(seconds)


async def _last_step(stage: Stage) -> None:
    stage.steps.add(-86400.0)
    stage.generation = int((await stage.status(stage.first)).get("generation", 0))


async def _restart(stage: Stage) -> None:
    # a start takes no longer in compressed time, but would seem to: what it took before is allowed for
    await stage.at(0.85 - stage.start_took * stage.pace.speed / stage.lifetime)
    token = await stage.status(await stage.start())
    # refreshed on exit (oauth.refresh_on_exit), the pair is new already
    is_new = (token.get("runway_seconds") or 0.0) > 0.5 * stage.lifetime
    stage.generation = 0 if is_new else token.get("generation", 0)


async def _kill(stage: Stage) -> None:
    """Five refreshes in a row, each killed a little later after its arrival at the provider than the one before."""
    stage.generation = 0
    for real_delay in (0.0, 0.001, 0.003, 0.008, 0.02):
        if (await stage.recovers()).get("chain") == "dead":
            return
        arrived = len(stage.refreshes())
        await stage.comes(
            lambda arrived=arrived: len(stage.refreshes()) > arrived,  # type: ignore[misc]
            stage.pace.real(stage.lifetime),
        )
        await asyncio.sleep(real_delay)
        await stage.first.end(signal.SIGKILL)
        await stage.start()


async def _second(stage: Stage) -> None:
    await stage.start("second")


REPLAYS = {"allow_replays": 1}
TRIALS = (
    Trial("refresh_lost", "the answer to a refresh is lost", _once("refresh_lost"), REPLAYS, lost_answer=True),
    Trial(
        "refresh_lost_for_good",
        "the same, at a provider that takes no token twice",
        _once("refresh_lost"),
        hopeless="the provider has spent the token, and its answer with the new one is lost",
    ),
    Trial("refresh_garbage", "a refresh is answered with garbage", _once("refresh_garbage"), REPLAYS, lost_answer=True),
    Trial("refresh_slow", "a refresh is answered after 8 s", _once("refresh_slow"), {"slow_seconds": 8.0}),
    Trial("refresh_5xx", "the provider fails for 90 % of the lifetime", _until("refresh_5xx", 0.9)),
    Trial("refresh_429", "the provider is throttled for 80 % of the lifetime", _until("refresh_429", 0.8)),
    Trial("refresh_redirect", "the provider redirects for 80 % of the lifetime", _until("refresh_redirect", 0.8)),
    Trial(
        "provider_away",
        "no connection to the provider for 90 % of the lifetime",
        {0.0: lambda stage: stage.provider.close(), 0.9: lambda stage: stage.provider.open()},
    ),
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
    Trial(
        "full_disk",
        "no byte can be written until after the pair's end",
        {0.0: lambda stage: stage.first.limit_files(0), 1.15: lambda stage: stage.first.limit_files(-1)},
    ),
    Trial(
        "clock_step",
        "the clock steps by 10 minutes and by a day, both ways",
        {0.1: _step(600.0), 0.2: _step(-600.0), 0.3: _step(86400.0), 0.6: _last_step},
    ),
    Trial(
        "suspend",
        "the daemon is frozen for 60 % of the lifetime",
        {0.2: lambda stage: stage.first.send(signal.SIGSTOP), 0.8: lambda stage: stage.first.send(signal.SIGCONT)},
    ),
    Trial(
        "restart",
        "the daemon is down from 30 % to 85 % of the lifetime",
        {0.3: lambda stage: stage.first.end(signal.SIGTERM), 0.31: _restart},
    ),
    Trial(
        "two_instances",
        "two daemons on one folder, the owner is killed",
        {0.0: _second, 0.2: lambda stage: stage.first.end(signal.SIGKILL)},
        REPLAYS,
        lost_answer=True,
    ),
    Trial("kill", "kill -9 during five refreshes", _kill, REPLAYS, lost_answer=True),
)
