"""Read-only, in memory, full: the disks that containers give."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest

from tests.journeys.conftest import Stand, until
from tests.whole import CONTENT

READ_ONLY = "mount -o remount,bind,ro /"


def place(stand: Stand, **mounts: str) -> None:
    """From now on in a read-only root with nothing to write but these folders of the stand, each with its way of mounting."""
    lines = []
    for name, how in mounts.items():
        folder = stand.folder / name
        folder.mkdir(exist_ok=True)
        lines.append(f"mount {how.format(folder)} {folder}")
    stand.place = {"mounts": "\n".join([*lines, READ_ONLY])}


def start_beside(stand: Stand) -> None:
    """Starts the daemon; commands run beside it from then on, as with `kubectl exec`."""
    stand.start_daemon()
    stand.place = {"beside": stand.daemon.pid}


@pytest.mark.slow
def test_a_read_only_root_with_folders_for_state_and_cache(public_stand: Stand) -> None:
    stand = public_stand
    stand.environment["HOME"] = "/"
    stand.start_sandbox()
    for given, missing in (({}, "state"), ({"state": "--bind {}"}, "cache")):
        place(stand, **given)
        refused = stand.run("serve")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (73, 1)
        assert f"{stand.folder / missing}: " in refused.stderr
        assert "mount a volume there" in refused.stderr
    place(stand, state="--bind {}", cache="--bind {}")
    start_beside(stand)
    stand.login()
    assert stand.get(CONTENT).status == 200
    assert "hit" in stand.get(CONTENT).cache_status
    done = stand.run("doctor")
    assert (done.returncode, "failed" in done.stdout) == (0, False), done.stdout
    assert stand.stop_daemon() == 0


@pytest.mark.slow
def test_a_full_disk_in_memory_for_the_cache(public_stand: Stand) -> None:
    """Answers pass the cache by meanwhile, and it is said; when there is room again, they are stored by themselves."""
    stand = public_stand
    stand.configure(cache={"directory": str(stand.folder / "cache"), "max_size": "8MiB"})
    stand.start_sandbox()
    place(stand, state="-t tmpfs tmpfs", cache="-t tmpfs -o size=1m tmpfs")
    start_beside(stand)
    stand.login()
    filler = Path(f"/proc/{stand.daemon.pid}/root{stand.folder}/cache/filler")
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert stand.get(CONTENT).status == 200
    assert until(lambda: "the cache cannot be used" in stand.run("status").stdout)
    assert until(lambda: "disk is full" in stand.daemon.said)
    said = stand.run("doctor")
    assert (said.returncode, "make room" in said.stdout) == (1, True), said.stdout
    assert "in memory (tmpfs)" in said.stdout
    filler.unlink()
    # what could not be written is written, or what is asked for then
    paths = (f"{CONTENT}&n={number}" for number in itertools.count())
    assert until(lambda: stand.get(next(paths)).status == 200 and stand.status()["cache"]["entries"]), stand.daemon.said
    assert stand.stop_daemon() == 0
