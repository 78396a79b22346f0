"""The systemd units, by systemd's own check where it is there and by their words everywhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

from passoproxy.config.environment import CREDENTIALS
from passoproxy.config.settings import Settings
from passoproxy.config.units import duration
from tests.conftest import program

FOLDER = Path(__file__).parents[2] / "systemd"


def entries(name: str) -> dict[str, dict[str, list[str]]]:
    """Sections of a unit, each key with all its values."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, mark, value = line.partition("=")
            assert mark, line
            section.setdefault(key, []).append(value)
    return found


def test_systemd_finds_no_fault() -> None:
    units = [str(FOLDER / name) for name in ("passoproxy.service", "passoproxy.socket")]
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "passoproxy" in line]) == (0, [])


def test_the_service_tells_and_is_told() -> None:
    service = entries("passoproxy.service")["Service"]
    assert service["Type"] == ["notify"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["WatchdogSec"]
    assert service["Restart"] == ["on-failure"]
    # usage and configuration are not mended by trying again
    assert set(service["RestartPreventExitStatus"][0].split()) == {"2", "78"}
    assert duration(service["TimeoutStopSec"][0]) > Settings().server.shutdown_grace + 15


def test_the_service_has_folders_and_secret_of_its_own() -> None:
    service = entries("passoproxy.service")["Service"]
    assert service["DynamicUser"] == ["yes"]
    for kind in ("State", "Cache"):
        assert service[f"{kind}Directory"] == ["passoproxy"]
        assert service[f"{kind}DirectoryMode"] == ["0700"]
    name, _, path = service["LoadCredential"][0].partition(":")
    assert name in CREDENTIALS
    assert Path(path) == Settings().oauth.client_secret_file
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]


def test_the_socket_opens_the_default_listeners_under_one_name() -> None:
    found = entries("passoproxy.socket")["Socket"]
    assert found["ListenStream"] == [str(each) for each in Settings().server.listen]
    assert found["FileDescriptorName"] == ["proxy"]
