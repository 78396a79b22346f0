"""The pair in custody, as a user has it: sealed, moved, seeded, left behind, withdrawn. Whole daemons against the sandbox."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections import Counter

import pytest

from tests.journeys.conftest import PROGRAM, Stand, until

slow = pytest.mark.slow  # real processes that live and die: minutes, not seconds

PATH = "/api/v2/content/visa/json?lang=en&countries=TR&nat=DE"


def key_file(stand: Stand, name: str) -> str:
    path = stand.folder / name
    path.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    path.chmod(0o600)
    return str(path)


def sealed_files(stand: Stand) -> dict[str, bool]:
    folder = stand.folder / "state"
    return {path.name: path.read_bytes().startswith(b"passoproxy-sealed 1 ") for path in folder.glob("*.json")}


def presentations(stand: Stand) -> Counter[str]:
    """How often each refresh token was presented."""
    return Counter(each["refresh_token"] for each in stand.refreshes())


@pytest.fixture
def other(stand: Stand) -> Stand:
    """Another machine: folders and ports of its own, the same provider."""
    return stand.beside()


@slow
def test_sealing_changing_the_key_and_losing_it(stand: Stand) -> None:
    first, second, third = (key_file(stand, name) for name in ("key1", "key2", "key3"))
    stand.begin()
    generation = stand.token["generation"]
    assert stand.stop_daemon() == 0
    assert not any(sealed_files(stand).values())

    # a plain folder is sealed
    stand.configure(state={"key_file": first})
    assert stand.run("config", "check").returncode == 0
    stand.start_daemon(ready=True)
    assert stand.token["generation"] == generation
    files = sealed_files(stand)
    assert all(files.values()), files
    assert len(files) >= 2
    assert (stand.folder / "state" / "seal").stat().st_mode & 0o777 == 0o600
    assert stand.run("token", "refresh").returncode == 0
    assert stand.get(PATH).status == 200
    assert stand.stop_daemon() == 0

    # without its key, or with another one, nothing is touched
    before = {path.name: path.read_bytes() for path in (stand.folder / "state").glob("*.json")}
    for state, said in (
        ({}, "state.key_file: is not set, and "),
        ({"key_file": third}, "state.key_file: is not the key of "),
    ):
        stand.configure(state=state)
        refused = stand.run("serve")
        assert refused.returncode == 78, refused.stderr
        assert said in refused.stderr
        assert "nothing was changed" in refused.stderr
        assert stand.run("token", "status").returncode == 78
        assert {path.name: path.read_bytes() for path in (stand.folder / "state").glob("*.json")} == before

    # the key is changed, and the first one is not needed any more
    stand.configure(state={"key_file": second, "previous_key_file": first})
    stand.start_daemon(ready=True)
    assert stand.token["generation"] == generation + 1
    assert stand.stop_daemon() == 0
    stand.configure(state={"key_file": second})
    stand.start_daemon(ready=True)
    assert (stand.token["generation"], stand.token["chain"]) == (generation + 1, "healthy")
    assert max(presentations(stand).values()) == 1


def hand_over(stand: Stand, other: Stand, lifetime: str) -> None:
    """From one to the other, with a crash of the exporting side in between."""
    stand.start_sandbox("--lifetime", lifetime)
    other.start_daemon()
    stand.start_daemon()
    stand.login()
    given = stand.run("token", "export", "--reveal")
    assert given.returncode == 0, given.stderr
    assert "handed over" in given.stderr
    shown = stand.token
    assert (shown["access"], shown["chain"], shown["next_refresh_at"]) == ("valid", "unknown", None)
    assert "handed over" in shown["reason"]
    assert "handed over" in stand.run("status").stdout

    # a crash does not forget it
    stand.stop_daemon(signal.SIGKILL)
    stand.start_daemon(ready=True)
    assert "handed over" in stand.token["reason"]
    assert other.run("token", "import", text=given.stdout).returncode == 0


def is_too_late_to_take_back(stand: Stand) -> None:
    late = stand.run("token", "refresh", "--force")
    assert (late.returncode, "renewed elsewhere" in late.stderr) == (77, True), late.stderr
    assert stand.token["chain"] == "dead"
    assert "renewed elsewhere" in stand.token["reason"]


@slow
def test_handing_over_leaves_exactly_one_that_renews(stand: Stand, other: Stand) -> None:
    hand_over(stand, other, "600s")
    assert other.run("token", "refresh").returncode == 0
    assert (other.token["chain"], other.token["generation"]) == ("healthy", 2)
    assert stand.get(PATH).status == other.get(PATH).status == 200
    assert max(presentations(stand).values()) == 1
    is_too_late_to_take_back(stand)


@slow
def test_what_was_handed_over_lives_there_and_ends_here_by_time_alone(stand: Stand, other: Stand) -> None:
    hand_over(stand, other, "20s")
    assert until(lambda: other.token["generation"] >= 2), other.token
    assert until(lambda: stand.token["chain"] == "dead"), stand.token
    assert other.token["chain"] == "healthy"
    assert max(presentations(stand).values()) == 1
    assert other.get(PATH).status == 200
    is_too_late_to_take_back(stand)


@slow
def test_taking_it_back_makes_the_copy_worthless(stand: Stand, other: Stand) -> None:
    stand.begin()
    given = stand.run("token", "export", "--reveal")
    assert stand.run("token", "refresh").returncode == 77
    assert stand.run("token", "refresh", "--force").returncode == 0
    assert (stand.token["chain"], stand.token["handed_over_at"]) == ("healthy", None)
    assert other.run("token", "import", text=given.stdout).returncode == 0
    assert other.run("token", "refresh").returncode == 77

    again = stand.run("token", "export", "--reveal")
    back = stand.run("token", "import", "--json", text=again.stdout)
    assert back.returncode == 0
    generation = json.loads(back.stdout)["generation"]
    assert until(lambda: stand.token["generation"] > generation or stand.token["chain"] != "healthy")
    assert stand.token["chain"] == "healthy"


@slow
def test_a_pair_that_cannot_be_printed_is_not_given_away(stand: Stand) -> None:
    stand.begin()
    with open("/dev/full", "w") as full:
        failed = subprocess.run(
            [*PROGRAM, "token", "export", "--reveal", "--config", str(stand.config)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=stand.folder,
            env=stand.environment,
        )
    assert failed.returncode == 1
    assert "could not be printed" in failed.stderr
    assert "taken back and renewed" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert (stand.token["chain"], stand.token["handed_over_at"], stand.token["generation"]) == ("healthy", None, 2)


@slow
def test_a_seed_is_taken_up_once(stand: Stand, other: Stand) -> None:
    stand.start_sandbox()
    other.start_daemon()
    other.login()
    given = other.run("token", "export", "--reveal")
    seed = stand.folder / "seed.json"
    seed.write_text(given.stdout)
    seed.chmod(0o600)
    stand.configure(oauth={**stand.settings["oauth"], "seed_file": str(seed)})
    stand.start_daemon(ready=True)
    assert (stand.token["chain"], stand.token["generation"]) == ("healthy", 1)
    assert stand.run("token", "refresh").returncode == 0
    assert stand.run("logout").returncode == 0
    assert stand.stop_daemon() == 0
    presented = presentations(stand)
    stand.start_daemon()
    assert stand.token["access"] == "none"
    assert "used before" in stand.token["reason"]
    assert "seed_spent" in stand.daemon.said or "used before" in stand.daemon.said
    secrets = json.loads(given.stdout)
    assert secrets["refresh_token"] not in stand.daemon.said
    assert presentations(stand) == presented


@slow
@pytest.mark.parametrize(("when", "renews"), [("always", 1), ("never", 0)])
def test_leaving_with_a_full_tank(stand: Stand, when: str, renews: int) -> None:
    stand.configure(oauth={**stand.settings["oauth"], "refresh_on_exit": when})
    stand.begin("--lifetime", "40s")
    assert until(lambda: stand.token["runway_seconds"] < 35.5)
    before = stand.token["access_until"]
    assert stand.stop_daemon() == 0
    assert sum(presentations(stand).values()) == renews
    stand.start_daemon(ready=True)
    shown = stand.token
    assert shown["generation"] == 1 + renews
    assert (shown["access_until"] > before + 4) == bool(renews)


@slow
@pytest.mark.parametrize(("policy", "left"), [("purge_private", 1), ("purge", 0), ("keep", 2)])
def test_a_withdrawn_grant(stand: Stand, policy: str, left: int) -> None:
    route = {"ttl": "1h", "override": True, "stale_if_unauthorized": "1h"}
    stand.configure(
        cache={**stand.settings["cache"], "on_revoked": policy},
        routes=[
            {"name": "own", "match": "/api/v2/account/**", "private": True, **route},
            {"name": "all", "match": "/api/v2/languages", **route},
        ],
    )
    stand.begin()
    for path in ("/api/v2/account/subscription", "/api/v2/languages"):
        assert stand.get(path).status == 200
        assert "hit" in stand.get(path).cache_status
    stand.fault("revoked")
    answer = stand.get(PATH)
    assert (answer.status, answer.json["code"]) == (503, "authorization_required")
    assert stand.token["chain"] == "dead"
    entries = stand.run("cache", "list", "--json")
    assert len(json.loads(entries.stdout)) == left, entries.stdout
    assert "grant was withdrawn" in stand.daemon.said
