"""A hit and a forwarded miss, beside nginx in the same run, one core each: `make bench`.

Both stand before the same origin (a second nginx with a 1 KiB file), both have one worker pinned to one core, wrk and the origin run on another. Rounds
alternate between the two, so that what a shared machine does to one it does to the other. What counts is the ratio; the numbers themselves are
this machine's. `processor` is the processor time (user and system) of the server's processes for each request.

    python bench/hits.py [--seconds 3] [--rounds 5] [--connections 32] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
BODY = json.dumps({"records": [{"country": "TR", "content": "x" * 960}]}).ljust(1024)[:1024]
TICKS = os.sysconf("SC_CLK_TCK")

ORIGIN = """
daemon off; worker_processes 1; pid {folder}/origin.pid; error_log {folder}/origin.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000;
  client_body_temp_path {folder}/origin-body; proxy_temp_path {folder}/origin-proxy; fastcgi_temp_path {folder}/o1; uwsgi_temp_path {folder}/o2;
  scgi_temp_path {folder}/o3;
  server {{ listen 127.0.0.1:{origin}; root {folder}/files; etag off; add_header Cache-Control "no-cache, private"; }}
}}
"""

PEER = """
daemon off; worker_processes 1; pid {folder}/peer.pid; error_log {folder}/peer.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/peer-body; proxy_temp_path {folder}/peer-proxy; fastcgi_temp_path {folder}/p1; uwsgi_temp_path {folder}/p2;
  scgi_temp_path {folder}/p3;
  proxy_cache_path {folder}/peer-cache levels=1:2 keys_zone=hits:10m max_size=100m inactive=1h;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Bearer static";
  server {{
    listen 127.0.0.1:{peer};
    location /hit {{ proxy_pass http://origin; proxy_cache hits; proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control; }}
    location /miss {{ proxy_pass http://origin; }}
  }}
}}
"""

OURS = """
provider: custom
upstream: {{url: "http://127.0.0.1:{origin}", max_concurrency: 64, max_connections: 64}}
oauth: {{grant: static, static_token_file: "{folder}/token", client_secret_file: null}}
server: {{listen: "127.0.0.1:{ours}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
state: {{directory: "{folder}/state"}}
cache: {{directory: "{folder}/cache"}}
log: {{access: false}}
routes:
  - {{name: hits, match: "/hit", ttl: 1h, override: true}}
"""


@dataclass
class Server:
    """One of the two, with its processes and what was measured."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    rates: dict[str, list[float]] = field(default_factory=lambda: {"hit": [], "miss": []})
    processor: dict[str, list[float]] = field(default_factory=lambda: {"hit": [], "miss": []})

    def seconds_used(self) -> float:
        """User and system time of the process and its children so far."""
        return sum(_used(pid) for pid in _family(self.process.pid))

    def measure(self, what: str, options: argparse.Namespace) -> None:
        url = f"http://127.0.0.1:{self.port}/{what}"
        before = self.seconds_used()
        done = subprocess.run(
            ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", url],
            capture_output=True,
            text=True,
            check=True,
        )
        used = self.seconds_used() - before
        if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            sys.exit(f"{self.name} {what}: not every answer was good:\n{done.stdout}")
        requests = int(re.search(r"(\d+) requests in", done.stdout).group(1))  # type: ignore[union-attr]
        self.rates[what].append(float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1)))  # type: ignore[union-attr]
        self.processor[what].append(used / requests)


def _used(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, text: bytes) -> None:
    end = time.monotonic() + 30
    last: object = None
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if text in answer.read():
                    return
        except (urllib.error.URLError, OSError) as error:
            last = error
        time.sleep(0.1)
    sys.exit(f"{url} does not answer: {last}")


def start(folder: Path) -> tuple[list[subprocess.Popen[bytes]], Server, Server]:
    nginx = (
        shutil.which("nginx")
        or shutil.which("nginx", path="/usr/sbin")
        or sys.exit("nginx is not installed (Debian: nginx-light)")
    )
    for needed in ("wrk", "taskset"):
        shutil.which(needed) or sys.exit(
            f"{needed} is not installed (Debian: {'util-linux' if needed == 'taskset' else needed})"
        )
    ports = {name: free_port() for name in ("origin", "peer", "ours", "admin")}
    (folder / "files").mkdir()
    for name in ("hit", "miss"):
        (folder / "files" / name).write_text(BODY)
    (folder / "token").write_text("static")
    (folder / "token").chmod(0o600)
    os.chmod(folder, 0o755)  # nginx gives up root for its worker, which must still read the files
    names = {"origin.conf": ORIGIN, "peer.conf": PEER, "config.yaml": OURS}
    for name, text in names.items():
        (folder / name).write_text(text.format(folder=folder, **ports))
    started = [
        _on(LOAD_CORE, [nginx, "-c", str(folder / "origin.conf")]),
        _on(SERVER_CORE, [nginx, "-c", str(folder / "peer.conf")]),
        _on(SERVER_CORE, [sys.executable, "-m", "passoproxy", "serve", "--config", str(folder / "config.yaml")]),
    ]
    peer, ours = Server("nginx", ports["peer"], started[1]), Server("passoproxy", ports["ours"], started[2])
    for server in (peer, ours):
        for what in ("hit", "miss"):
            wait_for(f"http://127.0.0.1:{server.port}/{what}", BODY[:40].encode())
    return started, peer, ours


def _on(core: int, command: list[str]) -> subprocess.Popen[bytes]:
    quiet = {"PYTHONWARNINGS": "ignore", **os.environ}
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command], env=quiet, stderr=None if "-v" in sys.argv else subprocess.DEVNULL
    )


def report(peer: Server, ours: Server, as_json: bool) -> None:
    figures: dict[str, dict[str, float]] = {}
    for what in ("hit", "miss"):
        rates = [mine / theirs for mine, theirs in zip(ours.rates[what], peer.rates[what], strict=True)]
        costs = [theirs / mine for mine, theirs in zip(ours.processor[what], peer.processor[what], strict=True)]
        figures[what] = {
            "nginx_per_second": statistics.median(peer.rates[what]),
            "passoproxy_per_second": statistics.median(ours.rates[what]),
            "ratio": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
            "nginx_processor_us": 1e6 * statistics.median(peer.processor[what]),
            "passoproxy_processor_us": 1e6 * statistics.median(ours.processor[what]),
            "processor_ratio": statistics.median(costs),
        }
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    print(
        f"{'':6}{'nginx/s':>10}{'passoproxy/s':>14}{'ratio':>8}{'(range)':>16}{'nginx µs':>10}{'passoproxy µs':>15}{'ratio':>8}"
    )
    for what, each in figures.items():
        print(
            f"{what:6}{each['nginx_per_second']:10.0f}{each['passoproxy_per_second']:14.0f}{each['ratio']:8.2f}"
            f"{each['lowest']:9.2f} – {each['highest']:.2f}{each['nginx_processor_us']:10.1f}{each['passoproxy_processor_us']:15.1f}"
            f"{each['processor_ratio']:8.2f}"
        )
    print("ratios: passoproxy beside nginx, more is better; µs: processor time for each request")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-v", action="store_true", help="show what the servers write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="passoproxy-bench-") as name:
        started, peer, ours = start(Path(name))
        try:
            for _ in range(options.rounds):
                for what in ("hit", "miss"):
                    for server in (peer, ours):
                        server.measure(what, options)
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(30)
    report(peer, ours, options.json)


if __name__ == "__main__":
    main()
