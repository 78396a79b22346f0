"""`passoproxy doctor`: tries every step, and says what to do for each that fails."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, load, option
from passoproxy.cli.output import coloured, hung, say, say_json
from passoproxy.errors import AccessDenied, BadRequest, ConfigurationError, NotRunning, PassoproxyError, UsageFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from passoproxy.doctor import Finding

_MARKS = {"ok": ("✓", "32"), "warning": ("!", "33"), "failed": ("✗", "31"), "skipped": ("-", "2")}
_WIDTH = len("disk of cache.directory")
"""Of the longest name of a check."""


def doctor(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    path: Annotated[
        str,
        option("--path", "/PATH", "What the one request asks for. Else: a list of languages, or / of another service."),
    ] = "",
) -> None:
    """Try every step up to an answer, and say what to do.

    Each step that fails has its remedy. Exit 1 if one fails.

    \b
    Example:
      passoproxy doctor --path /api/v2/languages
    """
    import asyncio

    from passoproxy.core.http.request_line import parse_target
    from passoproxy.doctor import Finding, Verdict

    if path and not path.startswith("/"):
        raise UsageFailure(f"--path: {path!r} does not begin with /; write it without scheme and host")
    try:
        parse_target("GET", path or "/")
    except BadRequest as refusal:
        raise UsageFailure(f"--path: {path!r}: {refusal.detail}") from refusal
    found: list[Finding] = []
    code = 0
    try:
        asyncio.run(_told(config, state, path, found, as_json))
    except ConfigurationError as error:
        code = error.exit_code
        for fault in error.faults:
            problem = str(fault).removesuffix(f"; {fault.remedy}")
            found.append(Finding("configuration", Verdict.FAILED, problem, fault.remedy))
            _say(found[-1], as_json)
    failed = sum(each.verdict is Verdict.FAILED for each in found)
    warned = sum(each.verdict is Verdict.WARNING for each in found)
    if as_json:
        findings = [{**asdict(each), "verdict": each.verdict.value} for each in found]
        say_json({"ok": not failed, "failed": failed, "warnings": warned, "findings": findings})
    else:
        say(
            f"\n{_count(failed, 'step')} failed, {_count(warned, 'warning')}"
            if failed
            else f"\nall steps work, {_count(warned, 'warning')}"
        )
    raise typer.Exit(code or (1 if failed else 0))


async def _told(config: Path | None, state: Path | None, path: str, found: list[Finding], as_json: bool) -> None:
    async for finding in _found(config, state, path):
        found.append(finding)
        _say(finding, as_json)


async def _found(config: Path | None, state: Path | None, path: str) -> AsyncIterator[Finding]:
    import asyncio

    from passoproxy.cli.client import meant
    from passoproxy.doctor import Finding, Verdict, Visit, examined

    loaded = load(config, state=state)
    usual = "/api/v2/languages" if loaded.settings.provider == "passolution" else "/"
    status = None
    try:
        status = dict(await asyncio.to_thread(lambda: meant(config, state).ask("GET", "/api/status")))
    except NotRunning:
        yield Finding("daemon", Verdict.SKIPPED, "none runs on these folders", "start it with 'passoproxy serve'")
    except AccessDenied as error:
        yield Finding("daemon", Verdict.SKIPPED, str(error), "run this as the user of the daemon, or as root")
    except PassoproxyError as error:
        yield Finding("daemon", Verdict.FAILED, str(error), "see its log, or restart it")
    async for each in examined(Visit(loaded, status, path or usual)):
        yield each


def _say(finding: Finding, as_json: bool) -> None:
    if as_json:
        return
    word = finding.verdict.value
    if not sys.stdout.isatty():
        say("\t".join((word, finding.check, finding.seen, finding.remedy)).rstrip())
        return
    coloured(*_MARKS[word], hung(f"  {finding.check:<{_WIDTH}} {finding.seen}", _WIDTH + 3).lstrip())
    if finding.remedy:
        say(f"  {'':<{_WIDTH}} → {finding.remedy}")  # not broken: it may be a command to paste


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
