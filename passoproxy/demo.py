"""`passoproxy demo`: sandbox and an authorised proxy in front of it, on free ports, with sample requests; no account is needed.

Everything lives in one temporary folder and one process, and is removed at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import html.parser
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp

from passoproxy.compose import Wired
from passoproxy.config.load import load
from passoproxy.core.units import duration
from passoproxy.daemon import Daemon
from passoproxy.errors import CommandFailure, UsageFailure
from passoproxy.host.system import free_ports
from passoproxy.sandbox.app import Sandbox
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.values import dataclass

SAMPLES = (
    ("Conditions", "/api/v2/content/all/html?lang=en&countries=TR&nat=DE"),
    ("Entry", "/api/v2/content/entry/json?lang=en&countries=TR&nat=DE"),
    ("Visa", "/api/v2/content/visa/html?lang=en&countries=US&nat=DE"),
    ("Transit visa", "/api/v2/content/transit_visa/html?lang=en&countries=AE&nat=IN"),
    ("Health", "/api/v2/content/health/json?lang=en&countries=ZA"),
    ("Overview", "/api/v2/content/overview/json?lang=de&destinations=JP&nationalities=AT"),
    ("Conditions as PDF", "/api/v2/content/all/pdf?lang=en&countries=TR&nat=DE"),
)

LIFETIME = 300.0
"""Seconds that the sandbox's tokens live unless another time is asked for: short enough that a renewal can be watched."""

_CONFIGURATION = """\
provider: passolution
upstream: {{url: "{origin}"}}
oauth:
  authorization_url: {origin}/oauth/authorize
  token_url: {origin}/oauth/token
  revocation_url: {origin}/oauth/revoke
  client_id: demo
  client_secret: demo
  redirect_url: http://127.0.0.1:{admin}/oauth/callback
server: {{listen: "127.0.0.1:{proxy}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
state: {{directory: "{folder}/state"}}
cache: {{directory: "{folder}/cache"}}
log: {{level: error, access: false}}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What came back for one request. `seconds` is the time to the last byte."""

    name: str
    turn: str
    status: int
    cache_status: str
    seconds: float
    size: int
    runway: float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything of a running demo is."""

    origin: str
    proxy: str
    admin: str
    wired: Wired


def run(*, lifetime: float = LIFETIME, stay: bool = True) -> int:
    """Shows the product; ends on Ctrl-C, or after the sample requests unless `stay`. The exit code."""
    return asyncio.run(_show(lifetime, stay))


@contextlib.asynccontextmanager
async def stage(lifetime: float) -> AsyncIterator[Stage]:
    """Sandbox and authorised proxy, running. Raises UsageFailure for a `lifetime` (seconds) that no token can have."""
    try:
        sandbox = Sandbox(SandboxOptions(port=0, lifetime=lifetime))
    except ValueError as error:
        raise UsageFailure(str(error)) from error
    origin = await sandbox.start()
    try:
        with tempfile.TemporaryDirectory(prefix="passoproxy-demo-") as name:
            proxy, admin = free_ports(2)
            config = Path(name) / "config.yaml"
            text = _CONFIGURATION.format(origin=origin, proxy=proxy, admin=admin, folder=name)
            config.write_bytes(b"")
            config.chmod(0o600)
            config.write_text(text)
            async with Daemon(load(config, _environment())).running() as wired:
                await authorise(wired)
                yield Stage(origin, f"http://127.0.0.1:{proxy}", f"http://127.0.0.1:{admin}/", wired)
    finally:
        await sandbox.close()


async def ask_twice(at: Stage) -> list[Sample]:
    """Each sample request twice: the first answer comes from the origin, the second from the cache."""
    samples = []
    async with aiohttp.ClientSession(trust_env=False) as session:
        for name, target in SAMPLES:
            for turn in ("first", "second"):
                began = time.perf_counter()
                async with session.get(at.proxy + target) as answer:
                    body = await answer.read()
                    took = time.perf_counter() - began
                runway = at.wired.keeper.snapshot().runway_seconds
                samples.append(
                    Sample(name, turn, answer.status, answer.headers.get("Cache-Status", ""), took, len(body), runway)
                )
    return samples


async def _show(lifetime: float, stay: bool) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last where its terminal is closed
        loop.add_signal_handler(each, ended.set)
    async with stage(lifetime) as at:
        _say_where(at, stay)
        samples = await ask_twice(at)
        _say_samples(samples)
        good = all(sample.status == 200 for sample in samples)
        if not good:
            raise CommandFailure("not every sample was answered with 200; run the demo again with --debug")
        if stay:
            _say(
                "\nIt stays until you press Ctrl-C: paste a request, open the status page. This\n"
                f"link opens it with its buttons, once, within ten minutes:\n\n  {at.wired.pages.link().url}\n\n"
                f"Its tokens live for {duration(lifetime)}: within {duration(0.4 * lifetime)} the page shows the pair being\n"
                "renewed (other lifetimes: .venv/bin/passoproxy demo --lifetime 1h)."
            )
            await ended.wait()
            _say("\nGone. Nothing was left behind.")
    return 0


def _environment() -> dict[str, str]:
    """Ours, without what configures a daemon of the person's own."""
    gone = ("PASSOPROXY_", "CREDENTIALS_DIRECTORY")
    return {name: value for name, value in os.environ.items() if not name.startswith(gone)}


async def authorise(wired: Wired) -> None:
    """Logs in as a person would. Raises CommandFailure where the sandbox does not approve."""
    back = await decide((await wired.control.begin_login()).url, "approve")
    if "code=" not in back:
        raise CommandFailure("the sandbox did not approve; run the demo again with --debug")
    await wired.control.complete_login(back)


async def decide(url: str, decision: str) -> str:
    """Does what a person does in the browser: opens the provider's page and presses a button; the address that it leads to."""
    async with aiohttp.ClientSession(trust_env=False) as session:
        async with session.get(url) as page:
            form = _Form(await page.text())
        async with session.post(
            urljoin(url, form.action), data={**form.fields, "decision": decision}, allow_redirects=False
        ) as answer:
            return answer.headers.get("Location", "")


class _Form(html.parser.HTMLParser):
    """The hidden fields and the action of a page's form."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = found.get("action", "")
        elif tag == "input" and "name" in found:
            self.fields[found["name"]] = found.get("value", "")


# ---- what is said ----------------------------------------------------------------------------------------------------


def _say(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201 the terminal is this command's business


def _say_where(at: Stage, stay: bool) -> None:
    _say("passoproxy demo: a simulated provider and API behind an authorised proxy\n")
    _say(f"  proxy        {at.proxy}   for applications, without OAuth")
    _say(f"  status page  {at.admin}  the runway, the cache, live traffic")
    _say(f"  sandbox      {at.origin}   the simulated Dataservice")
    _say(f"  its journal  {at.origin}/__sandbox/journal   what arrived there\n")
    _say("Requests to paste:\n" if stay else "Requests:\n")
    for name, target in SAMPLES:
        # the head goes to the terminal, and the file holds the document alone
        how = "-D - -o conditions.pdf" if target.split("?")[0].endswith("/pdf") else "-i"
        request = f"curl {how} '{at.proxy}{target}'" if stay else f"GET {target}"
        _say(f"  # {name}\n  {request}")
    _say("\nEach of them asked twice:\n")


_COLUMNS = ("resource", "status", "Cache-Status", "time", "size", "runway")


def _say_samples(samples: list[Sample]) -> None:
    rows = [
        (
            sample.name if sample.turn == "first" else "",
            str(sample.status),
            sample.cache_status.removeprefix("passoproxy; "),
            f"{sample.seconds * 1000:.1f} ms",
            f"{sample.size:,} B",
            "-" if sample.runway is None else f"{int(sample.runway) // 60} min {int(sample.runway) % 60:02} s",
        )
        for sample in samples
    ]
    widths, is_terminal = [max(map(len, cells)) for cells in zip(_COLUMNS, *rows, strict=True)], sys.stdout.isatty()
    if is_terminal:  # on a narrow one only Cache-Status is cut
        others = sum(widths) - widths[2] + 2 * (len(widths) - 1)
        widths[2] = max(len(_COLUMNS[2]), min(widths[2], shutil.get_terminal_size().columns - others))
    for row in (_COLUMNS, *rows):
        cells = [cell.ljust(width)[:width] for cell, width in zip(row[:3], widths[:3], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        if is_terminal and row[2].startswith("hit"):
            cells[2] = f"\x1b[32m{cells[2]}\x1b[0m"
        _say("  ".join(cells).rstrip())
