"""`passoproxy doctor`: planted faults are found, each with its remedy, and a good set-up has none."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from passoproxy.doctor import network
from tests.journeys.conftest import Stand, free_port
from tests.other_users import OTHER, acting_as, needs_root, opened_to_all

Run = Callable[..., subprocess.CompletedProcess[str]]
Findings = dict[str, list[Any]]
Examined = Callable[..., Findings]
Planted = Callable[..., None]


@pytest.fixture
def examined(stand: Stand, inside: Run) -> Examined:
    """The findings by check; all of JSON."""

    def examine(*words: str, code: int | None = None) -> Findings:
        ran = inside("doctor", "--config", str(stand.config), "--json", *words)
        found = json.loads(ran.stdout)
        assert ran.returncode == (1 if found["failed"] else 0) if code is None else code, ran.stderr
        checks: Findings = {}
        for each in found["findings"]:
            assert each["remedy"] or each["verdict"] in ("ok", "skipped"), each
            checks.setdefault(each["check"], []).append(each)
        return checks

    return examine


@pytest.fixture
def planted(examined: Examined) -> Planted:
    """One finding of the check is this."""

    def plant(check: str, verdict: str, seen: str, remedy: str, *words: str) -> None:
        found = examined(*words)[check]
        assert any(
            each["verdict"] == verdict and seen in each["seen"] and remedy in each["remedy"] for each in found
        ), found

    return plant


@pytest.fixture
def token(stand: Stand) -> Path:
    """A stand without a person: a token in a file."""
    path = stand.folder / "token"
    path.write_text("a-token\n")
    path.chmod(0o600)
    settings(stand, oauth={"grant": "static", "static_token_file": str(path)})
    return path


def settings(stand: Stand, **sections: Any) -> None:
    if "oauth" in sections:
        stand.settings["oauth"] = sections.pop("oauth")
    for name, section in sections.items():
        stand.settings[name] = {**stand.settings.get(name, {}), **section}
    stand.config.write_text(json.dumps(stand.settings))


class Odd(http.server.ThreadingHTTPServer):
    """An origin that answers everything with `status`, by a clock that is `off` seconds."""

    daemon_threads = True

    def __init__(self, status: int = 200, off: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + off)

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'' if tls is None else 's'}://localhost:{self.server_address[1]}"


@contextlib.contextmanager
def origin(stand: Stand, **how: Any) -> Iterator[None]:
    with Odd(**how) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        settings(stand, upstream={"url": server.url})
        yield
        server.shutdown()


def certificate(stand: Stand, days: float, trusted: bool = True) -> ssl.SSLContext:
    authority = trustme.CA()
    if trusted:
        path = stand.folder / "authority.pem"
        authority.cert_pem.write_to_path(path)
        settings(stand, upstream={"ca_file": str(path)})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue_cert(
        "localhost",
        not_before=datetime.now(UTC) - timedelta(days=90),
        not_after=datetime.now(UTC) + timedelta(days=days),
    )
    issued.configure_cert(context)
    return context


# ---- nothing is wrong ------------------------------------------------------------------------------------------------


def test_a_running_daemon_with_a_pair(stand: Stand, examined: Examined, inside: Run) -> None:
    stand.begin()
    before = stand.token
    found = examined()
    verdicts = {each["verdict"] for findings in found.values() for each in findings if each["check"] != "alerts"}
    assert verdicts == {"ok"}, found
    assert found["alerts"][0]["verdict"] == "warning"  # no hook
    assert "200" in found["request"][0]["seen"]
    assert stand.token["access_until"] == before["access_until"]
    plain = inside("doctor", "--config", str(stand.config))
    assert plain.returncode == 0
    assert "\nok\trequest\tGET /" in plain.stdout
    assert plain.stdout.endswith("\nall steps work, 1 warning\n")


def test_without_a_daemon_one_is_started_for_the_request(stand: Stand, token: Path, examined: Examined) -> None:
    with origin(stand):
        found = examined("--path", "/anything")
    assert found["daemon"][0]["verdict"] == "skipped"
    assert found["request"][0]["verdict"] == "ok"
    assert "GET /anything: 200" in found["request"][0]["seen"]
    assert not (stand.folder / "state").exists()  # nothing was made where the daemon's folders will be


def test_client_keys_and_a_base_path(stand: Stand, token: Path, examined: Examined) -> None:
    keys = stand.folder / "keys"
    keys.write_text("one:a-key\n")
    keys.chmod(0o600)
    settings(stand, server={"client_keys_file": str(keys), "base_path": "/passolution"})
    with origin(stand):
        assert examined()["request"][0]["verdict"] == "ok"


def test_a_daemon_on_a_unix_socket_and_one_that_was_not_restarted(
    stand: Stand, token: Path, examined: Examined
) -> None:
    path = stand.folder / "proxy.sock"
    settings(stand, server={"listen": f"unix:{path}"})
    with origin(stand):
        assert examined()["server.listen"][0]["seen"].endswith("can be made")
        stand.start_daemon()
        found = examined()
        assert [found[name][0]["verdict"] for name in ("server.listen", "request")] == ["ok", "ok"]
        settings(stand, server={"listen": f"127.0.0.1:{stand.port}"})
        found = examined()
        assert found["server.listen"][0]["verdict"] == "warning"
        assert "restart the daemon" in found["server.listen"][0]["remedy"]


# ---- what is planted -------------------------------------------------------------------------------------------------


def test_faults_of_the_configuration(stand: Stand, examined: Examined, inside: Run) -> None:
    settings(stand, upstream={"allow_htp": True}, server={"listen": "nonsense"})
    found = examined(code=78)["configuration"]
    assert [each["verdict"] for each in found] == ["failed", "failed"]
    assert found[0]["remedy"] == "did you mean allow_http?"
    said = inside("doctor", "--config", str(stand.config)).stdout
    assert said.endswith("\n2 steps failed, no warnings\n")


def test_a_warning_of_the_configuration(stand: Stand, planted: Planted) -> None:
    settings(stand, alerts={"command": ["/no/such/program"]})
    planted("configuration", "warning", "/no/such/program is no program", "")


def test_a_daemon_with_another_configuration(stand: Stand, examined: Examined) -> None:
    stand.start_daemon()
    other = stand.folder / "other.yaml"
    other.write_text(stand.config.read_text())
    other.chmod(0o600)
    found = examined("--config", str(other), "--state", str(stand.folder / "state"))["configuration"]
    assert (found[0]["verdict"], "was started with" in found[0]["seen"]) == ("warning", True)


def test_a_state_folder_that_is_a_file(stand: Stand, token: Path, planted: Planted) -> None:
    (stand.folder / "state").write_text("")
    planted("state folder", "failed", "is no folder", "set state.directory")


def test_a_state_folder_that_others_may_read(stand: Stand, token: Path, planted: Planted) -> None:
    folder = stand.folder / "state"
    folder.mkdir()
    folder.chmod(0o755)
    planted("state folder", "warning", "has mode 0755", "chmod 700")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_state_folder_of_another_user(stand: Stand, examined: Examined) -> None:
    folder = stand.folder / "state"
    folder.mkdir(0o700)
    os.chown(folder, 65534, 65534)
    found = examined()
    assert "belongs to user id 65534" in found["state folder"][0]["seen"]
    assert "chown" in found["state folder"][0]["remedy"]
    assert found["token"][0]["verdict"] == "skipped"
    assert list(folder.iterdir()) == []


@needs_root
def test_a_state_folder_that_this_user_may_not_reach(stand: Stand, examined: Examined) -> None:
    place = opened_to_all(stand.folder) / "closed"
    (place / "state").mkdir(parents=True)
    place.chmod(0o700)
    settings(stand, state={"directory": str(place / "state")})
    examined()  # all that is imported is there, for a user who may not read it
    os.chown(stand.folder / "client_secret", OTHER, OTHER)
    with acting_as():
        found = examined()
    assert "Permission denied" in found["state folder"][0]["seen"]
    assert found["token"][0]["verdict"] == "skipped"


def test_the_state_folder_that_is_named_is_the_one_that_is_used(stand: Stand, examined: Examined) -> None:
    named = stand.folder / "named"
    named.mkdir(0o700)
    found = examined("--state", str(named))
    assert "nobody has authorised" in found["token"][0]["seen"]
    assert (named / "lock").exists()
    assert not (stand.folder / "state").exists()


def test_a_step_that_breaks_off_is_a_finding(
    stand: Stand, token: Path, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_clock", lambda name, head: {}[name])
    with origin(stand):
        found = examined()
    assert "this step broke off (KeyError)" in found["origin"][-1]["seen"]
    assert found["request"][0]["verdict"] == "ok"


def test_a_folder_in_a_place_open_to_all(stand: Stand, token: Path, planted: Planted) -> None:
    place = stand.folder / "open"
    place.mkdir()
    place.chmod(0o777)
    (place / "state").mkdir(0o700)
    settings(stand, state={"directory": str(place / "state")})
    planted("state folder", "warning", "is open to every user", "set state.directory")


def test_a_name_that_cannot_be_resolved(stand: Stand, token: Path, planted: Planted) -> None:
    settings(stand, upstream={"url": "https://nosuch.invalid"})
    planted("origin", "failed", "the name nosuch.invalid cannot be resolved", "check the URL and DNS")


def test_an_origin_that_refuses(stand: Stand, token: Path, planted: Planted) -> None:
    settings(stand, upstream={"url": f"http://127.0.0.1:{free_port()}"})
    planted("origin", "failed", "cannot be reached (Connection refused)", "check that it runs")


def test_a_port_where_nothing_speaks_http(stand: Stand, token: Path, planted: Planted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def take_and_close() -> None:
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    silent.accept()[0].close()

        threading.Thread(target=take_and_close, daemon=True).start()
        settings(stand, upstream={"url": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        planted("origin", "failed", "gave no answer", "right host and port")
        silent.shutdown(socket.SHUT_RDWR)


def test_a_certificate_of_an_unknown_authority(stand: Stand, token: Path, planted: Planted) -> None:
    with origin(stand, tls=certificate(stand, days=365, trusted=False)):
        planted("origin", "failed", "certificate of localhost is not accepted", "upstream.ca_file")


def test_a_certificate_that_has_ended(stand: Stand, token: Path, planted: Planted) -> None:
    with origin(stand, tls=certificate(stand, days=-1)):
        planted("origin", "failed", "certificate has expired", "")


def test_a_certificate_that_ends_soon(stand: Stand, token: Path, planted: Planted) -> None:
    with origin(stand, tls=certificate(stand, days=5)):
        planted("origin certificate", "warning", "valid for ", "renewed")


@pytest.mark.parametrize(("off", "verdict", "way"), [(3600, "failed", "behind"), (-60, "warning", "ahead")])
def test_a_clock_that_is_off(stand: Stand, token: Path, off: float, verdict: str, way: str, planted: Planted) -> None:
    with origin(stand, off=off):
        planted("origin clock", verdict, way, "NTP")


def test_a_proxy_that_is_not_there(stand: Stand, token: Path, planted: Planted) -> None:
    settings(stand, upstream={"url": "https://origin.example", "proxy": f"http://127.0.0.1:{free_port()}"})
    planted("origin", "failed", "through the proxy 127.0.0.1", "")


def test_a_provider_that_is_away(stand: Stand, planted: Planted) -> None:
    planted("provider", "failed", "cannot be reached", "check that it runs")


def test_nobody_has_authorised(stand: Stand, planted: Planted) -> None:
    stand.start_sandbox()
    planted("token", "failed", "nobody has authorised", "passoproxy login")
    stand.start_daemon()
    planted("token", "failed", "nobody has authorised", "passoproxy login")


@pytest.mark.parametrize(
    ("status", "verdict", "remedy"),
    [(401, "failed", "log in anew"), (404, "warning", "--path"), (500, "failed", "wait, or ask")],
)
def test_an_origin_that_does_not_like_the_request(
    stand: Stand, token: Path, status: int, verdict: str, remedy: str, planted: Planted
) -> None:
    with origin(stand, status=status):
        planted("request", verdict, f": {status}", remedy)


def test_a_path_that_is_not_allowed(stand: Stand, token: Path, planted: Planted) -> None:
    settings(stand, upstream={"deny_paths": ["/secret/**"]})
    with origin(stand):
        planted("request", "warning", "403 path_not_allowed", "--path", "--path", "/secret/x")


def test_a_port_that_another_program_has(stand: Stand, token: Path, planted: Planted) -> None:
    with socket.create_server(("127.0.0.1", stand.port)):
        planted("server.listen", "failed", "address already in use", "ss -ltnp")


def test_a_socket_in_a_folder_that_is_not_there(stand: Stand, token: Path, planted: Planted) -> None:
    settings(stand, server={"listen": f"unix:{stand.folder}/missing/proxy.sock"})
    planted("server.listen", "failed", "is no folder that this user may write", "change server.listen")


def test_a_folder_that_cannot_be_made(stand: Stand, token: Path, planted: Planted) -> None:
    (stand.folder / "file").write_text("")
    settings(stand, cache={"directory": str(stand.folder / "file" / "cache")})
    planted("cache folder", "failed", "Not a directory", "set cache.directory")


def test_a_listener_for_every_machine(stand: Stand, token: Path, planted: Planted, examined: Examined) -> None:
    settings(stand, server={"listen": f"0.0.0.0:{stand.port}", "trust_network": True})
    planted("configuration", "warning", "every machine", "")
    assert "other machines can reach it" in examined()["server.listen"][0]["seen"]


def test_a_store_that_is_away(stand: Stand, token: Path, planted: Planted) -> None:
    settings(stand, store={"url": f"redis://127.0.0.1:{free_port()}/0"})
    planted("store", "failed", "127.0.0.1", "")


def test_a_webhook_that_is_away(stand: Stand, token: Path, examined: Examined) -> None:
    settings(stand, alerts={"webhook": f"http://127.0.0.1:{free_port()}/hook?token=hidden"})
    found = examined()
    assert found["alerts"][0]["verdict"] == "failed"
    assert "hidden" not in json.dumps(found)
