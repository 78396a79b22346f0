"""The pod of deploy/kubernetes/sidecar, with its own configuration: a user id without a name, a read-only root, volumes as a kubelet mounts them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.journeys.conftest import Stand, ask, until
from tests.places.conftest import Network, programs_for_all
from tests.places.test_networks import outcome, sandbox_in, take_pair
from tests.whole import CONTENT

ROOT = Path(__file__).parents[2]
SIDECAR = ROOT / "deploy" / "kubernetes" / "sidecar"


def mounts(stand: Stand, pod: dict[str, Any], container: dict[str, Any]) -> str:
    """A shell script: each volume of the container at its place, owned as `fsGroup` has it, and the root read-only."""
    group = pod["securityContext"]["fsGroup"]
    lines = [programs_for_all(stand.folder), f"cp -a /etc {stand.folder}/etc; mount --bind {stand.folder}/etc /etc"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {each}" for each in ("/run", "/var/lib", "/var/cache")]
    for each in container["volumeMounts"]:
        source, target = stand.folder / "volumes" / each["name"], each["mountPath"]
        lines.append(f"chgrp -R {group} {source}; chmod {750 if each.get('readOnly') else 2775} {source}")
        lines.append(f"mkdir -p {target}; mount --bind {source} {target}")
        if each.get("readOnly"):
            lines.append(f"mount -o remount,bind,ro {target}")
    return "\n".join([*lines, "mount -o remount,bind,ro /"])


@pytest.mark.slow
def test_the_sidecar(public_stand: Stand, network: Network, world: Network) -> None:
    stand = public_stand
    _, deployment = yaml.safe_load_all((SIDECAR / "application.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    container = next(each for each in pod["initContainers"] if each["name"] == "passoproxy")
    for each in container["volumeMounts"]:
        (stand.folder / "volumes" / each["name"]).mkdir(parents=True)
    (stand.folder / "volumes" / "configuration" / "config.yaml").write_text((SIDECAR / "config.yaml").read_text())
    secret = stand.folder / "volumes" / "secrets" / "client_secret"
    secret.write_text("demo")
    secret.chmod(0o440)
    image = dict(re.findall(r"(\w+_DIRECTORY)=(\S+)", (ROOT / "Dockerfile").read_text()))
    network.join(world, "10.9.0.1/24", "10.9.0.2/24")
    with sandbox_in(world, "10.9.0.2") as sandbox:
        stand.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            **image,
            "PASSOPROXY__UPSTREAM__URL": sandbox.origin,
            "PASSOPROXY__UPSTREAM__ALLOW_HTTP": "true",
            "PASSOPROXY__OAUTH__CLIENT_ID": "demo",
            "PASSOPROXY__OAUTH__TOKEN_URL": f"{sandbox.origin}/oauth/token",
        }
        stand.config.unlink()
        stand.place = {
            "network": network.path,
            "mounts": mounts(stand, pod, container),
            "user": container["securityContext"]["runAsUser"],
        }
        with network.inside():
            assert (
                "state folder\t/var/lib/passoproxy belongs to user id 0: a folder of this user's"
                in stand.run("doctor").stdout
            )
            daemon = stand.start("serve")
            assert until(lambda: ask(8612, "/healthz").status == 200 or daemon.poll() is not None)
            assert daemon.poll() is None, daemon.said
            assert ask(8612, "/readyz").status == 503
            stand.place = {"beside": daemon.pid, "user": stand.place["user"]}
            take_pair(stand, sandbox)
            assert until(lambda: ask(8612, "/readyz").status == 200)
            assert [outcome(host, 8610, CONTENT)[0] for host in ("127.0.0.1", "localhost")] == [200, 200]
            assert stand.run("token", "refresh").returncode == 0
            done = stand.run("doctor")
            assert done.returncode == 0, done.stdout
            warned = re.findall(r"^warning\t(.*?)\t", done.stdout, re.M)
            assert warned == ["configuration", "alerts"], done.stdout  # of http, and of no hook
        with world.inside():
            assert outcome("10.9.0.1", 8612, "/readyz?strict=1")[0] == 200
            with pytest.raises(ConnectionRefusedError):
                outcome("10.9.0.1", 8610, CONTENT)
        assert daemon.stop() == 0
