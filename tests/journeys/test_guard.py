"""What passes the guard of the whole daemon and what does not, told by an origin that writes down every byte it gets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import program
from tests.journeys.conftest import PROGRAM, Answer, Stand, ask, environment, until

FRESH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=600\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class Origin(socketserver.ThreadingTCPServer):
    """Answers everything alike; `seen` is every request line and `heads` every head, as they came."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heads: list[bytes] = []

    @property
    def seen(self) -> list[str]:
        return [head.partition(b"\r\n")[0].decode("latin-1") for head in self.heads]


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b""
        while line := self.rfile.readline():
            head += line
            if line == b"\r\n":
                assert isinstance(self.server, Origin)
                self.server.heads.append(head)
                self.wfile.write(FRESH)
                return


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as made:
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Stand]:
    """A daemon that lets two folders through, and nothing that changes anything but POST."""
    folder = tmp_path_factory.mktemp("guarded")
    made = Stand(folder, environment(folder))
    token = folder / "token"
    token.write_text("static-token\n")
    token.chmod(0o600)
    made.configure(
        provider="custom",
        upstream={
            "url": f"http://127.0.0.1:{origin.server_address[1]}",
            "allow_paths": ["/api/**", "/open/"],
            "deny_paths": ["/api/v2/closed/**"],
            "allow_methods": ["GET", "HEAD", "OPTIONS", "POST"],
        },
        oauth={"grant": "static", "static_token_file": str(token)},
        routes=[{"name": "kept", "match": "/api/v2/kept/**", "ttl": "1h"}],
    )
    made.settings["oauth"] = {"grant": "static", "static_token_file": str(token)}
    made.configure(**made.settings)
    try:
        made.start_daemon(ready=True)
        yield made
    finally:
        made.end()


def raw(port: int, request: bytes) -> Answer:
    """What comes back for bytes as they are, on a connection of their own."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), fields, body)


def get(stand: Stand, target: bytes | str, *fields: str) -> Answer:
    """A GET whose target goes out byte for byte."""
    target = target.encode() if isinstance(target, str) else target
    more = "".join(f"{field}\r\n" for field in fields).encode("latin-1")
    return raw(stand.port, b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n" % (target, more))


# ---- paths -----------------------------------------------------------------------------------------------------------


# each spelling is tested in tests/core/test_admission.py
@pytest.mark.parametrize(
    "path",
    ["/secret", "/api/..%2fsecret", "/api/%252e%252e/secret", "/open/../secret", "/API/x", "/api/v2//Closed%2fx"],
)
def test_no_path_leads_out_of_what_is_allowed_or_into_what_is_denied(guarded: Stand, origin: Origin, path: str) -> None:
    before = len(origin.seen)
    answer = get(guarded, path)
    assert (answer.status, answer.json["code"]) == (403, "path_not_allowed")
    assert origin.seen[before:] == []


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/v2/x", "/api//x", "/api/./x", "/api/v2/../v3/x", "/api/a%2Fb", "/api/A;b=c/x", "/open/", "/api/x.php", "/api/%25ud800"],
)  # fmt: skip
def test_what_stays_within_passes_byte_for_byte(guarded: Stand, origin: Origin, path: str) -> None:
    assert get(guarded, f"{path}?a=/../b").status == 200
    assert origin.seen[-1] == f"GET {path}?a=/../b HTTP/1.1"


# ---- targets ---------------------------------------------------------------------------------------------------------

RAW = "/api/v2/kept/a[1]|b?filter[name][]=a|b&x={1}\\^`"


def test_what_browsers_and_php_leave_as_it_is_is_one_target_everywhere(guarded: Stand, origin: Origin) -> None:
    first = get(guarded, RAW)
    assert first.status == 200
    assert origin.seen[-1] == f"GET {RAW} HTTP/1.1"
    assert get(guarded, RAW).headers["cache-status"].startswith("passoproxy; hit")
    config = ("--config", str(guarded.config))
    explained = json.loads(guarded.run("explain", "GET", guarded.proxy + RAW, "--json", *config).stdout)
    assert (explained["outcome"], explained["target"]) == ("hit", RAW)
    assert guarded.run("cache", "show", RAW, *config).returncode == 0
    listed = json.loads(guarded.run("cache", "list", "--json", *config).stdout)
    assert [each["url"] for each in listed if each["url"].endswith(RAW)]
    purged = guarded.run("cache", "purge", "--url", guarded.proxy + RAW, "--json", *config)
    assert json.loads(purged.stdout)["purged"] == 1
    paths = Path(guarded.folder / "paths")
    paths.write_text(f"{RAW}\n")
    warmed = guarded.run("cache", "warm", str(paths), "--json", *config)
    assert json.loads(warmed.stdout)["fetched"] == 1
    assert origin.seen[-1] == f"GET {RAW} HTTP/1.1"
    assert get(guarded, RAW).headers["cache-status"].startswith("passoproxy; hit")
    purged = guarded.run("cache", "purge", "--prefix", RAW.partition("|")[0], "--json", *config)
    assert json.loads(purged.stdout)["purged"] == 1


@pytest.mark.parametrize(
    ("target", "named", "instead"),
    [
        (b"/api/<", "'<'", "%3C"),
        (b"/api/100%", "'%'", "%25"),
        ("/api/ä".encode(), "0xC3", "%C3"),
        (b"/api/a b", "space", "%20"),
        (b"http://localhost/api/<", "'<'", "%3C"),
    ],
)
def test_what_may_not_stand_in_a_target_is_named(guarded: Stand, target: bytes, named: str, instead: str) -> None:
    answer = get(guarded, target)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert named in answer.json["detail"]
    assert instead in answer.json["detail"]


def test_commands_refuse_the_targets_that_the_proxy_refuses(guarded: Stand) -> None:
    config = ("--config", str(guarded.config))
    for command in (("explain", "GET"), ("cache", "show"), ("cache", "purge", "--url")):
        done = guarded.run(*command, "/api/<", *config)
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert "%3C" in done.stderr


# ---- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        ("Origin: http://localhost",),
        ("Origin: http://localhost", "Sec-Fetch-Site: same-origin"),
        ("Origin: https://localhost",),
        ("Origin: null",),
        ("Sec-Fetch-Site: same-site",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"),
    ],
)
def test_no_page_passes_that_is_not_listed_the_proxys_own_included(
    guarded: Stand, origin: Origin, fields: tuple[str, ...]
) -> None:
    before = len(origin.seen)
    answer = get(guarded, "/api/page", *fields)
    assert (answer.status, answer.json["code"]) == (403, "origin_not_allowed")
    assert origin.seen[before:] == []


def test_what_a_person_types_and_what_has_no_origin_passes(guarded: Stand) -> None:
    for site in ("none", "same-origin"):
        assert get(guarded, "/api/page", f"Sec-Fetch-Site: {site}").status == 200


# ---- the process -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_another_process_of_the_same_user_sees_nothing_of_it(stand: Stand, workers: int) -> None:
    """No core dump, no ptrace; root may look."""
    is_root = os.geteuid() == 0
    # of one user, and root no more than others: without capabilities
    as_a_user = [program("setpriv"), "--bounding-set=-all", "--inh-caps=-all"] if is_root else []
    stand.configure(server={"listen": "127.0.0.1:0", "workers": workers})
    daemon = subprocess.Popen(
        [*as_a_user, *PROGRAM, "serve", "--config", str(stand.config)], env=stand.environment, stderr=subprocess.DEVNULL
    )
    try:
        assert until(lambda: ask(stand.admin_port, "/healthz").status == 200 or daemon.poll() is not None)
        assert daemon.poll() is None
        assert until(lambda: stand.status()["reason"] != "starting")
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        assert len(children) == (workers if workers > 1 else 0)
        for pid in (str(daemon.pid), *children):
            limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
            assert next(line for line in limits if line.startswith("Max core file size")).split()[4] == "0"
            for name in ("environ", "mem", "maps"):
                seen = subprocess.run(
                    [*as_a_user, "head", "-c1", f"/proc/{pid}/{name}"], capture_output=True, text=True
                )
                assert "Permission denied" in seen.stderr, (pid, name, seen)
            assert not is_root or Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        daemon.terminate()
        assert daemon.wait(40) == 0
    # the probe may look at a process of another program, once that has begun
    script = 'sleep 60 & until head -c1 "/proc/$!/environ" | grep -q .; do sleep 0.05; done; kill $!'
    subprocess.run([*as_a_user, "sh", "-c", script], check=True, capture_output=True, timeout=30)
