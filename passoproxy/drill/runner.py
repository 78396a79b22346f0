"""Plays the trials, several at once, and judges each: what became of the pair, what clients saw, the runway that was left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from passoproxy.config.load import Loaded
from passoproxy.drill.environment import Stage, set_up, stage_folder
from passoproxy.drill.scenarios import Trial
from passoproxy.drill.time_compression import Pace
from passoproxy.errors import PassoproxyError
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.values import dataclass

SPEED = 60.0
"""An hour in a minute. Not more: the minute that a token request may take must stay a real second, or a busy machine would fail trials."""

TOO_LATE = 0.1
"""Real seconds by which the machine may be late; a token request has one at most, and a fifth of one at the runway's end."""

PLAYED_AT_MOST = 3
"""How often a trial is played on a machine that is too busy."""

LIFETIME = 3600.0
LIFETIME_FAST = 600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients got: answers, refusals (broken transfers too), and nothing because no daemon was there."""

    answered: int = 0
    refused: int = 0
    away: int = 0

    @classmethod
    def of(cls, counted: Mapping[str, int]) -> Seen:
        """From the counts of a stage, by status or by what came in the place of an answer."""
        answered = sum(count for word, count in counted.items() if word.isdigit() and int(word) < 400)
        away = counted.get("away", 0)
        return cls(answered, sum(counted.values()) - answered - away, away)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one trial came to. Times are seconds as the daemon counted them.

    `stored` is what clients got of a page that was in the cache before (None: the routes store none), `new` of pages that only the origin has.

    `pair` is kept, lost or unknown (the trial could not be played; `why` says more). `must_keep`: the protocol allows it to be kept.
    """

    name: str
    tried: str
    pair: str
    must_keep: bool
    why: str
    refreshes: int
    replays: int
    new: Seen
    stored: Seen | None
    lowest_runway: float | None
    runway: float | None
    lifetime: float
    again: bool = False
    """Whether the machine was too busy at first, so that the trial was played once more."""

    @property
    def failed(self) -> bool:
        """Whether something was lost that could have been kept."""
        return self.must_keep and self.pair != "kept"


def rehearse(
    loaded: Loaded,
    trials: Sequence[Trial],
    *,
    fast: bool = False,
    told: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Plays `trials` with the user's configuration; `told` hears of each as it ends. Raises CannotCreate if there is no folder for it."""
    with stage_folder(loaded.settings.state.folder) as folder:
        for trial in trials:
            for name in _folders(trial):
                (Path(folder) / name).mkdir(mode=0o700)
        try:
            return asyncio.run(_all(loaded, trials, Path(folder), LIFETIME_FAST if fast else LIFETIME, told))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None  # ended by SIGTERM, with everything cleared away


async def _all(
    loaded: Loaded, trials: Sequence[Trial], folder: Path, lifetime: float, told: Callable[[Verdict], None]
) -> list[Verdict]:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    places = asyncio.Semaphore(max(6, 6 * (os.cpu_count() or 1)))
    alone = asyncio.Lock()

    async def one(trial: Trial) -> Verdict:
        async with places:
            verdict, late = await _played(loaded, trial, folder / trial.name, lifetime)
        for name in _folders(trial)[1:]:
            if not verdict.failed or late <= TOO_LATE:
                break
            # a machine that was too busy says nothing of the pair: once more, with fewer beside it
            async with alone:
                verdict, late = await _played(loaded, trial, folder / name, lifetime)
            verdict = replace(verdict, again=True)
        told(verdict)
        return verdict

    return list(await asyncio.gather(*map(one, trials)))


def _folders(trial: Trial) -> list[str]:
    """One for each time that it may be played."""
    return [trial.name, *(f"{trial.name}-again-{turn}" for turn in range(1, PLAYED_AT_MOST))]


async def _played(loaded: Loaded, trial: Trial, folder: Path, lifetime: float) -> tuple[Verdict, float]:
    """The verdict, and by how many real seconds the machine was late while it was played."""
    options = SandboxOptions(port=0, lifetime=lifetime, token_requests_per_minute=0, **trial.options)
    async with set_up(loaded.settings, folder, Pace.from_now(SPEED), options) as stage:
        client = asyncio.create_task(stage.keep_asking())
        why = ""
        try:
            await trial.run(stage)
        except (PassoproxyError, OSError) as fault:
            why = str(fault)
        finally:
            client.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await client
        return _judged(loaded, trial, stage, why), stage.late.seconds


def _judged(loaded: Loaded, trial: Trial, stage: Stage, fault: str) -> Verdict:
    token = stage.last
    kept = token.get("chain") == "healthy" and not fault
    never = loaded.settings.oauth.lost_answer_replay == "never"
    hopeless = trial.hopeless or ("oauth.lost_answer_replay is never" if trial.lost_answer and never else "")
    why = fault or ("" if kept else hopeless or str(token.get("reason", "")))
    tokens = [each.describe() for each in stage.sandbox.journal.tokens()]
    return Verdict(
        name=trial.name,
        tried=trial.tried,
        pair="unknown" if fault else "kept" if kept else "lost",
        must_keep=not hopeless,
        why=why,
        refreshes=len(stage.refreshes()),
        replays=sum(int(str(each["replays"])) for each in tokens),
        new=Seen.of(stage.seen),
        stored=Seen.of(stage.seen_stored) if stage.stored is not None else None,
        lowest_runway=stage.lowest_runway,
        runway=token.get("runway_seconds"),
        lifetime=stage.lifetime,
    )
