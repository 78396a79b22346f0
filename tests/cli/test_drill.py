"""`passoproxy drill`: its options, and what it says to people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from passoproxy.cli import main
from passoproxy.cli.drill import _show
from passoproxy.drill import Seen
from tests.drill.test_environment import users
from tests.drill.test_runner import verdict


def test_a_trial_that_does_not_exist_is_named_with_the_nearest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    users(tmp_path)
    assert main(["drill", "--config", str(tmp_path / "user.yaml"), "--fault", "refresh_lots"]) == 2
    assert "did you mean 'refresh_lost'?" in capfd.readouterr().err
    assert main(["drill", "--config", str(tmp_path / "user.yaml"), "--fault", "zzz"]) == 2
    assert "known are refresh_lost, " in capfd.readouterr().err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_where_no_pair_can_be_lost_nothing_is_rehearsed(
    options: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("a-static-token\n")
    token.chmod(0o600)
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {"oauth": {"grant": "static", "static_token_file": str(token)}, "state": {"directory": str(tmp_path)}}
        )
    )
    assert main(["drill", "--config", str(config), *options]) == 0
    out = capfd.readouterr().out
    assert json.loads(out) == [] if options else "there is no pair that could be lost" in out


def test_what_it_says(capfd: pytest.CaptureFixture[str]) -> None:
    _show([
        verdict(name="one", new=Seen(1, 2, 3), stored=Seen(3), replays=1, refreshes=2, lowest_runway=90.0, runway=600.0),
        verdict(name="two", pair="lost", why="it was refused", again=True),
        verdict(name="three", pair="lost", must_keep=False, why="withdrawn", lowest_runway=None),
    ])  # fmt: skip
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "one\tkept\t3 of 3\t1 of 3\t2, 1 again\t1 min 30 s\tt"
    assert lines[2].split("\t")[:3] == ["three", "lost", "-"]
    assert lines[4].startswith("two: played again; the machine was too busy")
    assert lines[5:7] == ["two: it was refused", "three: withdrawn (nothing could have kept it)"]
    assert lines[-1] == "1 of 3 kept; not kept, although it could have been: two"
