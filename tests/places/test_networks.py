"""Networks of their own: one way out, names that move, IPv6 alone, no way out yet."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.journeys.conftest import Stand, until
from tests.journeys.proving import LiveSandbox
from tests.places.conftest import Network
from tests.places.servers import Gate, Names
from tests.ports import free_port
from tests.whole import CONTENT


@contextlib.contextmanager
def sandbox_in(world: Network, host: str, **options: Any) -> Iterator[LiveSandbox]:
    with world.inside():
        made = LiveSandbox(host=host, **options)
    try:
        yield made
    finally:
        made.close()


def ask_of(stand: Stand, base: str, **upstream: Any) -> None:
    """The configuration for a provider and an origin at `base`, far from this machine."""
    oauth = {
        name: value.replace(stand.origin, base) if isinstance(value, str) else value
        for name, value in stand.settings["oauth"].items()
    }
    stand.configure(upstream={"url": base, "allow_http": base.startswith("http:"), **upstream}, oauth=oauth)


def take_pair(stand: Stand, sandbox: LiveSandbox) -> None:
    """A person logged in elsewhere."""
    done = stand.run("token", "import", "--force", "-", text=json.dumps(sandbox.issue()))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_proxy_with_a_password_is_the_only_way_out(stand: Stand, network: Network, world: Network) -> None:
    """And it looks into TLS, as those of companies do: its own authority signs. No name has an address here. Each fault is told with its remedy
    where the person looks, and mended in a file."""
    network.join(world, "10.9.0.1/24", "10.9.0.2/24")
    with sandbox_in(world, "127.0.0.1") as sandbox, contextlib.ExitStack() as stack:
        with world.inside():
            gate = Gate("10.9.0.2", ("127.0.0.1", urlsplit(sandbox.origin).port or 0), "us", "pass:word/1")
        stack.callback(gate.close)
        proxy, authority = stand.folder / "proxy", stand.folder / "authority.pem"
        proxy.write_text(f"http://us:wrong-word@10.9.0.2:{gate.port}\n")
        proxy.chmod(0o600)
        ask_of(stand, "https://api.example", proxy_file=str(proxy))
        stand.place = {"network": network.path}
        with network.inside():
            stand.start_daemon()
            take_pair(stand, sandbox)
            said = told_of_a_fault(stand)
            assert "refused CONNECT (407); check upstream.proxy and its rights" in said
            proxy.write_text(f"http://us:pass%3Aword%2F1@10.9.0.2:{gate.port}\n")
            stand.daemon.send(signal.SIGHUP)
            assert until(lambda: "certificate" in stand.get(CONTENT).body.decode()), stand.daemon.said
            assert "name the right authority in upstream.ca_file" in told_of_a_fault(stand)
            gate.authority.cert_pem.write_to_path(authority)
            ask_of(stand, "https://api.example", proxy_file=str(proxy), ca_file=str(authority))
            stand.daemon.send(signal.SIGHUP)
            assert until(lambda: stand.get(CONTENT).status == 200), stand.daemon.said
            assert until(lambda: stand.token["chain"] == "healthy" and stand.token["generation"] > 1)
            done = stand.run("doctor")
            assert done.returncode == 0, done.stdout
            assert f"through the proxy 10.9.0.2:{gate.port}, TLS" in done.stdout
            assert stand.stop_daemon() == 0
    assert set(gate.targets) == {"api.example:443"}
    assert not any(each in stand.daemon.said + said + done.stdout for each in ("wrong-word", "pass:word", "pass%3A"))


def told_of_a_fault(stand: Stand) -> str:
    """What a person reads of a way that is closed: at a request, at a refresh, from doctor."""
    answer, refresh, doctor = stand.get(CONTENT), stand.run("token", "refresh"), stand.run("doctor")
    assert (answer.status, refresh.returncode, doctor.returncode) == (502, 69, 1)
    detail = answer.json["detail"]
    assert detail in refresh.stderr
    assert doctor.stdout.count(detail.partition(";")[0]) >= 3, doctor.stdout
    return str(detail)


@pytest.mark.slow
def test_an_address_that_changes(stand: Stand, network: Network, world: Network) -> None:
    """The old one is gone without a word: what is kept open there costs one request, and the next one goes to the new one."""
    network.join(world, "10.9.0.1/24", "10.9.0.2/24")
    names_file = stand.folder / "resolv.conf"
    names_file.write_text("nameserver 127.0.0.1\noptions timeout:10\n")
    with sandbox_in(world, "0.0.0.0", latency=0.1) as sandbox, contextlib.ExitStack() as stack:
        with network.inside():
            names = Names("127.0.0.1", api_example="10.9.0.2")
        stack.callback(names.close)
        ask_of(stand, f"http://api.example:{urlsplit(sandbox.origin).port}", read_timeout="5s")
        stand.place = {"network": network.path, "mounts": f"mount --bind {names_file} /etc/resolv.conf"}
        with network.inside():
            stand.start_daemon()
            take_pair(stand, sandbox)
            with ThreadPoolExecutor(3) as clients:
                before = list(clients.map(lambda turn: asked_in(network, stand, f"first-{turn}"), range(3)))
            assert before == [200] * 3
            names.names["api_example"] = "10.9.0.3"
            world.ip("addr del 10.9.0.2/24 dev eth0", "addr add 10.9.0.3/24 dev eth0")
            then = [asked_in(network, stand, f"then-{turn}") for turn in range(5)]
            assert sorted(then) in ([200] * 5, [*[200] * 4, 504]), then
            assert stand.run("token", "refresh").returncode == 0
            assert stand.stop_daemon() == 0


def asked_in(network: Network, stand: Stand, turn: str) -> int:
    with network.inside():
        return stand.get(f"/api/v2/account/subscription?turn={turn}").status


@pytest.mark.slow
def test_a_network_that_comes_later(stand: Stand, network: Network, world: Network) -> None:
    """The daemon starts, says what it cannot reach, and goes on by itself."""
    network.join(world, "10.9.0.1/24", "10.9.0.2/24")
    network.ip("link set eth0 down")
    with sandbox_in(world, "10.9.0.2") as sandbox:
        ask_of(stand, sandbox.origin)
        stand.place = {"network": network.path}
        with network.inside():
            stand.start_daemon()
            take_pair(stand, sandbox)
            answer = stand.get(CONTENT)
            assert (answer.status, answer.json["code"]) == (502, "origin_unreachable")
            assert "check the network of this machine, or set upstream.proxy" in told_of_a_fault(stand)
            network.ip("link set eth0 up")
            assert until(lambda: stand.get(CONTENT).status == 200), stand.daemon.said
            assert until(lambda: stand.token["chain"] == "healthy" and stand.token["generation"] > 1)
            assert stand.stop_daemon() == 0


def test_ipv6_outside_and_both_families_inside(stand: Stand, network: Network, world: Network) -> None:
    """Origin and provider by an IPv6 literal; clients and probes of another machine by whichever family they have."""
    network.join(world, "fd00::1/64", "fd00::2/64")
    network.ip("addr add 10.9.0.1/24 dev eth0")
    world.ip("addr add 10.9.0.2/24 dev eth0")
    probes = free_port()
    with sandbox_in(world, "fd00::2") as sandbox:
        ask_of(stand, sandbox.origin)
        hosts = ["10.9.0.1", "[fd00::1]"]
        listen = [f"0.0.0.0:{stand.port}", f"[::]:{stand.port}"]
        stand.configure(
            **{name: stand.settings[name] for name in ("upstream", "oauth")},
            server={"listen": listen, "allowed_hosts": hosts, "allowed_peers": ["10.9.0.0/24", "fd00::/64"]},
            admin={"listen": f"127.0.0.1:{stand.admin_port}", "probe_listen": f"[::]:{probes}"},
        )
        stand.place = {"network": network.path}
        with network.inside():
            stand.start_daemon()
            take_pair(stand, sandbox)
        with world.inside():
            answers = [outcome(host, stand.port, CONTENT) for host in (*hosts, *hosts)]
            assert [status for status, _ in answers] == [200] * 4
            assert "hit" in answers[-1][1]
            assert outcome("[fd00::1]", probes, "/readyz")[0] == 200
        with network.inside():  # no peer that is allowed
            with pytest.raises(ConnectionError):
                outcome("127.0.0.1", stand.port, CONTENT)
            assert stand.stop_daemon() == 0


def outcome(host: str, port: int, target: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=30)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("cache-status", "")
    finally:
        connection.close()


def test_a_machine_without_ipv6(stand: Stand, network: Network) -> None:
    """The default listens where it can; what is asked for and not possible is told with its remedy."""
    stand.place = {"network": network.path}
    with network.inside():
        for name in ("all", "lo"):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        stand.configure(server={"listen": f"[::1]:{stand.port}"})
        refused = stand.run("serve")
        assert refused.returncode == 69
        assert f"cannot listen on [::1]:{stand.port}: " in refused.stderr
        assert "choose an address of this machine in server.listen" in refused.stderr
        settings = {**stand.settings, "server": {}}
        stand.config.write_text(yaml.safe_dump(settings))
        stand.start_daemon()
        assert outcome("127.0.0.1", 8610, CONTENT)[0] == 503
        assert "[::1]" not in stand.daemon.said
        assert stand.stop_daemon() == 0
