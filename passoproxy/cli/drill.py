"""`passoproxy drill`: failures rehearsed against the user's own configuration, with the sandbox as provider and origin."""

from __future__ import annotations

import difflib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from passoproxy.cli.options import ConfigOption, JsonOption, flag, load, option
from passoproxy.cli.output import note, progress, say, say_json, seconds, table
from passoproxy.errors import UsageFailure

if TYPE_CHECKING:
    from passoproxy.drill import Seen, Trial, Verdict

COLUMNS = ("trial", "pair", "stored", "new", "refreshes", "lowest", "what is tried")


_WIDE = 120
"""Columns of a terminal that has room for the last column."""


def drill(
    config: ConfigOption = None,
    fault: Annotated[
        list[str] | None,
        option("--fault", "NAME", "Only this trial; repeatable. Without a value: lists the trials."),
    ] = None,
    fast: Annotated[bool, flag("--fast", "Shorter lifetimes: under a minute in all.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Rehearse failures, and see what your settings survive.

    Your pair, state and origin are not touched.

    \b
    Example:
      passoproxy drill --fast --fault refresh_lost
    """
    from passoproxy.core.units import counted
    from passoproxy.drill import TRIALS, rehearse

    chosen = _chosen(TRIALS, fault or [])
    loaded = load(config, secrets=False)
    grant = loaded.settings.oauth.grant
    if grant != "authorization_code":
        why = (
            f"oauth.grant is {grant}"
            if loaded.settings.gateway.replay is None
            else "recordings answer (gateway.replay)"
        )
        say_json([]) if as_json else say(f"{why}: there is no pair that could be lost, so nothing to rehearse")
        return 0
    note(f"rehearsing {counted(len(chosen), 'failure')}, {'under a minute' if fast else 'a few minutes'} ...")
    with progress(len(chosen), "rehearsing") as advance:
        verdicts = rehearse(loaded, chosen, fast=fast, told=lambda each: advance(f"{each.name}: {each.pair}"))
    if as_json:
        say_json([{**asdict(each), "failed": each.failed} for each in verdicts])
    else:
        _show(verdicts)
    return 1 if any(each.failed for each in verdicts) else 0


def names() -> list[str]:
    """Every trial that `--fault` can name."""
    from passoproxy.drill import TRIALS

    return [each.name for each in TRIALS]


def _chosen(trials: Sequence[Trial], names: Sequence[str]) -> list[Trial]:
    known = {each.name: each for each in trials}
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
            raise UsageFailure(f"--fault {name!r} is no trial; {hint}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(trials)


def _show(verdicts: Sequence[Verdict]) -> None:
    narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE
    shown = len(COLUMNS) - narrow
    table(COLUMNS[:shown], [_row(each)[:shown] for each in verdicts], right=("lowest",), whole=COLUMNS[:-1])
    say(
        "stored: answers for a page that is in the cache; new: for pages that only the origin has; lowest: the shortest runway"
    )
    for each in verdicts:
        if each.again:
            say(f"{each.name}: played again; the machine was too busy at first to show anything about the pair")
        if each.why:
            must = "" if each.must_keep or each.pair == "kept" else " (nothing could have kept it)"
            say(f"{each.name}: {each.why}{must}")
    lost = [each.name for each in verdicts if each.failed]
    kept = sum(each.pair == "kept" for each in verdicts)
    say()
    if lost:
        say(f"{kept} of {len(verdicts)} kept; not kept, although it could have been: {', '.join(lost)}")
    else:
        say(f"{kept} of {len(verdicts)} kept; nothing was lost that could have been kept")


def _row(verdict: Verdict) -> tuple[str, ...]:
    replays = f", {verdict.replays} again" if verdict.replays else ""
    return (
        verdict.name,
        verdict.pair,
        _share(verdict.stored),
        _share(verdict.new),
        f"{verdict.refreshes}{replays}",
        seconds(verdict.lowest_runway),
        verdict.tried,
    )


def _share(seen: Seen | None) -> str:
    """`43 of 45`: of the requests that a daemon received."""
    return "-" if seen is None else f"{seen.answered} of {seen.answered + seen.refused}"
