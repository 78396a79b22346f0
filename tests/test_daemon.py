"""A daemon from its start to its end: listeners, reload, draining, what the service manager is told, and that nothing is left over."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from passoproxy import daemon as daemon_module
from passoproxy.compose import listeners
from passoproxy.compose.listeners import certificate_of
from passoproxy.daemon import Daemon, run
from passoproxy.errors import CannotCreate, ConfigurationError, ServiceUnreachable
from passoproxy.host import control_socket
from tests.fakes import settle
from tests.other_users import OTHER, acting_as, needs_root, opened_to_all
from tests.whole import CONTENT, Place, Running, free_port, running, sandboxed


async def get(url: str, session: aiohttp.ClientSession | None = None, **more: Any) -> tuple[int, str]:
    async with contextlib.AsyncExitStack() as stack:
        session = session or await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        answer = await stack.enter_async_context(session.get(url, **more))
        return answer.status, await answer.text()


async def until(condition: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def own_threads() -> set[str]:
    """Threads, less those of the loop's own pool."""
    return {each.name for each in threading.enumerate() if not each.name.startswith("asyncio_")}


def sockets() -> set[object]:
    """Where this process listens."""
    found: set[object] = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.add(sock.getsockname())
    return found


# ---- start and end ---------------------------------------------------------------------------------------------------


async def test_it_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place:
        tasks, threads = asyncio.all_tasks(), own_threads()
        open_before = sockets()
        async with running(place, authorised=True) as it:
            status, body = await get(it.proxy + CONTENT)
            assert status == 200
            assert "ZA" in body
            assert (await get(it.admin + "/readyz"))[1].startswith("ready\nrunway ")
            assert (place.folder / "state" / control_socket.NAME).exists()
        assert not (place.folder / "state" / control_socket.NAME).exists()
        await settle()
        gc.collect()
        await settle()
        assert asyncio.all_tasks() <= tasks
        await until(lambda: own_threads() <= threads)
        assert sockets() <= open_before


async def test_what_is_told_from_start_to_end(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place:
        told: list[Any] = []
        daemon = Daemon(place.load())
        async with daemon.running() as wired:
            line = wired.control.facts.listeners
            assert line[0].startswith("proxy http://127.0.0.1:")
            assert line[1] == f"admin http://127.0.0.1:{place.admin_port}"
            told.append(wired.control.readiness(False))
        told.append(wired.control.readiness(False))
        assert told[0][1:] == (
            "unready",
            "nobody has authorised passoproxy yet; " + wired.control.status()["token"]["remedy"],
        )
        assert told[1] == (False, "unready", "draining")


async def test_a_static_daemon_ends_at_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("a-static-token")
    place = Place(tmp_path)
    async with asyncio.timeout(15):
        async with running(place, oauth={"grant": "static", "static_token_file": str(token)}) as it:
            assert it.wired.keeper.snapshot().access == "valid"
            assert it.wired.control.readiness(strict=True) == (True, "ready", "")


async def test_a_start_that_fails_closes_what_was_opened(tmp_path: Path) -> None:
    place = Place(tmp_path)
    port, path = free_port(), tmp_path / "proxy.sock"
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "lock").mkdir()
    daemon = Daemon(place.load(server={"listen": [f"127.0.0.1:{port}", f"unix:{path}"]}))
    with pytest.raises(CannotCreate, match=r"lock: cannot be made.*state\.directory"):
        async with daemon.running():
            pass
    assert not path.exists()
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert os.listdir(tmp_path / "state" / "lock") == []
    assert not list((tmp_path / "state").glob("control*"))


async def test_a_second_daemon_follows_and_takes_the_owners_name(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(Place(tmp_path)))
        (tmp_path / "second").mkdir()
        place = Place(tmp_path / "second", admin_port=free_port())
        shared = {"state": {"directory": str(state)}, "cache": {"directory": str(tmp_path / "cache")}}
        async with running(place, **shared) as second:
            assert (first.wired.keeper.role, second.wired.keeper.role) == ("owner", "following")
            names = {path.name for path in state.glob("control*.sock")}
            assert names == {control_socket.NAME, control_socket.follower_name()}
            assert "following" in second.daemon._status_line(second.wired)
            await stack.aclose()
            await until(lambda: second.wired.keeper.role == "owner")
            await until(lambda: {path.name for path in state.glob("control*.sock")} == {control_socket.NAME})
            control_socket.connect(state, 1).close()
            assert "following" not in second.daemon._status_line(second.wired)
    assert not list(state.glob("control*.sock"))


async def test_a_port_in_use_is_named_with_its_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for key, sections in (
            ("server.listen", {"server": {"listen": address}}),
            ("admin.listen", {"admin": {"listen": address}}),
            ("admin.probe_listen", {"admin": {"probe_listen": address}}),
        ):
            with pytest.raises(ServiceUnreachable, match=f"{address}.*in {key}") as caught:
                async with Daemon(Place(tmp_path).load(**sections)).running():
                    pass
            assert caught.value.exit_code == 69
    assert not (tmp_path / "state").exists()


def test_signals_from_the_outside(tmp_path: Path) -> None:
    """`run` in the main thread: SIGHUP reads again, SIGTERM ends in order."""
    place = Place(tmp_path)
    loaded = place.load()
    failures: list[str] = []

    def outside() -> None:
        import urllib.request

        url = f"http://127.0.0.1:{place.admin_port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def ask(path: str) -> str:
            with contextlib.suppress(OSError), opener.open(url + path, timeout=2) as answer:
                return str(answer.read().decode())
            return ""

        try:
            _until_sync(lambda: ask("/healthz") == "ok\n")
            place.write(log={"level": "error", "access": True})
            os.kill(os.getpid(), signal.SIGHUP)
            place.write(upstream={"queue_timeout": "3s"})
            os.kill(os.getpid(), signal.SIGHUP)
            _until_sync(lambda: ask("/healthz") == "ok\n")
        except BaseException as fault:
            failures.append(repr(fault))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    thread = threading.Thread(target=outside)
    thread.start()
    try:
        assert run(loaded) == 0
    finally:
        thread.join(20)
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert not failures


def _until_sync(condition: Any, seconds: float = 15.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


async def test_a_reload_asked_for_during_the_start_comes_after_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    daemon = Daemon(place.load(), reading=place.again)
    daemon.reload_soon()
    place.write(upstream={"queue_timeout": "3s"})
    async with daemon.running() as wired:
        await until(lambda: wired.loaded.settings.upstream.queue_timeout == 3.0)


# ---- reload ----------------------------------------------------------------------------------------------------------


async def test_a_reload_under_load_loses_no_request(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
        answers: list[int] = []
        stop = asyncio.Event()

        async def client(session: aiohttp.ClientSession, number: int) -> None:
            while not stop.is_set():
                status, _ = await get(f"{it.proxy}{CONTENT}&n={number}-{len(answers)}", session)
                answers.append(status)

        async with aiohttp.ClientSession(trust_env=False) as session:
            clients = [asyncio.create_task(client(session, number)) for number in range(4)]
            for seconds in range(3, 9):
                seen = len(answers)
                place.write(upstream={"queue_timeout": f"{seconds}s"})
                it.daemon.reload_soon()
                await until(lambda at=seconds: it.wired.loaded.settings.upstream.queue_timeout == at)
                await until(lambda at=seen: len(answers) > at + 8)
            stop.set()
            await asyncio.gather(*clients)
        assert set(answers) == {200}


async def test_a_broken_file_changes_nothing_and_a_fault_inside_ends_no_reload(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with running(place) as it:
        before = it.wired.loaded
        place.config.write_text("upstream: [")
        it.daemon.reload_soon()
        it.daemon.reload_soon()  # comes again after the first
        await it.daemon._reloading  # type: ignore[misc]
        assert it.wired.loaded is before
        assert "reload_refused" in str(it.wired.control.status()["warnings"])

        async def broken() -> dict[str, object]:
            raise RuntimeError("secret detail")

        it.wired.control.reloading = broken
        it.daemon.reload_soon()
        await it.daemon._reloading  # type: ignore[misc]
        errors = str(it.wired.control.status()["recent_errors"])
        assert "reload" in errors
        assert "secret detail" not in errors
        assert (await get(it.admin + "/healthz"))[0] == 200


async def test_limits_change_live_on_the_admin_listener_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with running(place) as it:
        large = {"X-Large": "x" * 5000}
        assert (await get(it.admin + "/healthz", headers=large))[0] == 200
        place.write(server={"limits": {"header_bytes": "2KiB", "connections": 1}})
        it.daemon.reload_soon()
        await it.daemon._reloading  # type: ignore[misc]
        assert (await get(it.admin + "/healthz", headers=large))[0] == 431
        with socket.create_connection(("127.0.0.1", place.admin_port)):
            await settle()
            assert (await get(it.admin + "/healthz"))[0] == 503
        assert it.wired.connections.limits.header_bytes == 2048


async def test_a_task_that_ends_by_a_fault_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    daemon = Daemon(place.load())
    async with daemon.running() as wired:
        assert {"keeper", "alerts", "warming", "store", "service manager"} <= {
            each.get_name() for each in daemon._tasks
        }

        async def broken() -> None:
            raise RuntimeError("no")

        task = asyncio.create_task(broken())
        task.add_done_callback(lambda done: daemon._ended(done, "store"))
        with contextlib.suppress(RuntimeError):
            await task
        await settle()
        assert "store" in str(wired.control.status()["recent_errors"])


# ---- draining --------------------------------------------------------------------------------------------------------


async def test_what_is_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    async with sandboxed(tmp_path, latency=0.4) as place:
        daemon = Daemon(place.load())
        async with daemon.running() as wired:
            it = Running(daemon, wired, place)
            from passoproxy.demo import authorise

            await authorise(wired)
            asked = asyncio.create_task(get(it.proxy + CONTENT))
            await until(lambda: wired.handler.in_flight == 1)
        status, _ = await asked
        assert status == 200
        assert wired.control.readiness(strict=False)[2] == "draining"


async def test_what_takes_longer_than_the_grace_is_cut(tmp_path: Path) -> None:
    async with sandboxed(tmp_path, latency=5.0) as place:
        loaded = place.load(server={"shutdown_grace": "50ms"}, oauth={"grant": "static", "static_token": "x"})
        daemon = Daemon(loaded)
        async with asyncio.timeout(4), daemon.running() as wired:
            asked = asyncio.create_task(get(Running(daemon, wired, place).proxy + CONTENT))
            await until(lambda: wired.handler.in_flight == 1)
        with pytest.raises(aiohttp.ClientError):
            await asked


# ---- listeners -------------------------------------------------------------------------------------------------------


async def test_unix_listeners(tmp_path: Path) -> None:
    proxy, admin = tmp_path / "p.sock", tmp_path / "a.sock"
    place = Place(tmp_path)
    async with running(place, server={"listen": f"unix:{proxy}"}, admin={"listen": f"unix:{admin}"}) as it:
        assert {stat.S_IMODE(path.stat().st_mode) for path in (proxy, admin)} == {0o600}
        assert it.wired.control.facts.listeners == (f"proxy unix:{proxy}", f"admin unix:{admin}")
        for path, target, wanted in ((admin, "/healthz", 200), (proxy, CONTENT, 503)):
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
                assert (await get(f"http://localhost{target}", session))[0] == wanted
    assert not proxy.exists()
    assert not admin.exists()


@needs_root
@pytest.mark.parametrize(
    ("listed", "groups", "wanted"),
    [
        ([], [], b""),
        (["nobody"], [], b"HTTP/1.1 "),
        (["nogroup"], [], b"HTTP/1.1 "),
        (["daemon"], [], b""),
        (["daemon"], [1], b"HTTP/1.1 "),
        (["daemon"], [*range(50_000, 50_100), 1], b"HTTP/1.1 "),
        (
            ["daemon"],
            [*range(50_000, 50_600), 1],
            b"",
        ),  # more than the kernel tells here, and the database does not know of them
    ],
)
async def test_unix_peers_say_who_may_connect(
    tmp_path: Path, listed: list[str], groups: list[int], wanted: bytes
) -> None:
    path = Path(f"/tmp/passoproxy-test-{os.getpid()}.sock")
    async with running(Place(tmp_path), server={"listen": f"unix:{path}", "unix_peers": listed}):
        assert stat.S_IMODE(path.stat().st_mode) == (0o666 if listed else 0o600)
        path.chmod(0o666)  # so that only the kernel's word on the peer decides
        code = (
            f"import os, socket; os.setgroups({groups}); os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
            f"s.connect({str(path)!r}); s.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')\n"
            "try: print(s.recv(9).decode(), end='')\n"
            "except ConnectionError: pass"
        )
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
        said, _ = await child.communicate()
    assert said == wanted
    assert not path.exists()


async def test_a_listener_that_speaks_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(key))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running(Place(tmp_path), server={"tls": {"cert_file": str(cert), "key_file": str(key)}}) as it:
        port = it.wired.control.facts.ports[0]
        assert it.wired.control.facts.listeners[0] == f"proxy https://127.0.0.1:{port}"
        status, body = await get(f"https://127.0.0.1:{port}{CONTENT}", ssl=trusting)
        assert status == 503
        assert "authorization_required" in body
        key.chmod(0o644)
        with pytest.raises(CannotCreate, match=r"server\.tls\.key_file: can be read by others"):
            certificate_of(it.wired.loaded.settings)
        key.chmod(0o600)
    key.write_text("no key")
    with pytest.raises(CannotCreate, match=r"server\.tls"):
        async with running(Place(tmp_path), server={"tls": {"cert_file": str(cert), "key_file": str(key)}}):
            pass
    assert not (tmp_path / "state" / control_socket.NAME).exists()


async def test_probes_have_a_listener_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    async with running(Place(tmp_path), admin={"listen": False, "probe_listen": f"127.0.0.1:{port}"}) as it:
        assert it.wired.control.facts.listeners[1:] == (f"probes http://127.0.0.1:{port}",)
        base = f"http://127.0.0.1:{port}"
        anything = {"headers": {"Host": "a.pod.example"}}
        assert await get(base + "/healthz", **anything) == (200, "ok\n")
        assert (await get(base + "/readyz", **anything))[0] == 503
        assert "passoproxy_build_info" in (await get(base + "/metrics", **anything))[1]
        assert (await get(base + "/api/status", **anything))[0] == 404


async def test_the_default_listens_on_ipv6_only_where_there_is_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    loaded = place.load(server={"listen": None})
    assert loaded.is_default("server.listen")
    opened: list[str] = []

    def open_tcp(host: str, port: int) -> socket.socket:
        opened.append(f"{host} {port}")
        return socket.socket()

    monkeypatch.setattr(listeners, "open_tcp", open_tcp)
    for there, wanted in ((True, ["127.0.0.1 8610", "::1 8610"]), (False, ["127.0.0.1 8610"])):
        monkeypatch.setattr(listeners, "has_ipv6", lambda there=there: there)
        opened.clear()
        bound = listeners.Bound()
        listeners.bind(loaded, bound, {})
        bound.close()
        assert opened[:-1] == wanted


def test_whether_there_is_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listeners.has_ipv6() in (True, False)
    monkeypatch.setattr(socket.socket, "bind", lambda *_: (_ for _ in ()).throw(OSError("no such address")))
    assert listeners.has_ipv6() is False


def test_names_of_sockets() -> None:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        assert listeners.name_of(sock, "http") == f"http://[::1]:{sock.getsockname()[1]}"


@pytest.fixture
def everywhere() -> Iterator[int]:
    """The descriptor of a listening socket on every address, as a service manager may pass one."""
    with socket.create_server(("0.0.0.0", 0)) as sock:
        yield sock.fileno()


@pytest.mark.parametrize(
    ("sections", "refused"),
    [
        ({"server": {"listen": "fd:web"}}, "server.listen"),
        ({"server": {"listen": "fd:web", "trust_network": True}}, ""),
        ({"server": {"listen": "fd:web", "allowed_peers": ["10.0.0.0/8"]}}, ""),
        ({"admin": {"listen": "fd:web"}}, "admin.listen"),
        ({"admin": {"listen": "fd:web", "token": "abcdefgh"}}, ""),
        ({"admin": {"probe_listen": "fd:web"}}, ""),
    ],
)
def test_an_inherited_socket_beyond_loopback_needs_a_guard(
    tmp_path: Path, everywhere: int, sections: dict[str, Any], refused: str
) -> None:
    bound = listeners.Bound()
    passed = {"web": [os.dup(everywhere)]}
    try:
        if refused:
            with pytest.raises(ConfigurationError, match=rf"{refused}: fd:web is tcp://0\.0\.0\.0:\d+") as caught:
                listeners.bind(Place(tmp_path).load(**sections), bound, passed)
            assert caught.value.faults[0].remedy
        else:
            listeners.bind(Place(tmp_path).load(**sections), bound, passed)
    finally:
        bound.close()


def test_a_socket_that_was_not_passed_is_named(tmp_path: Path) -> None:
    bound = listeners.Bound()
    with pytest.raises(ServiceUnreachable, match=r"server\.listen: no socket named 'web' .*passed: none"):
        listeners.bind(Place(tmp_path).load(server={"listen": "fd:web"}), bound, {})


def test_socket_activation(tmp_path: Path) -> None:
    """A process of its own, because the first passed descriptor is 3."""
    place = Place(tmp_path)
    place.write(server={"listen": "fd:web"})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = (
            f"import os, sys; os.dup2({listener.fileno()}, 3, inheritable=True); os.environ.update(LISTEN_PID=str(os.getpid()), "
            "LISTEN_FDS='1', LISTEN_FDNAMES='web'); os.execv(sys.executable, [sys.executable, '-m', 'passoproxy', 'serve', "
            f"'--config', {str(place.config)!r}])"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
    try:
        with socket.create_connection(("127.0.0.1", port), 60) as client:  # waits in the queue until it is there
            client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 503"
        child.terminate()
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.communicate()


# ---- the service manager ---------------------------------------------------------------------------------------------


async def test_what_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    heard: list[str] = []

    def listen() -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(manager.recv(4096).decode())
        return heard

    with manager:
        # all the while: what finds its queue full is not told
        asyncio.get_running_loop().add_reader(manager, listen)
        async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
            await until(lambda: sum(each == "WATCHDOG=1\n" for each in listen()) >= 3)
            await until(lambda: any(each.startswith("STATUS=ready;") for each in listen()))
            it.daemon.reload_soon()
            await it.daemon._reloading  # type: ignore[misc]
        listen()
        asyncio.get_running_loop().remove_reader(manager)
    ready = [each for each in heard if each.startswith("READY=1\nSTATUS=")]
    assert len(ready) == 2
    reloading = next(each for each in heard if each.startswith("RELOADING=1\nMONOTONIC_USEC="))
    stopping = next(each for each in heard if each.startswith("STOPPING=1\n"))
    assert heard.index(ready[0]) < heard.index(reloading) < heard.index(ready[1]) < heard.index(stopping)
    assert any(
        re.fullmatch(r"STATUS=ready; access token valid, chain healthy, runway (1 h|59 min.*)\n", each)
        for each in heard
    )
    assert "until a person" not in ready[0]
    assert not any(each.startswith("READY") for each in heard[heard.index(stopping) :])


async def test_a_daemon_that_needs_nobody_says_so(tmp_path: Path) -> None:
    async with running(Place(tmp_path), oauth={"grant": "static", "static_token": "x"}) as it:
        assert it.daemon._status_line(it.wired).endswith("no person needed")


async def test_a_refresh_token_that_ends_early_is_renewed_in_time(tmp_path: Path) -> None:
    async with running(Place(tmp_path)) as here:
        document = b'{"access_token": "a", "refresh_token": "r", "expires_in": 3600, "refresh_expires_in": 100}'
        await here.wired.control.import_pair(document)
        token: Any = here.wired.control.status()["token"]
    assert 0 < token["runway_seconds"] <= 100
    assert 0 < token["next_refresh_at"] - token["obtained_at"] < 45


async def test_a_volatile_state_folder_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "volatile", lambda folder: "is in memory (tmpfs)")
    async with running(Place(tmp_path), upstream={"max_connections": 1}) as it:
        warned = {each["code"]: each["detail"] for each in it.wired.control.status()["warnings"]}
    assert "is in memory (tmpfs)" in warned["state_volatile"]
    assert "upstream.max_connections" in warned["fewer_connections"]


@needs_root
async def test_folders_of_another_user_get_a_private_one_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "inside_container", lambda environ: False)
    for name in ("state", "cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
        os.chown(tmp_path / name, OTHER, -1)
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
        assert (await get(it.proxy + CONTENT))[0] == 200
        await it.wired.store.settled()
        found = it.wired.control.status()
        for name in ("state", "cache"):
            inner = tmp_path / name / "passoproxy-0"
            assert os.listdir(tmp_path / name) == ["passoproxy-0"]
            assert (stat.S_IMODE(inner.stat().st_mode), inner.stat().st_uid) == (0o700, 0)
        assert found["cache"]["directory"] == str(tmp_path / "cache" / "passoproxy-0")
        told = [each["detail"] for each in found["warnings"] if each["code"] == "folder_exposed"]
        assert [each.partition(",")[0] for each in told] == [
            f"{name}.directory {tmp_path / name}/passoproxy-0: {tmp_path / name} belongs to user id {OTHER}"
            for name in ("state", "cache")
        ]


@needs_root
@pytest.mark.parametrize("name", ["state", "cache"])
async def test_a_link_of_another_user_in_place_of_a_folder_ends_the_start(tmp_path: Path, name: str) -> None:
    target = opened_to_all(tmp_path) / "target"
    target.mkdir(mode=0o755)
    tmp_path.chmod(0o1777)
    with acting_as(OTHER):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(
        CannotCreate, match=rf"the symbolic link .*/{name} could be another user's.*set {name}\.directory"
    ):
        async with running(Place(tmp_path)):
            pass
    assert (os.listdir(target), stat.S_IMODE(target.stat().st_mode)) == ([], 0o755)


async def test_whether_the_previous_key_may_go_is_told(tmp_path: Path) -> None:
    keys = {}
    for name in ("old", "new"):
        keys[name] = tmp_path / name
        keys[name].write_text(base64.b64encode(name.encode() * 16)[:43].decode() + "=")
        keys[name].chmod(0o600)
    async with running(Place(tmp_path), state={"key_file": str(keys["old"])}) as it:
        assert "previous_key" not in {each["code"] for each in it.wired.control.status()["warnings"]}
    given = {"key_file": str(keys["new"]), "previous_key_file": str(keys["old"])}
    async with running(Place(tmp_path), state=given) as it:
        warned = {each["code"]: each["detail"] for each in it.wired.control.status()["warnings"]}
    assert warned["previous_key"].startswith("state.previous_key_file is not needed for ")
