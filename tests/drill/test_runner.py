"""Trials played for real, with the user's configuration and daemons in processes of their own; what a verdict says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from passoproxy.cli import main
from passoproxy.drill import TRIALS, Seen, Verdict, runner
from tests.drill.test_environment import users
from tests.journeys.conftest import until

QUICK = ("refresh_lost", "origin_5xx", "restart")


def verdict(**changes: object) -> Verdict:
    plain = {
        "name": "n", "tried": "t", "pair": "kept", "must_keep": True, "why": "", "refreshes": 1, "replays": 0, "new": Seen(1), "stored": None,
        "lowest_runway": 1.0, "runway": 1.0, "lifetime": 1.0,
    }  # fmt: skip
    return Verdict(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pair", "must_keep", "failed"),
    [
        ("kept", True, False),
        ("lost", True, True),
        ("unknown", True, True),
        ("lost", False, False),
        ("kept", False, False),
    ],
)
def test_failed_is_what_could_have_been_kept_and_was_not(pair: str, must_keep: bool, failed: bool) -> None:
    assert verdict(pair=pair, must_keep=must_keep).failed is failed


def played(tmp_path: Path, capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The verdicts by name; the real folders are never touched."""
    users(tmp_path, oauth={"lost_answer_replay": "once"})
    real = tmp_path / "real"
    (real / "state").mkdir(parents=True)
    before = sorted(real.rglob("*"))
    code = main(["drill", "--fast", "--json", "--config", str(tmp_path / "user.yaml"), *words])
    said = capfd.readouterr()
    assert said.out, said.err
    found = {each["name"]: each for each in json.loads(said.out)}
    assert [each for each in found.values() if each["failed"]] == []
    assert code == 0
    assert f"rehearsing {len(found)} failures" in said.err
    assert sorted(real.rglob("*")) == before, "the real folders were touched"
    for each in found.values():
        assert each["new"]["answered"] > 0, each
        assert each["stored"]["answered"] > 0, each
    assert found["refresh_lost"]["replays"] == 1
    assert found["origin_5xx"]["new"]["refused"] > 0
    assert found["origin_5xx"]["stored"]["refused"] == 0, "the preset serves stored answers while the origin fails"
    return found


@pytest.mark.timeout(400)
def test_a_lost_answer_a_failing_origin_and_a_restart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = played(tmp_path, capfd, *(word for name in QUICK for word in ("--fault", name)))
    assert tuple(found) == QUICK


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_trial(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    found = played(tmp_path, capfd)
    print(f"{len(found)} trials in {time.monotonic() - began:.0f} s")
    assert tuple(found) == tuple(trial.name for trial in TRIALS)
    assert [name for name, each in found.items() if each["pair"] != "kept"] == ["refresh_lost_for_good", "revoked"]
    assert found["refresh_lost_for_good"]["must_keep"] is False
    assert "with the new one is lost" in found["refresh_lost_for_good"]["why"]
    assert found["full_disk"]["lowest_runway"] < 0.3 * 600, "the disk was full until the pair's end was near"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_user_who_never_replays_loses_what_he_chose_to_lose(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    users(tmp_path)
    code = main(["drill", "--fast", "--config", str(tmp_path / "user.yaml"), "--fault", "refresh_garbage"])
    out = capfd.readouterr().out
    assert code == 0, out
    assert "(nothing could have kept it)" in out
    assert "refresh_garbage: oauth.lost_answer_replay is never" in out
    assert "0 of 1 kept; nothing was lost that could have been kept" in out


def begun(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A drill of one trial, in a process of its own."""
    words = ["-m", "passoproxy", "drill", "--config", str(tmp_path / "user.yaml"), "--fault", "refresh_5xx"]
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_one_that_is_stopped_leaves_nothing(how: signal.Signals, tmp_path: Path) -> None:
    users(tmp_path)
    drill = begun(tmp_path)
    stages = ".passoproxy-drill-*"
    try:
        assert until(lambda: list(tmp_path.glob(f"{stages}/refresh_5xx/state/pair.1.json")))
        actors = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(path)]
        assert len(actors) == 2, "the drill itself, and a daemon"
        drill.send_signal(how)
        assert drill.wait(40) == 130
    finally:
        drill.kill()
        drill.wait()
    assert list(tmp_path.glob(stages)) == []
    assert until(lambda: not any(str(tmp_path).encode() in _read(path) for path in actors))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_daemon_whose_director_was_killed_ends_by_itself(tmp_path: Path) -> None:
    users(tmp_path)
    drill = begun(tmp_path)
    assert until(lambda: list(tmp_path.glob(".passoproxy-drill-*/refresh_5xx/state/pair.1.json")))
    actors = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(path)]
    drill.kill()
    drill.wait()
    assert until(lambda: not any(str(tmp_path).encode() in _read(path) for path in actors))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("plays", "again", "failed"),
    [
        ([("lost", 0.0)], False, True),
        ([("kept", 9.9)], False, False),
        ([("lost", 9.9), ("kept", 0.0)], True, False),
        ([("lost", 9.9), ("lost", 0.0)], True, True),
        ([("lost", 9.9), ("lost", 9.9), ("lost", 9.9)], True, True),
    ],
)
def test_what_failed_while_the_machine_was_too_busy_is_played_again(
    plays: list[tuple[str, float]], again: bool, failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = users(tmp_path)
    folders: list[Path] = []

    async def played(loaded: object, trial: object, folder: Path, lifetime: float) -> tuple[Verdict, float]:
        assert list(folder.iterdir()) == []
        folders.append(folder)
        pair, late = plays[len(folders) - 1]
        return verdict(pair=pair), late

    monkeypatch.setattr(runner, "_played", played)
    (found,) = runner.rehearse(loaded, TRIALS[:1])
    assert (found.again, found.failed) == (again, failed)
    assert len(set(folders)) == len(folders) == len(plays)
