"""`alert test`: through the hooks of the configuration, with a daemon and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Beside, Run
from tests.whole import Place

OUTCOME = "\ncommand to /bin/sh: ok: ended with 0; it said: got it\n"


def hooks(folder: Path, code: int = 0) -> dict[str, object]:
    return {"command": ["/bin/sh", "-c", f"cat > {folder}/told; echo got it; exit {code}"]}


def test_without_a_daemon(run: Run, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write(alerts=hooks(tmp_path))
    said = run("alert", "test", "--config", str(place.config))
    told = json.loads((tmp_path / "told").read_text())
    assert (said.code, said.out, said.err) == (0, json.dumps(told, indent=2) + OUTCOME, "")
    assert (told["level"], told["state"]) == ("test", "not running")


def test_what_fails_is_an_exit_code_and_says_which(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    place.write(alerts=hooks(tmp_path, code=3) | {"webhook": "http://127.0.0.1:9/T0KEN"})
    monkeypatch.setenv("PASSOPROXY__LOG__LEVEL", "info")
    said = run("alert", "test", "--config", str(place.config), "--json")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "command and webhook" in said.err
    assert "T0KEN" not in said.out + said.err
    results = said.json["results"]
    assert [(each["hook"], each["ok"]) for each in results] == [("command", False), ("webhook", False)]
    assert "ended with 3" in results[0]["said"]
    assert "127.0.0.1:9 cannot be reached" in results[1]["said"]


def test_with_nobody_to_tell_the_configuration_is_at_fault(run: Run, tmp_path: Path, beside: Beside) -> None:
    place = Place(tmp_path)
    place.write()
    alone = run("alert", "test", "--config", str(place.config))
    beside.daemon(place)
    running = run("alert", "test", "--config", str(place.config))
    assert alone.code == running.code == 78
    assert alone.err == running.err
    assert "alerts.command or alerts.webhook" in alone.err


def test_with_a_daemon_it_is_the_daemon_that_tells(run: Run, place: Place, beside: Beside, tmp_path: Path) -> None:
    beside.daemon(place, authorised=True, alerts=hooks(tmp_path))
    said = run("alert", "test", "--config", str(place.config))
    told = json.loads((tmp_path / "told").read_text())
    assert (said.code, said.out) == (0, json.dumps(told, indent=2) + OUTCOME)
    assert (told["level"], told["state"]) == ("test", "healthy")
    assert told["runway_seconds"] > 3000
    assert told["deadline"].endswith("Z")
