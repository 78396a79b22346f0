"""The deployment files: their configurations are those of this version, their manifests fit the published schemas, their queries the metrics."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from passoproxy.config.load import load
from passoproxy.telemetry.exposition import Reading, exposition
from passoproxy.telemetry.metrics import MetricsObserver
from tests.conftest import program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
PLACES = {"/run/secrets/": "", "/var/lib/passoproxy": "state", "/var/cache/passoproxy": "cache"}
SECRETS = {
    "client_secret": "a-secret",
    "admin_token": "a" * 64,
    "state_key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "store_password": "a-password",
    "client_keys": "application:a-key",
}


def documents(path: Path) -> Iterator[Any]:
    yield from yaml.safe_load_all(path.read_text())


def manifests() -> list[tuple[Path, dict[str, Any]]]:
    given = [path for path in KUBERNETES if path.name not in ("kustomization.yaml", "config.yaml")]
    return [(path, each) for path in given for each in documents(path)]


# ---- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.rglob("config.yaml")), ids=lambda path: str(path.parent.relative_to(DEPLOY))
)
def test_a_configuration_has_no_faults(path: Path, tmp_path: Path) -> None:
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    text = re.sub(r"/run/secrets/(passoproxy/)?", f"{tmp_path}/", path.read_text())
    environ = {
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "CACHE_DIRECTORY": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
    }
    loaded = load(path, {**environ, "PASSOPROXY__OAUTH__CLIENT_ID": "an-id"}, text=text.encode())
    assert {warning.code for warning in loaded.warnings} <= {"network_trusted"}


def test_compose_mounts_what_the_configuration_names() -> None:
    (compose,) = documents(DEPLOY / "compose" / "compose.yaml")
    api, text = compose["services"]["api"], (DEPLOY / "compose" / "config.yaml").read_text()
    assert set(re.findall(r"^[^#]*/run/secrets/(\w+)", text, re.M)) == set(api["secrets"]) == set(compose["secrets"])
    assert {each.partition(":")[2] for each in api["volumes"]} == {"/var/lib/passoproxy", "/var/cache/passoproxy"}
    assert {each.partition(":")[0] for each in api["volumes"]} <= set(compose["volumes"])
    (configured,) = api["configs"]
    assert compose["configs"][configured["source"]]["file"] == "./config.yaml"
    assert all(each.startswith("127.0.0.1:") for each in api["ports"])


# ---- Kubernetes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "manifest"), manifests(), ids=lambda each: each.stem if isinstance(each, Path) else each["kind"]
)
def test_a_manifest_fits_the_published_schema(path: Path, manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", sorted({path.parent for path in KUBERNETES}), ids=lambda path: path.name)
def test_a_kustomization_has_what_its_manifests_use(folder: Path) -> None:
    (kustomization,) = documents(folder / "kustomization.yaml")
    own = [each for path, each in manifests() if path.parent == folder]
    assert {path.name for path in folder.glob("*.yaml")} == {
        *kustomization["resources"],
        "kustomization.yaml",
        *_files(kustomization),
    }
    fleet = yaml.safe_load((DEPLOY / "kubernetes" / "fleet" / "kustomization.yaml").read_text())
    made = {each["name"] for each in (*_made(kustomization), *(_made(fleet) if folder.name == "job" else ()))}
    for manifest in own:
        text = json.dumps(manifest)
        assert set(re.findall(r'"secretName": "([^"]+)"', text)) <= made
        assert set(re.findall(r'"configMap": \{"name": "([^"]+)"', text)) <= made | {
            "wanted"
        }  # which is the job's author's


def _made(kustomization: dict[str, Any]) -> list[dict[str, Any]]:
    return [*kustomization.get("configMapGenerator", ()), *kustomization.get("secretGenerator", ())]


def _files(kustomization: dict[str, Any]) -> list[str]:
    return [name for each in kustomization.get("configMapGenerator", ()) for name in each["files"]]


def containers() -> list[Any]:
    found = []
    for path, manifest in manifests():
        pod = manifest["spec"].get("template", {}).get("spec", {})
        for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
            if container["image"] == "passoproxy":
                found.append(pytest.param(pod, container, id=f"{path.parent.name}-{container['name']}"))
    return found


@pytest.mark.parametrize(("pod", "container"), containers())
def test_a_container_of_ours_may_do_little(pod: dict[str, Any], container: dict[str, Any]) -> None:
    context = {**pod["securityContext"], **container["securityContext"]}
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, 10001, 10001)
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    assert {"/var/lib/passoproxy", "/var/cache/passoproxy", "/etc/passoproxy"} <= mounted
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


def test_a_restart_is_for_a_process_that_does_not_live() -> None:
    """A pair is not mended by a restart: /readyz is never a reason for one."""
    for param in containers():
        probes = {name: probe["httpGet"]["path"] for name, probe in param.values[1].items() if name.endswith("Probe")}
        assert probes in ({}, {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"})


# ---- systemd, nginx, Grafana -----------------------------------------------------------------------------------------


def test_the_template_is_the_service_for_a_name() -> None:
    service, template = (
        (ROOT / "systemd" / name).read_text() for name in ("passoproxy.service", "passoproxy@.service")
    )
    for told in (
        "/etc/passoproxy/%i.yaml",
        ":/etc/passoproxy/%i/",
        "Directory=passoproxy/%i",
        "passoproxy@%i.service",
        "passoproxy for %i:",
    ):
        assert told in template
    plain = template.replace("/%i.yaml", "/config.yaml").replace("/%i", "").replace("@%i", "").replace(" for %i", "")
    assert plain[plain.index("[Unit]") :] == service[service.index("[Unit]") :]
    verify = [program("systemd-analyze"), "verify", "--man=no", str(ROOT / "systemd" / "passoproxy@.service")]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "passoproxy" in line]) == (0, [])


def test_nginx_finds_no_fault(tmp_path: Path) -> None:
    import trustme

    issued = trustme.CA().issue_cert("api.example")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    text = (DEPLOY / "nginx" / "passoproxy.conf").read_text()
    text = text.replace("/etc/ssl/certs/api.example.pem", str(tmp_path / "cert"))
    text = text.replace("/etc/ssl/private/api.example.key", str(tmp_path / "key"))
    paths = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {paths} {text} }}")
    done = subprocess.run([program("nginx"), "-t", "-c", str(whole)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    (rules,) = documents(DEPLOY / "grafana" / "alerts.yaml")
    return [
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
        *(variable["query"] for variable in dashboard["templating"]["list"]),
        *(rule["expr"] for group in rules["groups"] for rule in group["rules"]),
    ]


def test_queries_ask_for_metrics_that_there_are() -> None:
    reading = Reading("valid", "healthy", expires_at=1.0, runway=1.0, cache_bytes=(("disk", 1),))
    text = exposition(MetricsObserver(("GET",)), reading, "1")[0].decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    known = {name: {"histogram": f"{name}_bucket", "counter": name}.get(kind, name) for name, kind in kinds.items()}
    asked = {name for query in queries() for name in re.findall(r"\bpassoproxy_\w+", query)}
    assert asked <= set(known.values())
    assert len(asked) > 12


def test_panels_have_room() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
