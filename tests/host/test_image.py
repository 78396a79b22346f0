"""The Dockerfile by its words: images are not built where the tests run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from passoproxy.config.settings import Settings
from passoproxy.config.types import TcpAddress

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its argument, continued lines joined."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1].strip()) for line in lines if line.strip()]


def last_stage() -> dict[str, list[str]]:
    """What the image is made of, by instruction."""
    found: dict[str, list[str]] = {}
    for name, argument in instructions():
        if name == "FROM":
            found = {}
        found.setdefault(name, []).append(argument)
    return found


def test_the_base_is_slim_of_one_release_and_can_be_pinned() -> None:
    bases = [argument.split()[0] for name, argument in instructions() if name == "FROM"]
    assert bases == ["${BASE}", "${BASE}"]
    (given,) = [argument for name, argument in instructions() if name == "ARG"]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-[a-z]+", given)


def test_it_runs_as_a_numeric_user_that_is_not_root() -> None:
    (user,) = last_stage()["USER"]
    assert all(int(part) > 0 for part in user.split(":"))


def test_commands_are_in_exec_form() -> None:
    stage = last_stage()
    assert json.loads(stage["ENTRYPOINT"][0]) == ["passoproxy"]
    assert json.loads(stage["CMD"][0]) == ["serve"]


def test_its_health_is_asked_on_the_admin_listener_without_further_programs() -> None:
    (check,) = last_stage()["HEALTHCHECK"]
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python", "-c"]
    assert ast.parse(command[2])
    (admin,) = Settings().admin.listen
    assert isinstance(admin, TcpAddress)
    assert f"'{admin.host}', {admin.port}" in command[2]
    assert "/healthz" in command[2]


def test_state_is_a_volume_and_the_ports_are_named() -> None:
    stage = last_stage()
    environment = dict(part.split("=", 1) for part in " ".join(stage["ENV"]).split())
    assert json.loads(stage["VOLUME"][0]) == [environment["STATE_DIRECTORY"]]
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert set(stage["EXPOSE"][0].split()) == {"8610", "8611"}


def test_nothing_is_fetched_by_add_and_no_secret_comes_in() -> None:
    names = [name for name, _ in instructions()]
    assert "ADD" not in names
    assert names.count("ARG") == 1  # the base alone: what is given at the build stays readable in the image
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        part
        for name, argument in instructions()
        if name == "COPY" and "--from" not in argument
        for part in argument.split()[:-1]
    }
    assert copied == allowed
