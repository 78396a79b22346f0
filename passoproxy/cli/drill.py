"""`passoproxy drill`: failures rehearsed against the user's own configuration, with the sandbox as provider and origin."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, load
from passoproxy.cli.speaking import note, say, say_json, seconds, table
from passoproxy.errors import UsageFailure

if TYPE_CHECKING:
    from passoproxy.drill import Trial, Verdict

COLUMNS = ("trial", "tried", "pair", "clients", "refreshes", "lowest runway", "runway left")


def drill(
    config: ConfigOption = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="NAME", help="Only this trial; repeatable. Without a name: which there are."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Shorter lifetimes: under a minute in all.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Rehearse failures with your configuration, and see what would survive. Your pair, state and origin are not touched."""
    from passoproxy.drill import TRIALS, rehearse

    chosen = _chosen(TRIALS, fault or [])
    loaded = load(config, secrets=False)
    grant = loaded.settings.oauth.grant
    if grant != "authorization_code":
        say_json([]) if as_json else say(
            f"oauth.grant is {grant}: there is no pair that could be lost, so nothing to rehearse"
        )
        return 0
    with _progress(chosen, fast) as told:
        verdicts = rehearse(loaded, chosen, fast=fast, told=told)
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


@contextlib.contextmanager
def _progress(trials: Sequence[Trial], fast: bool) -> Iterator[Callable[[Verdict], None]]:
    """A bar on a terminal, one line in a pipe."""
    if not sys.stderr.isatty():
        note(f"rehearsing {len(trials)} failures, {'under a minute' if fast else 'a few minutes'} ...")
        yield lambda verdict: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("rehearsing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(trials))
        yield lambda verdict: bar.update(task, advance=1, description=f"{verdict.name}: {verdict.pair}")


def _show(verdicts: Sequence[Verdict]) -> None:
    table(COLUMNS, [_row(each) for each in verdicts], right=("refreshes", "lowest runway", "runway left"))
    for each in verdicts:
        if each.again:
            say(f"{each.name}: played again; the machine was too busy at first to tell anything of the pair")
        if each.why:
            say(f"{each.name}: {each.why}")
    lost = [each.name for each in verdicts if each.failed]
    kept = sum(each.pair == "kept" for each in verdicts)
    say()
    if lost:
        say(f"{kept} of {len(verdicts)} kept; not kept, although it could have been: {', '.join(lost)}")
    else:
        say(f"{kept} of {len(verdicts)} kept; nothing was lost that could have been kept")


def _row(verdict: Verdict) -> tuple[str, ...]:
    pair = verdict.pair if verdict.must_keep or verdict.pair == "kept" else f"{verdict.pair}, as it must be"
    replays = f", {verdict.replays} again" if verdict.replays else ""
    clients = [f"{verdict.answered} answered"]
    if verdict.refused:
        clients.append(f"{verdict.refused} refused")
    if verdict.away:
        clients.append(f"{verdict.away} while it was down")
    return (
        verdict.name,
        verdict.tried,
        pair,
        ", ".join(clients),
        f"{verdict.refreshes}{replays}",
        seconds(verdict.lowest_runway),
        seconds(verdict.runway),
    )
