"""`config check`, `show`, `init` and `schema`."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Run
from tests.whole import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    found.write()
    return found


def test_check(run: Run, place: Place) -> None:
    said = run("config", "check", "--config", str(place.config))
    assert (said.code, said.out, said.err) == (0, f"{place.config}: fine\n", "")
    assert run("config", "check", "--config", str(place.config), "--json").json == {
        "ok": True,
        "path": str(place.config),
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("more", "said"), [({}, "1 warning"), ({"routes": [{"name": "plain", "match": "/x"}]}, "2 warnings")]
)
def test_check_warns(run: Run, place: Place, more: dict[str, object], said: str) -> None:
    place.write(upstream={"max_connections": 1}, **more)
    found = run("config", "check", "--config", str(place.config))
    assert (found.code, found.out) == (0, f"{place.config}: fine, {said}\n")
    assert len(found.err.splitlines()) == int(said[0])
    assert found.err.startswith("passoproxy: warning: ")
    assert "upstream.max_connections" in found.err


def test_check_tells_every_fault(run: Run, place: Place) -> None:
    place.write(upstream={"max_concurency": 3, "connect_timeout": "soon"})
    said = run("config", "check", "--config", str(place.config))
    assert (said.code, said.out, len(said.err.splitlines())) == (78, "", 2)
    as_json = run("config", "check", "--config", str(place.config), "--json")
    assert (as_json.code, as_json.err) == (78, said.err)
    faults = [line.removeprefix("passoproxy: ") for line in said.err.splitlines()]
    assert as_json.json == {"ok": False, "path": str(place.config), "faults": faults}


def test_without_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSOPROXY__OAUTH__CLIENT_ID", "x")
    monkeypatch.setenv("PASSOPROXY__OAUTH__CLIENT_SECRET", "y")
    assert run("config", "check").out == "defaults and environment: fine\n"
    assert run("config", "check", "--json").json["path"] is None


def test_show_in_a_pipe_and_on_a_terminal(run: Run, place: Place) -> None:
    said = run("config", "show", "--config", str(place.config))
    rows = dict(line.split("\t")[:2] for line in said.out.splitlines())
    assert rows["upstream.deny_paths"] == "[/__internal/**]"
    assert rows["oauth.client_secret"] != "demo"
    shown = run("config", "show", "--config", str(place.config), terminal=True)
    assert shown.code == 0
    assert "[/__internal/**]" in shown.out
    assert "\x1b[" in shown.out


def test_show_as_json_has_sources(run: Run, place: Place) -> None:
    found = run("config", "show", "--config", str(place.config), "--json").json
    assert found["upstream"]["url"] == place.origin
    assert found["sources"]["upstream.url"].startswith(str(place.config))


def test_init(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("config", "init")
    assert said.code == 0
    assert "then: passoproxy config check --config config.yaml" in said.out
    made = tmp_path / "config.yaml"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert yaml.safe_load(made.read_text())["provider"] == "passolution"
    made.write_text("mine")
    again = run("config", "init")
    assert (again.code, "left as it is" in again.err, made.read_text()) == (1, True, "mine")
    assert run("config", "init", "--force").code == 0
    assert made.read_text() != "mine"
    assert run("config", "init", "other.yaml").code == 0
    assert run("config", "init", "--config", str(tmp_path / "third.yaml")).code == 0
    assert (tmp_path / "other.yaml").exists()
    assert (tmp_path / "third.yaml").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes below /etc")
def test_init_below_etc_is_for_a_service_which_reads_it_as_another_user(run: Run) -> None:
    before = os.umask(0o077)
    try:
        with tempfile.TemporaryDirectory(prefix="passoproxy-test-", dir="/etc") as folder:
            made = Path(folder) / "config.yaml"
            said = run("config", "init", str(made))
            assert stat.S_IMODE(made.stat().st_mode) == 0o644
            assert "the secret in a file beside it" in said.out
    finally:
        os.umask(before)


def test_init_where_nothing_can_be_written(run: Run) -> None:
    said = run("config", "init", "/nonexistent/config.yaml")
    assert (said.code, "/nonexistent/config.yaml: cannot be written" in said.err) == (73, True)


def test_schema(run: Run) -> None:
    said = run("config", "schema")
    assert said.code == 0
    assert "properties" in json.loads(said.out)


def test_whether_a_file_can_be_read_is_found_by_reading_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the command line's own check, whose refusal would be one of usage (2) and not of the configuration (78)."""
    config = Place(tmp_path).write()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert run("config", "check", "--config", str(config)).code == 0
    assert run("config", "init", str(config)).code == 1


def test_the_schema_takes_the_options_of_every_command_and_reads_nothing(run: Run) -> None:
    assert run("config", "schema", "--json", "--config", "/nonexistent").json == run("config", "schema").json
