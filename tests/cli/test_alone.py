"""Commands where no daemon runs: on its folders directly, with the same words."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from passoproxy.cli.client import tell
from passoproxy.core.events import EntriesPurged, PairNotSaved
from tests.cli.conftest import Beside, Run
from tests.other_users import OTHER, acting_as, needs_root, opened_to_all, planted_socket, what_came
from tests.whole import CONTENT, NOWHERE, Place, running

PAIR = json.dumps({"access_token": "A" * 20, "refresh_token": "R" * 20, "expires_in": 3600})


@pytest.fixture
def alone(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    found.write()
    return found


def test_status_is_not_running(run: Run, alone: Place) -> None:
    said = run("status", "--config", str(alone.config))
    assert (said.code, said.out, len(said.err.splitlines())) == (3, "", 1)
    assert "start one with 'passoproxy serve'" in said.err
    assert run("status", "--config", str(alone.config), "--json").json == {"state": "not running"}


def test_the_pairs_commands(run: Run, alone: Place) -> None:
    at = ("--config", str(alone.config))
    none = run("token", "status", *at)
    assert none.code == 0
    assert "access token   none\n" in none.out
    assert "what to do: run 'passoproxy login'" in none.out
    missing = run("token", "export", *at, "--reveal")
    assert (missing.code, len(missing.err.splitlines())) == (77, 1)
    assert run("logout", *at).err.startswith("passoproxy: there is nothing to log out from: nobody has authorised")
    assert re.fullmatch(
        r"imported; (1 h 0|59) min.* until a person is needed\n", run("token", "import", *at, text=PAIR).out
    )
    shown = run("token", "status", *at, "--json").json
    assert (shown["access"], shown["chain"]) == ("valid", "healthy")
    assert run("token", "export", *at, "--reveal").json["refresh_token"] == "R" * 20
    assert run("token", "refresh", *at).code == 77
    away = run("token", "refresh", *at, "--force")
    assert (away.code, len(away.err.splitlines())) == (69, 1)
    assert run("token", "status", *at, "--json").json["handed_over_at"] is None


def test_a_token_of_unknown_lifetime(run: Run, alone: Place) -> None:
    said = run("token", "import", "--config", str(alone.config), text='{"access_token": "A"}')
    assert said.out == "imported; the runway is not known\n"


def test_an_empty_cache_says_so_to_people(run: Run, alone: Place) -> None:
    at = ("--config", str(alone.config))
    assert run("cache", "list", *at, terminal=True).out == "nothing is stored\n"
    assert run("cache", "list", *at, "--route", "visa", terminal=True).out == "nothing of that is stored\n"
    assert run("cache", "list", *at).out == ""


def test_a_damaged_pair_is_warned_about(run: Run, alone: Place) -> None:
    at = ("--config", str(alone.config))
    run("token", "import", *at, text=PAIR)
    for path in (alone.folder / "state").glob("pair.*.json"):
        path.write_bytes(b"garbage")
    said = run("token", "status", *at)
    assert said.code == 0
    assert said.err.startswith("passoproxy: warning: ")
    assert "pair.1.json" in said.err


def test_what_is_told_of_events(capsys: pytest.CaptureFixture[str]) -> None:
    tell(EntriesPurged(1, "command"))
    tell(PairNotSaved("/state: full"))
    assert capsys.readouterr().err == "passoproxy: warning: /state: full\n"


def test_the_caches_commands(run: Run, beside: Beside, place: Place) -> None:
    async def fill() -> None:
        import aiohttp

        async with running(place, authorised=True) as it, aiohttp.ClientSession(trust_env=False) as session:
            for target in (CONTENT, CONTENT.replace("ZA", "TR")):
                async with session.get(it.proxy + target) as answer:
                    assert answer.status == 200
                    await answer.read()

    beside.do(fill())
    at = ("--config", str(place.config))
    assert run("cache", "stats", *at, "--json").json["entries"] == 2
    assert len(run("cache", "list", *at).out.splitlines()) == 2
    assert run("cache", "show", CONTENT, *at).code == 0
    assert run("cache", "show", "/nothing", *at).code == 1
    assert run("cache", "purge", *at, "--url", CONTENT).out == "1 entry purged\n"
    assert run("cache", "list", *at, terminal=True).out.count("health/json") == 1
    done = run("logout", *at)
    assert done.out == "logged out; revoked at the provider and erased here\n1 stored entry of this identity erased\n"
    assert run("cache", "stats", *at, "--json").json["entries"] == 0
    assert run("logout", *at).code == 1


def test_logout_may_keep_the_cache(run: Run, alone: Place) -> None:
    at = ("--config", str(alone.config))
    run("token", "import", *at, text=PAIR)
    said = run("logout", *at, "--keep-cache", "--json")
    assert said.json["purged"] == 0
    assert "not revoked at the provider" in said.json["revocation"]
    run("token", "import", *at, text=PAIR)
    assert run("logout", *at, "--keep-cache").out.count("\n") == 1


def test_an_event_that_does_not_get_out_is_told(run: Run, alone: Place) -> None:
    alone.write(alerts={"command": ["/bin/sh", "-c", "exit 3"], "events": ["import"]})
    said = run("token", "import", "--config", str(alone.config), text=PAIR)
    assert (said.code, said.err.splitlines()[0]) == (0, "passoproxy: warning: alerts.command ended with 3")


def test_what_was_done_is_audited(run: Run, alone: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSOPROXY__LOG__LEVEL", "info")
    at = ("--config", str(alone.config))
    for words, action, target in (
        (("token", "import", "--force"), "token import", "force"),
        (("token", "export", "--reveal"), "token export", None),
        (("cache", "purge", "--url", "/p?key=planted-secret"), "cache purge", "url /p?key=***"),
        (("logout", "--keep-cache"), "logout", "keep_cache"),
    ):
        said = run(*words, *at, text=PAIR)
        line, _, rest = said.err.partition("\n")
        told = json.loads(line)
        assert (told["event"], told["action"], told.get("target"), told["outcome"]) == ("audit", action, target, "done")
        assert told["who"] == f"uid {os.getuid()}, pid {os.getpid()}"
        assert "R" * 20 not in said.err + rest
    failed = run("logout", *at)
    assert (failed.code, len(failed.err.splitlines())) == (1, 1)


def test_a_configuration_that_does_not_do(run: Run, alone: Place) -> None:
    alone.write(upstream={"url": NOWHERE, "nonsense": 1})
    for command in (["status"], ["token", "status"], ["cache", "list"], ["login"], ["serve"]):
        said = run(*command, "--config", str(alone.config))
        assert (said.code, said.out) == (78, "")
        assert "upstream.nonsense" in said.err


@needs_root
def test_folders_of_somebody_else(run: Run, alone: Place, beside: Beside) -> None:
    beside.daemon(alone)
    alone.config.chmod(0o644)
    opened_to_all(alone.folder)
    with acting_as(OTHER):
        said = run("status", "--config", str(alone.config))
    assert (said.code, len(said.err.splitlines())) == (77, 1)
    assert "control.sock: permission denied" in said.err


@needs_root
def test_an_import_says_nothing_to_a_socket_that_another_user_planted(run: Run, alone: Place) -> None:
    state = alone.folder / "state"
    state.mkdir(mode=0o700)
    with planted_socket(state) as listener:
        said = run("token", "import", "--config", str(alone.config), text=PAIR)
        assert (said.code, said.out, len(said.err.splitlines())) == (77, "", 1)
        assert "user 65534 answers there" in said.err
        assert what_came(listener) == b""
