"""The commented example: one text, complete, and showing the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from passoproxy.config.describe import commented
from passoproxy.config.keys import catalogue
from passoproxy.config.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_project_shows_the_same_text() -> None:
    assert (ROOT / "config.example.yaml").read_text("utf-8") == commented()


def test_its_values_are_the_defaults() -> None:
    written = yaml.safe_load(commented())
    del written["oauth"]["client_id"]
    assert written["oauth"].pop("lost_answer_replay") is None
    assert Settings.model_validate(written) == Settings()


def test_it_names_every_key_of_the_contract() -> None:
    """All but the inline forms of secrets (and `webhook_file`, `proxy_file` and what only a comment can show)."""
    text = commented()
    inline = {path for path, key in catalogue().items() if (*path[:-1], f"{path[-1]}_file") in catalogue()}
    for path, key in catalogue().items():
        if not key.section and path not in inline:
            assert re.search(rf"\b{path[-1]}\b", text) or path == ("alerts", "webhook_file"), path
