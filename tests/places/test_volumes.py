"""Secrets and configuration in volumes of Kubernetes: files are links through `..data`, which is exchanged for another folder."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.journeys.conftest import Stand, until

TARGET = "/api/v2/languages"


def kubelet(volume: Path) -> Callable[..., None]:
    """Publishes files in `volume` as a kubelet does, each time anew."""
    numbers = itertools.count(1)

    def publish(**files: str) -> None:
        written = volume / f"..2026_11_28_{next(numbers)}"
        written.mkdir(parents=True)
        for name, text in files.items():
            (written / name).write_text(text)
            (written / name).chmod(0o644)
            if not (volume / name).is_symlink():
                (volume / name).symlink_to(f"..data/{name}")
        (volume / "..data_tmp").symlink_to(written.name)
        before = (volume / "..data").resolve()
        (volume / "..data_tmp").rename(volume / "..data")
        if before.name != "..data":
            for each in before.iterdir():
                each.unlink()
            before.rmdir()

    return publish


@pytest.mark.slow  # a secret's file is looked at every ten seconds
def test_files_are_exchanged_under_a_running_daemon(public_stand: Stand) -> None:
    stand = public_stand
    volume = stand.folder / "volume"
    secrets, configuration = kubelet(volume / "secrets"), kubelet(volume / "config")
    stand.start_sandbox()
    oauth = {**stand.settings["oauth"], "client_secret_file": str(volume / "secrets" / "client_secret")}
    stand.configure(oauth=oauth, server={"client_keys_file": str(volume / "secrets" / "client_keys")})
    settings = yaml.safe_load(stand.config.read_text())
    stand.config.unlink()
    stand.config.symlink_to(volume / "config" / "config.yaml")
    secrets(client_secret="demo\n", client_keys="application:first\n")
    configuration(**{"config.yaml": yaml.safe_dump(settings)})
    stand.place = {"mounts": f"mount --bind {volume} {volume}; mount -o remount,bind,ro {volume}"}
    stand.start_daemon()
    stand.login()

    def asked(key: str, path: str = TARGET) -> int:
        return stand.get(path, X_Passoproxy_Key=key).status

    assert (asked("first"), asked("second")) == (200, 401)
    secrets(client_secret="demo\n", client_keys="application:second\n")
    assert until(lambda: asked("second") == 200), stand.daemon.said
    assert asked("first") == 401
    settings["upstream"]["deny_paths"] = ["/api/v2/languages"]
    configuration(**{"config.yaml": yaml.safe_dump(settings)})
    stand.daemon.send(signal.SIGHUP)
    assert until(lambda: asked("second") == 403), stand.daemon.said
    assert stand.stop_daemon() == 0
