"""What must stay below a bound: memory for many entries, starts, wakes of an idle daemon, commands, hits while others are stored."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.load import Load, ended, fill, looked, measured, running
from bench.rows import HIT, Effort, fill_store
from bench.servers import Failed, Stand, get, reason_of

WRITES = 200


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that should be at most `most`; `nginx` is the same of nginx, where it has one."""

    name: str
    text: str
    most: float
    unit: str
    measure: Callable[[Stand, Effort], tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Held:
    """A bound with what was measured, or with the reason why nothing was."""

    bound: Bound
    value: float = 0.0
    nginx: float | None = None
    failure: str = ""


def compare(stand: Stand, effort: Effort, tell: Callable[[Held], None]) -> list[Held]:
    """Measures every bound; one that fails is told with its reason, and the rest goes on."""
    found = []
    for bound in BOUNDS:
        try:
            held = Held(bound, *bound.measure(stand, effort))
        except Exception as error:  # a bound may not take the others with it
            held = Held(bound, failure=reason_of(error))
        found.append(held)
        tell(held)
    return found


def memory(stand: Stand, effort: Effort) -> tuple[float, float | None]:
    """MiB by which a process grows while half the entries of the row `full` are stored; a thousand were there before."""
    count, load = effort.entries // 2, Load("/hit/1k", mode="spread")
    grown: list[float] = []
    for name in ("passoproxy-small", "nginx"):
        server = stand.server(name)
        few = min(1000, count // 10)
        fill(server, Load(load.path, mode="spread", count=few))
        before = server.memory()
        fill(server, Load(load.path, mode="spread", count=count), few)
        grown.append((server.memory() - before) / 2**20)
        stand.stop(name)
    stand.filled["full"] = count
    return grown[0], grown[1]


def start(stand: Stand, effort: Effort) -> tuple[float, float | None]:
    """Milliseconds from the start of a process to its first answer, a cache with one entry."""
    return _first_answer(stand, effort, "passoproxy"), _first_answer(stand, effort, "nginx")


def restart(stand: Stand, effort: Effort) -> tuple[float, float | None]:
    """Milliseconds from the start of a process with a full store to its first hit."""
    fill_store(stand, effort.entries // 2)
    return _first_answer(stand, effort, "passoproxy-full"), None


def _first_answer(stand: Stand, effort: Effort, name: str) -> float:
    path = "/hit/1k?n=0"
    get(stand.server(name).port, path)  # stored from now on
    time.sleep(0.3)
    stand.stop(name)
    times = []
    for _ in range(1 if effort.look else 5):
        began = time.perf_counter()
        server = stand.begin(name)
        try:
            while not (found := get(server.port, path)):
                if time.perf_counter() - began > 30:
                    raise Failed(f"{name} gives no answer within 30 s; {server.last_words()}")
                time.sleep(0.001)
            times.append(time.perf_counter() - began)
            if found[0] != 200 or ("hit" not in found[1] and found[1].strip()):
                raise Failed(f"the first answer of {name} is no hit: {found[0]}, {found[1]}")
        finally:
            server.stop()
    return 1000 * statistics.median(times)


def wakes(stand: Stand, effort: Effort) -> tuple[float, float | None]:
    """How often a second the threads of a daemon wake that is asked for nothing."""
    seconds, found = (0.5 if effort.look else 10.0), []
    for name in ("passoproxy", "nginx"):
        if not effort.look:
            stand.stop(name)  # one that was never busy
        server = stand.server(name)
        time.sleep(seconds / 3)
        before = server.switches()
        time.sleep(seconds)
        found.append((server.switches() - before) / seconds)
    return found[0], found[1]


def version(stand: Stand, effort: Effort) -> tuple[float, float | None]:
    """Milliseconds of processor time of `passoproxy --version`."""
    return _command(effort, "--version"), None


def help_text(stand: Stand, effort: Effort) -> tuple[float, float | None]:
    """Milliseconds of processor time of `passoproxy --help`."""
    return _command(effort, "--help"), None


def _command(effort: Effort, option: str) -> float:
    program = shutil.which("passoproxy", path=os.path.dirname(sys.executable)) or shutil.which("passoproxy")
    command = [program, option] if program else [sys.executable, "-m", "passoproxy", option]
    spent = []
    for _ in range(1 if effort.look else 7):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failed(f"{' '.join(command)} ends with {process.returncode}")
        spent.append(usage.ru_utime + usage.ru_stime)
    return 1000 * statistics.median(spent)


def while_stored(stand: Stand, effort: Effort) -> tuple[float, float | None]:
    """The p99 of hits while 200 answers a second are stored, beside that of quiet rounds."""
    found = []
    for name in ("passoproxy", "nginx"):
        server = stand.server(name)
        looked(server, replace(HIT, connections=1, hit=None), 1, 2)
        if effort.look:
            looked(server, HIT, 1, effort.look)
            found.append(1.0)
            continue
        quiet, busy = [], []
        for number in range(effort.rounds):
            quiet.append(measured(server, HIT, effort.seconds, number).p99)
            writes = Load("/hit/1k", connections=8, mode="new", hit=False)
            with running(server, writes, 10_000 + number, pause=8000 // WRITES) as writer:
                busy.append(measured(server, HIT, effort.seconds, number).p99)
                ended(server, writer)
        found.append(statistics.median(busy) / statistics.median(quiet))
    return found[0], found[1]


BOUNDS = (
    Bound("version", "processor time of --version", 60, "ms", version),
    Bound("help", "processor time of --help", 150, "ms", help_text),
    Bound("wakes", "wakes of an idle daemon a second", 5, "", wakes),
    Bound("start", "start to the first answer", 300, "ms", start),
    Bound("while-stored", "p99 of hits while 200 a second are stored, times the quiet one", 3, "x", while_stored),
    Bound("memory", "memory for {half} entries of 1 KiB on disk, memory_size 1MiB", 25, "MiB", memory),
    Bound("restart", "start with {half} entries on disk to the first hit", 300, "ms", restart),
)
