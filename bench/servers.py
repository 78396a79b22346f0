"""What is measured and what stands beside it: the daemon and nginx in several forms, and the origin behind both.

A server has a core of its own; the load and the origin have another. With two processes that serve, and fewer than three cores, all share.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PACKAGES = {"nginx": "nginx", "wrk": "wrk", "taskset": "util-linux", "stdbuf": "coreutils"}
SIZES = {"1k": 1024, "20k": 20 * 1024, "200k": 200 * 1024, "5m": 5 * 1024 * 1024}

_TEMPORARY = """
  client_body_temp_path {folder}/{name}-t1; proxy_temp_path {folder}/{name}-t2; fastcgi_temp_path {folder}/{name}-t3;
  uwsgi_temp_path {folder}/{name}-t4; scgi_temp_path {folder}/{name}-t5; client_body_buffer_size 16k;
"""

_ORIGIN = """
daemon off; worker_processes 1; pid {folder}/origin.pid; error_log {folder}/origin.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; sendfile on; {temporary}
  server {{
    listen 127.0.0.1:{origin} backlog=4096; root {folder}/files; etag off; default_type application/json;
    add_header Cache-Control "no-cache, private";
    location /post/ {{ error_page 405 =200 $uri; }}
    location /slow/ {{ proxy_pass http://127.0.0.1:{slow}; }}
    location /miss/5m {{ default_type application/octet-stream; }}
  }}
}}
"""

_NGINX = """
daemon off; worker_processes {workers}; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit;
events {{ worker_connections 4096; {events} }}
http {{
  access_log {access_log}; keepalive_requests 1000000; {temporary} {http}
  proxy_cache_path {folder}/{name}-cache levels=1:2 keys_zone=hits:100m max_size=8g inactive=1h {cache_path};
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Bearer static";
  proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control; {seen}
  server {{
    listen 127.0.0.1:{port} backlog=4096 {listen};
    location /hit/ {{ proxy_pass http://origin; proxy_cache hits; }}
    location /post/ {{ proxy_pass http://origin; proxy_cache hits; proxy_cache_methods POST; proxy_cache_key "$request_uri $request_body"; }}
    location /slow/ {{ proxy_pass http://origin; proxy_cache hits; proxy_cache_lock on; }}
    location /miss/ {{ proxy_pass http://origin; }}
  }}
}}
"""

_ROUTES = [
    {"name": "hits", "match": "/hit/**", "ttl": "1h", "override": True},
    {"name": "posts", "match": "/post/**", "methods": ["GET", "POST"], "ttl": "1h", "override": True},
    {"name": "slow", "match": "/slow/**", "ttl": "1h", "override": True},
]


@dataclass(frozen=True, slots=True)
class Ours:
    """One form of the daemon: what differs from its defaults, its number of processes that serve, and whether uvloop is to be had.

    Forms with the same `store` use the same folders, one after the other.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    store: str = ""
    workers: int = 1
    uvloop: bool = True


@dataclass(frozen=True, slots=True)
class Nginx:
    """One form of nginx: what stands in its configuration beside what all forms have."""

    access_log: str = "off"
    workers: int = 1
    events: str = ""
    http: str = ""
    cache_path: str = ""
    listen: str = ""


FORMS: dict[str, Ours | Nginx] = {
    "passoproxy": Ours(),
    "passoproxy-logged": Ours({"log": {"access": True}}),
    "passoproxy-disk": Ours({"cache": {"memory_size": 0}}),
    "passoproxy-small": Ours({"cache": {"memory_size": "1MiB"}}, store="full"),
    "passoproxy-full": Ours(store="full"),
    "passoproxy-2": Ours({"server": {"workers": 2}}, workers=2),
    "passoproxy-asyncio": Ours(uvloop=False),
    "nginx": Nginx(),
    "nginx-logged": Nginx(access_log="{folder}/{name}.access"),
    "nginx-buffered": Nginx(access_log="{folder}/{name}.access combined buffer=64k flush=1s"),
    "nginx-tuned": Nginx(
        events="multi_accept on;",
        http="sendfile on; tcp_nopush on; open_file_cache max=300000 inactive=60s; open_file_cache_valid 60s;",
        cache_path="use_temp_path=off",
        listen="reuseport",
    ),
    "nginx-2": Nginx(workers=2),
}


def missing() -> str:
    """One line for a person if a program is not there, else nothing."""
    gone = [name for name in PACKAGES if program(name) is None]
    packages = " ".join(PACKAGES[name] for name in gone)
    return f"{', '.join(gone)} not found; on Debian: apt-get install {packages}" if gone else ""


def program(name: str) -> str | None:
    """Its path; nginx lies in a folder that is root's."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def cores(workers: int = 1) -> tuple[str, str]:
    """Lists for taskset: the cores of the server, and those of load and origin."""
    have = sorted(os.sched_getaffinity(0))
    if len(have) <= workers:
        return ",".join(map(str, have)), ",".join(map(str, have))
    return ",".join(map(str, have[:workers])), str(have[workers])


def pinned(where: str, command: Sequence[str], output: Path | None = None, **more: Any) -> subprocess.Popen[bytes]:
    """Starts a program on these cores; what it writes goes to a file, if one is given."""
    file = output.open("ab") if output else subprocess.DEVNULL
    # An installed program has its bytecode: without this, a start would measure the compiler.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": ""}
    try:
        return subprocess.Popen(["taskset", "-c", where, *command], env=environment, stdout=file, stderr=file, **more)
    finally:
        if output:
            file.close()  # type: ignore[union-attr]


@dataclass(slots=True)
class Server:
    """One that runs: its port and its processes."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    written: Path
    workers: int = 1

    def processes(self) -> list[int]:
        """It and its descendants."""
        return list(_family(self.process.pid))

    def processor_seconds(self) -> float:
        """User and system time of its processes so far."""
        return sum(_used(pid) for pid in self.processes())

    def memory(self) -> int:
        """Bytes: what each process has for itself, and the largest part that is shared."""
        parts = [_status(Path(f"/proc/{pid}"), "RssAnon", "RssShmem") for pid in self.processes()]
        return 1024 * (sum(own for own, _ in parts) + max(shared for _, shared in parts))

    def switches(self) -> int:
        """How often its threads went to sleep so far."""
        threads = (thread for pid in self.processes() for thread in Path(f"/proc/{pid}/task").iterdir())
        return sum(_status(thread, "voluntary_ctxt_switches")[0] for thread in threads)

    def stop(self) -> None:
        """Ends it in order."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The end of what it wrote, for a failure."""
        try:
            return self.written.read_text(errors="replace")[-500:].strip()
        except OSError:
            return ""


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _used(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _status(process: Path, *names: str) -> list[int]:
    """Numbers of /proc/PID/status (or of a thread's), which every user may read; zeros for what has ended."""
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return [0] * len(names)
    found = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines) if rest.strip()}
    return [int(found[name]) for name in names]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Failed(Exception):
    """A server does not start, or an answer is not what it should be."""


def reason_of(error: Exception) -> str:
    """Why nothing was measured, in a line; with its kind if it is none of ours."""
    return str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"


class Stand:
    """The origin, and the servers that were asked for so far. A context; what it started ends with it.

    With `seen` nginx says in a header whether an answer is a hit, which `load` can then look at; the daemon always does.
    """

    def __init__(self, folder: Path, seen: bool = False) -> None:
        self.folder = folder
        self._seen = seen
        self._origin, self._slow = free_port(), free_port()
        self._running: dict[str, Server] = {}
        self._begun: list[subprocess.Popen[bytes]] = []
        self.filled: dict[str, int] = {}
        """How many URLs were stored under a form's store, by what it is called."""

    def __enter__(self) -> Stand:
        self.folder.chmod(0o755)  # nginx gives up root for its workers, which must still read the files
        for place in ("hit", "miss", "post", "slow"):
            (self.folder / "files" / place).mkdir(parents=True)
            for name, size in SIZES.items():
                (self.folder / "files" / place / name).write_bytes(body(size))
        (self.folder / "token").write_text("static")
        (self.folder / "token").chmod(0o600)
        slow_body = str(self.folder / "files" / "slow" / "1k")
        _, load = cores()
        conf = self._written("origin.conf", _ORIGIN, name="origin", slow=self._slow)
        self._begun += [
            pinned(load, [sys.executable, "-m", "bench.slow_origin", str(self._slow), slow_body], cwd=ROOT),
            pinned(load, [str(program("nginx")), "-c", str(conf)], self.folder / "origin.log"),
        ]
        for path in ("/hit/1k", "/slow/1k"):
            _answers(self._origin, path, 30.0, self.folder / "origin.log")
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.stop(name)
        for process in self._begun:
            process.kill() if process is self._begun[0] else process.terminate()
            process.wait(30)

    def server(self, name: str) -> Server:
        """The server of this form, started if it does not run. Raises Failed."""
        if name not in self._running:
            self._running[name] = self.start(name)
        return self._running[name]

    def stop(self, name: str) -> None:
        """Ends the server of this form, if it runs; its store stays."""
        if name in self._running:
            self._running.pop(name).stop()

    def start(self, name: str) -> Server:
        """A server of this form, ready to answer; whoever asks for it ends it. Raises Failed."""
        server = self.begin(name)
        try:
            _answers(server.port, "/hit/1k", 30.0, server.written)
        except Failed:
            server.stop()
            raise
        return server

    def begin(self, name: str) -> Server:
        """A server of this form, as soon as its process exists."""
        form, port, written = FORMS[name], free_port(), self.folder / f"{name}.output"
        command = self._nginx(name, form, port) if isinstance(form, Nginx) else self._daemon(name, form, port)
        own, _ = cores(form.workers)
        return Server(name, port, pinned(own, command, written), written, form.workers)

    def _nginx(self, name: str, form: Nginx, port: int) -> list[str]:
        conf = self._written(
            f"{name}.conf",
            _NGINX,
            name=name,
            port=port,
            workers=form.workers,
            events=form.events,
            http=form.http,
            cache_path=form.cache_path,
            listen=form.listen,
            access_log=form.access_log.format(folder=self.folder, name=name),
            seen="add_header X-Cache $upstream_cache_status;" if self._seen else "",
        )
        return [str(program("nginx")), "-c", str(conf)]

    def _daemon(self, name: str, form: Ours, port: int) -> list[str]:
        store = self.folder / (form.store or name)
        settings: dict[str, dict[str, Any]] = {
            "upstream": {"url": f"http://127.0.0.1:{self._origin}", "max_concurrency": 64, "max_connections": 64},
            "oauth": {"grant": "static", "static_token_file": str(self.folder / "token"), "client_secret_file": None},
            "server": {"listen": f"127.0.0.1:{port}"},
            "admin": {"listen": f"127.0.0.1:{free_port()}"},
            "state": {"directory": f"{store}-state"},
            "cache": {"directory": f"{store}-cache"},
            "log": {"access": False},
        }
        for section, values in form.settings.items():
            settings[section] = {**settings.get(section, {}), **values}
        config = self.folder / f"{name}.yaml"
        config.write_text(json.dumps({"provider": "custom", **settings, "routes": _ROUTES}))  # JSON is YAML
        program = ["-m", "passoproxy"] if form.uvloop else ["-c", _WITHOUT_UVLOOP]
        return [sys.executable, *program, "serve", "--config", str(config)]

    def _written(self, file: str, template: str, name: str, **values: object) -> Path:
        temporary = _TEMPORARY.format(folder=self.folder, name=name)
        path = self.folder / file
        path.write_text(
            template.format(folder=self.folder, name=name, origin=self._origin, temporary=temporary, **values)
        )
        return path


ROOT = Path(__file__).parents[1]
_WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from passoproxy.cli import main; sys.exit(main())"


def body(size: int) -> bytes:
    """A JSON document of so many bytes, without a link in it."""
    return json.dumps({"records": [{"country": "TR", "content": "x" * (size - 60)}]}).ljust(size)[:size].encode()


def _answers(port: int, path: str, seconds: float, written: Path) -> None:
    end = time.monotonic() + seconds
    while (found := get(port, path)) is None or found[0] != 200:
        if time.monotonic() > end:
            words = written.read_text(errors="replace")[-500:].strip() if written.exists() else ""
            raise Failed(f"port {port} does not answer {path}: {found[0] if found else 'no connection'}. {words}")
        time.sleep(0.005)


def get(port: int, path: str) -> tuple[int, str, bytes] | None:
    """Status, what is said of the cache, and body; None if there is no connection."""
    try:
        with _connected(port) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            said = f"{answer.getheader('X-Cache', '')} {answer.getheader('Cache-Status', '')}".lower()
            return answer.status, said, answer.read()
    except (OSError, http.client.HTTPException):
        return None


@contextmanager
def _connected(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()
