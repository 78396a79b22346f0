"""An alert by a command, with real ones: that hang, fail, flood, ignore SIGTERM, or leave children behind."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from passoproxy.errors import AlertUndelivered
from passoproxy.telemetry.alerts import CommandHook

DOCUMENT = b'{"level": "page"}\n'


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def script(text: str) -> str:
        path = tmp_path / "hook.sh"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return str(path)

    return script


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["/usr/bin/notify", "--key", "secret"], "/usr/bin/notify"),
        (["KEY=secret notify --key secret"], "notify"),
        (["KEY=secret"], ""),
    ],
)
def test_where_it_goes_is_told_without_its_arguments(words: list[str], where: str) -> None:
    assert CommandHook(words).where() == where


def on_both_loops(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The daemon runs on uvloop, commands on asyncio's own: their subprocesses are not the same code."""
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work())


def test_it_gets_the_document_and_says_what_it_said(script: Callable[[str], str], tmp_path: Path) -> None:
    hook = CommandHook((script(f'cat > {tmp_path}/got; echo first; echo "told the team"'),))

    async def work() -> None:
        (tmp_path / "got").unlink(missing_ok=True)
        assert await hook.deliver(DOCUMENT) == "ended with 0; it said: told the team"
        assert json.loads((tmp_path / "got").read_bytes()) == {"level": "page"}

    on_both_loops(work)


def test_arguments_a_line_for_the_shell_and_a_path_with_a_space(tmp_path: Path) -> None:
    spaced = tmp_path / "a hook"
    spaced.write_text("#!/bin/sh\ncat >/dev/null\necho spaced\n")
    spaced.chmod(0o700)

    async def work() -> None:
        assert (await CommandHook(("printf", "%s-%s", "a", "b c")).deliver(DOCUMENT)).endswith("a-b c")
        line = f"cat > {shlex.quote(str(tmp_path / 'line'))} && echo done"
        assert (await CommandHook((line,)).deliver(DOCUMENT)).endswith("done")
        assert (tmp_path / "line").read_bytes() == DOCUMENT
        assert (await CommandHook((str(spaced),)).deliver(DOCUMENT)).endswith("spaced")

    on_both_loops(work)


def test_one_that_does_not_read_and_says_nothing(script: Callable[[str], str]) -> None:
    async def work() -> None:
        assert await CommandHook((script("exec <&-; exit 0"),)).deliver(b"x" * 1_000_000) == "ended with 0"

    on_both_loops(work)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'no such\tteam' >&2; exit 3", "alerts.command ended with 3; it said: no such team"),
        ("kill -KILL $$", "alerts.command was ended by SIGKILL"),
        ("kill -40 $$", "alerts.command was ended by signal 40"),
    ],
)
def test_one_that_fails(script: Callable[[str], str], text: str, said: str) -> None:
    async def work() -> None:
        with pytest.raises(AlertUndelivered) as caught:
            await CommandHook((script(text),)).deliver(DOCUMENT)
        assert str(caught.value) == said

    on_both_loops(work)


@pytest.mark.parametrize("words", [("/no/such/program", "x"), ("a\0b", "c")])
async def test_one_that_cannot_be_started(words: tuple[str, ...]) -> None:
    with pytest.raises(AlertUndelivered, match="cannot be started"):
        await CommandHook(words).deliver(DOCUMENT)


async def test_a_line_that_cannot_be_started_is_named_without_its_secrets() -> None:
    with pytest.raises(AlertUndelivered) as caught:
        await CommandHook(("KEY=planted notify --key planted",), environ={"PATH": "\0"}).deliver(DOCUMENT)
    assert str(caught.value).startswith("alerts.command: notify cannot be started")


async def test_a_line_whose_program_is_missing_says_so() -> None:
    with pytest.raises(AlertUndelivered, match=r"ended with 127.*no-such-program"):
        await CommandHook(("no-such-program --page",)).deliver(DOCUMENT)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_one_that_hangs_and_ignores_sigterm_is_killed_with_its_children(
    script: Callable[[str], str], tmp_path: Path
) -> None:
    hook = CommandHook(
        (script(f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; echo begun; wait"),),
        limit=1.0,
    )

    async def work() -> None:
        began = time.monotonic()
        with pytest.raises(AlertUndelivered, match=r"did not end within 1 s and was killed; it said: begun"):
            await hook.deliver(DOCUMENT)
        assert time.monotonic() - began < 60
        pids = [int((tmp_path / name).read_text()) for name in ("child", "own")]
        async with asyncio.timeout(30):
            while any(map(alive, pids)):
                await asyncio.sleep(0)

    on_both_loops(work)


def test_a_flood_fills_no_memory_and_blocks_nobody(script: Callable[[str], str]) -> None:
    hook = CommandHook((script("head -c 5000000 /dev/zero | tr '\\0' 'x'; echo; echo last"),))

    async def work() -> None:
        assert await hook.deliver(DOCUMENT) == "ended with 0; it said: last"

    on_both_loops(work)


def test_a_flood_that_does_not_end_is_killed(script: Callable[[str], str]) -> None:
    async def work() -> None:
        with pytest.raises(AlertUndelivered, match="was killed; it said: y"):
            await CommandHook((script("yes"),), limit=1.0).deliver(DOCUMENT)

    on_both_loops(work)


def test_a_child_that_is_left_behind_holds_nothing_up(script: Callable[[str], str], tmp_path: Path) -> None:
    hook = CommandHook((script(f"echo left; sleep 600 & echo $! > {tmp_path}/child; exit 0"),))

    async def work() -> None:
        began = time.monotonic()
        assert await hook.deliver(DOCUMENT) == "ended with 0; it said: left"
        assert time.monotonic() - began < 60
        os.kill(int((tmp_path / "child").read_text()), 9)

    on_both_loops(work)


def test_being_cancelled_it_kills_what_it_began(script: Callable[[str], str], tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "own").unlink(missing_ok=True)
        hook = CommandHook((script(f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/own; sleep 600"),))
        task = asyncio.create_task(hook.deliver(DOCUMENT))
        async with asyncio.timeout(30):
            while not (tmp_path / "own").exists():
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert not alive(int((tmp_path / "own").read_text()))

    on_both_loops(work)


async def test_the_daemons_own_variables_stay_with_the_daemon() -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "PASSOPROXY__OAUTH__CLIENT_SECRET": "planted",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1",
        "LISTEN_FDS": "1",
        "TEAM": "kept",
    }
    said = await CommandHook(("env | grep -v PWD | grep -v PATH | sort | tr '\\n' ' '",), environ=environ).deliver(b"")
    assert "TEAM=kept" in said
    assert not any(name in said for name in ("PASSOPROXY", "planted", "NOTIFY", "WATCHDOG", "LISTEN"))


async def test_being_cancelled_at_its_very_start_it_leaves_nothing(tmp_path: Path) -> None:
    hook = CommandHook((f"echo $$ > {tmp_path}/own; sleep 600",))
    task = asyncio.create_task(hook.deliver(DOCUMENT))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    if (tmp_path / "own").exists() and (pid := (tmp_path / "own").read_text()):
        assert not alive(int(pid))
