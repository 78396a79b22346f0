"""Which folders are gone with the machine or the container, which event loop is used, and what process 1 collects."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from passoproxy.host.system import collect_orphans, in_memory, orphans, run_loop, volatile
from tests.fakes import FakeClock

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /run rw,nosuid shared:2 - tmpfs tmpfs rw
24 23 8:2 / /run/durable rw - ext4 /dev/sdb1 rw
25 22 0:30 / /my\040state\134x rw - tmpfs tmpfs rw
26 22 0:31 / /twice rw - ext4 /dev/sdc1 rw
27 26 0:32 / /twice rw - tmpfs tmpfs rw
28 22 0:33 / /ram rw - ramfs ramfs rw
29 22 0:34 / /container rw - overlay overlay rw
a line that is none
30 22 0:35 / /short
"""


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/", ""),
        ("/var/lib/passoproxy", ""),
        ("/run", "is in memory (tmpfs)"),
        ("/run/passoproxy", "is in memory (tmpfs)"),
        ("/running", ""),
        ("/run/durable/state", ""),
        ("/my state\\x/state", "is in memory (tmpfs)"),
        ("/twice/x", "is in memory (tmpfs)"),
        ("/ram/x", "is in memory (ramfs)"),
        ("/container", "is a container's own layer (overlay)"),
    ],
)
def test_by_the_mount_that_holds_it(tmp_path: Path, folder: str, why: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert volatile(Path(folder), mounts) == why
    assert in_memory(Path(folder), mounts) is ("memory" in why)


def test_where_nobody_can_tell(tmp_path: Path) -> None:
    assert volatile(Path("/run"), tmp_path / "missing") == ""


def test_the_link_is_followed(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 x rw\n2 1 8:1 / {tmp_path.resolve()}/real rw - tmpfs x rw\n")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert volatile(tmp_path / "link", mounts)


def test_this_machine_has_an_answer() -> None:
    assert isinstance(volatile(Path("/")), str)
    if Path("/dev/shm").is_dir():
        assert volatile(Path("/dev/shm")) == "is in memory (tmpfs)"


def test_without_uvloop_the_loop_is_the_standard_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    async def loop() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert run_loop(loop()) == "uvloop"
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_loop(loop()).startswith("asyncio.")


async def test_orphans_are_collected_at_the_second_look() -> None:
    clock = FakeClock()
    child = os.fork()
    if not child:
        os._exit(3)
    while child not in orphans():
        await asyncio.sleep(0.01)
    task = asyncio.create_task(collect_orphans(clock, every=5.0))
    await clock.advance(5)
    assert child in orphans()
    await clock.advance(5)
    assert child not in orphans()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
    await clock.advance(5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_children_that_live_and_those_of_others_are_no_orphans(tmp_path: Path) -> None:
    own = os.getpid()
    for pid, line in {7: f"(a ) b) Z {own} 1", 8: f"(x) S {own} 1", 9: "(x) Z 1 1"}.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} {line} 0")
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "stat").symlink_to("gone")
    assert orphans(tmp_path) == {7}
