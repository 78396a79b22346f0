"""Load on a server, and what came of it: wrk for rates, sockets of our own for many equal requests at once."""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.servers import SIZES, Failed, Server, cores, get

SCRIPT = Path(__file__).with_name("load.lua")
FOREVER = "3600s"


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, and over how many connections. `mode` is explained in load.lua; `count` is its number of URLs.

    `hit` tells whether answers should come from the cache (None: either). `at_once`: so many equal requests in the place of wrk, timed
    until the last is answered.
    """

    path: str
    connections: int = 32
    mode: str = "plain"
    count: int = 1
    hit: bool | None = True
    at_once: int = 0

    @property
    def size(self) -> int:
        """Bytes of each answer's body."""
        return SIZES[self.path.rpartition("/")[2]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one round: answers a second (`at_once`: rounds a second), seconds of processor time for each, latencies in seconds."""

    rate: float
    processor: float
    p50: float
    p99: float
    p999: float


def measured(server: Server, load: Load, seconds: float, seed: int) -> Outcome:
    """One round. Raises Failed if any answer was an error."""
    if load.at_once:
        return _at_once(server, load, seed)
    for longer in (1, 4, 16):  # a server that is shared with others may give no answer in a short round
        with running(server, load, seed) as wrk:
            before = server.processor_seconds()
            time.sleep(longer * seconds)
            told = ended(server, wrk)
            used = server.processor_seconds() - before
        if answers := told["requests"]:
            rate, latencies = answers / told["seconds"], (told[each] / 1e6 for each in ("p50", "p99", "p999"))
            return Outcome(rate, used / answers, *latencies)
    raise Failed(f"{server.name} gave no answer; {server.last_words()}")


def looked(server: Server, load: Load, seed: int, answers: int) -> None:
    """Compares so many answers with what they should be. Raises Failed."""
    if load.at_once:
        _at_once(server, load, seed)
        return
    expected = {True: "hit", False: "other", None: "either"}[load.hit]
    with running(server, load, seed, expected, answers) as wrk:
        text = wrk.communicate(timeout=60)[0].decode()
    if wrk.returncode or "LOOKED" not in text:
        raise Failed(f"{server.name}: {text.strip()[-300:]}; {server.last_words()}")


@contextmanager
def running(
    server: Server, load: Load, seed: int, expected: str = "none", answers: int = 0, pause: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """A wrk that has begun, and runs until `ended`; killed if that is not asked for."""
    _, where = cores(server.workers)
    threads = str(min(server.workers, load.connections))
    command = ["taskset", "-c", where, "stdbuf", "-oL", "wrk", f"-t{threads}", f"-c{load.connections}", f"-d{FOREVER}"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{server.port}{load.path}", "--"]
    command += [load.mode, str(load.count), str(seed), expected, str(load.size), str(answers), str(pause)]
    wrk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    try:
        if not answers and wrk.stdout is not None:
            wrk.stdout.readline()  # it says that it begins; unbuffered, so that the rest is left to `communicate`
        yield wrk
    finally:
        wrk.kill()
        wrk.communicate()


def ended(server: Server, wrk: subprocess.Popen[bytes]) -> dict[str, float]:
    """Ends a wrk and returns what it tells. Raises Failed if any answer was an error."""
    for _ in range(60):
        wrk.send_signal(signal.SIGINT)  # it stops at the next tenth of a second, unless it has just begun
        try:
            text = wrk.communicate(timeout=0.5)[0].decode()
            break
        except subprocess.TimeoutExpired:
            continue
    else:
        raise Failed(f"{server.name}: wrk does not end")
    line = next((line for line in text.splitlines() if line.startswith("RESULT ")), "")
    if not line:
        raise Failed(f"{server.name}: wrk says {text.strip()[-300:]!r}; {server.last_words()}")
    told = json.loads(line.removeprefix("RESULT "))
    if told["refused"] or told["broken"]:
        raise Failed(
            f"{server.name}: {told['refused']} answers with an error, {told['broken']} broken; {server.last_words()}"
        )
    return told  # type: ignore[no-any-return]


def fill(server: Server, load: Load, first: int = 0) -> None:
    """Asks for the URLs `first` to `load.count` of a load once each, until they are hits. Raises Failed."""
    one_by_one = Load(load.path, load.connections, "fill", load.count)
    for _ in range(3):
        with running(server, one_by_one, first, answers=load.count - first) as wrk:
            text = wrk.communicate(timeout=900)[0].decode()
        if wrk.returncode or "LOOKED" not in text:
            raise Failed(f"{server.name}: wrk says {text.strip()[-300:]!r}; {server.last_words()}")
        time.sleep(0.2)  # what is written behind the answers is there by then
        if all(_is_hit(server, load, number) for number in range(first, load.count, max(1, load.count // 100))):
            return
    raise Failed(f"{server.name}: what was asked for three times is not a hit; {server.last_words()}")


def _is_hit(server: Server, load: Load, number: int) -> bool:
    found = get(server.port, f"{load.path}?n={number}")
    return found is not None and found[0] == 200 and ("hit" in found[1] or not found[1].strip())


def _at_once(server: Server, load: Load, seed: int) -> Outcome:
    """So many connections, then one equal request on each; times are from before the first is sent."""
    request = f"GET {load.path}?n={seed} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    waiting: dict[int, socket.socket] = {}
    heard: dict[int, bytes] = {}
    with select.epoll() as ready:
        try:
            for _ in range(load.at_once):
                one = socket.create_connection(("127.0.0.1", server.port), timeout=10)
                waiting[one.fileno()] = one
                ready.register(one, select.EPOLLIN)
            time.sleep(0.1)  # the connections are taken by then
            before, began, times = server.processor_seconds(), time.perf_counter(), []
            for one in waiting.values():
                one.sendall(request)
            while len(times) < load.at_once:
                events = ready.poll(10)
                if not events:
                    raise Failed(
                        f"{server.name}: {load.at_once - len(times)} of {load.at_once} are not answered after 10 s"
                    )
                for descriptor, _ in events:
                    data = waiting[descriptor].recv(1 << 20)
                    heard[descriptor] = heard.get(descriptor, b"") + data
                    if _is_whole(heard[descriptor], load.size):
                        times.append(time.perf_counter() - began)
                        ready.unregister(descriptor)
                    elif not data:
                        raise Failed(f"{server.name}: an answer of {len(heard[descriptor])} bytes broke off")
            used = server.processor_seconds() - before
        finally:
            for one in waiting.values():
                one.close()
    if bad := next((each for each in heard.values() if not each.startswith(b"HTTP/1.1 200 ")), None):
        raise Failed(f"{server.name}: {bad[:80]!r}")
    at = [times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99, 0.999)]
    return Outcome(1 / times[-1], used / load.at_once, *at)


def _is_whole(answer: bytes, size: int) -> bool:
    head, found, content = answer.partition(b"\r\n\r\n")
    return bool(found) and (len(content) >= size or b" 200 " not in head[:16])
