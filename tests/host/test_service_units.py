"""The systemd units, by systemd's own check where it is there and by their words everywhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from passoproxy.config.settings import Settings
from passoproxy.config.sources import SYSTEM_CONFIGURATION, UNIT_STATE, credential_names
from passoproxy.core.units import read_duration, read_size
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


MOST_EXPOSED = 1.2
"""By systemd's own scale, from 0 to 10; 1.1 would take PrivateUsers, under which server.unix_peers knows nobody."""


@pytest.mark.parametrize("name", ["passoproxy.service", "passoproxy@.service"])
def test_the_service_is_exposed_no_more_than_it_must_be(name: str) -> None:
    command = [program("systemd-analyze"), "security", "--offline=true", "--no-pager", str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = re.search(r"exposure level for passoproxy[@_a-z]*\.service: ([0-9.]+)", done.stdout)
    assert told is not None, done
    assert float(told[1]) <= MOST_EXPOSED, done.stdout


def test_the_service_tells_and_is_told() -> None:
    service = entries("passoproxy.service")["Service"]
    assert service["Type"] == ["notify"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["WatchdogSec"]
    assert service["Restart"] == ["on-failure"]
    # usage, configuration and a missing program are not mended by trying again
    assert set(service["RestartPreventExitStatus"][0].split()) == {"2", "78", "127"}
    assert read_duration(service["TimeoutStopSec"][0]) > Settings().server.shutdown_grace + 15


def test_nothing_ends_the_service_for_good_and_it_comes_back_more_and_more_slowly() -> None:
    units = entries("passoproxy.service")
    assert units["Unit"]["StartLimitIntervalSec"] == ["0"]
    first, last = (read_duration(units["Service"][key][0]) for key in ("RestartSec", "RestartMaxDelaySec"))
    assert 0 < first < last <= 60
    assert int(units["Service"]["RestartSteps"][0]) > 1


def test_the_service_has_folders_and_secret_of_its_own() -> None:
    service = entries("passoproxy.service")["Service"]
    assert service["DynamicUser"] == ["yes"]
    for kind in ("State", "Cache"):
        assert service[f"{kind}Directory"] == ["passoproxy"]
        assert service[f"{kind}DirectoryMode"] == ["0700"]
    assert Path("/var/lib") / service["StateDirectory"][0] == UNIT_STATE
    name, _, path = service["LoadCredential"][0].partition(":")
    assert (name, Path(path)) == ("client_secret", Settings().oauth.client_secret_file)
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["MemoryDenyWriteExecute"] == ["yes"]
    assert service["ProcSubset"] == ["pid"]
    assert "PrivateUsers" not in service
    assert read_size(f"{service['MemoryMax'][0]}iB") > 4 * Settings().cache.memory_size


def test_every_secret_has_its_line_that_hands_it_on() -> None:
    lines = re.findall(
        r"^#?LoadCredential=(\w+):/etc/passoproxy/(\w+)$", (FOLDER / "passoproxy.service").read_text(), re.M
    )
    assert all(name == file for name, file in lines)
    names = credential_names()
    assert {names[name] for name, _ in lines} == set(names.values())
    assert len(lines) == len(set(names.values()))


def test_the_service_runs_what_its_first_lines_install() -> None:
    text = (FOLDER / "passoproxy.service").read_text()
    command = entries("passoproxy.service")["Service"]["ExecStart"][0]
    assert command == f"/usr/bin/env passoproxy serve --config {SYSTEM_CONFIGURATION}"
    for line in (f"passoproxy config init {SYSTEM_CONFIGURATION}", f"passoproxy login --config {SYSTEM_CONFIGURATION}"):
        assert f"{line}\n" in text
    assert "ln -s /opt/passoproxy/bin/passoproxy /usr/local/bin/" in text


def test_the_socket_opens_the_default_listeners_under_one_name() -> None:
    found = entries("passoproxy.socket")["Socket"]
    assert found["ListenStream"] == [str(each) for each in Settings().server.listen]
    assert found["FileDescriptorName"] == ["proxy"]


def test_the_user_and_the_folder_can_be_made(tmp_path: Path) -> None:
    lines = (FOLDER / "passoproxy.tmpfiles.conf").read_text().splitlines()
    secrets = [line.split()[1] for line in lines if line.startswith("z ")]
    unit = (FOLDER / "passoproxy.service").read_text()
    assert secrets == re.findall(r"^#?LoadCredential=\w+:(/etc/passoproxy/\w+)$", unit, re.M)
    folder = tmp_path / "etc" / "passoproxy"
    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"], ["systemd-tmpfiles", "--create"]):
        given = FOLDER / f"passoproxy.{command[0].removeprefix('systemd-')}.conf"
        line = [program(command[0]), f"--root={tmp_path}", *command[1:], str(given)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        if folder.exists():
            (folder / "client_secret").touch(mode=0o644, exist_ok=True)
    assert "passoproxy:" in (tmp_path / "etc" / "passwd").read_text()
    assert (folder.stat().st_mode & 0o777, (folder / "client_secret").stat().st_mode & 0o777) == (0o755, 0o600)
