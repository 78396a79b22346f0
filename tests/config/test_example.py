"""The commented example and the contract's configuration: complete, accepted, and showing the defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from passoproxy.config.describe import commented, texts
from passoproxy.config.keys import catalogue
from passoproxy.config.settings import Settings
from passoproxy.config.sources import parse
from tests.config.writing import LEAST, Folder

ROOT = Path(__file__).parents[2]
CONTRACT = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "contract.md").read_text("utf-8"), re.S)[1]  # type: ignore[index]


def test_the_project_shows_the_same_text() -> None:
    assert (ROOT / "config.example.yaml").read_text("utf-8") == commented()


def test_values_are_the_defaults() -> None:
    """But for those of the preset, and the route that the contract shows."""
    for text in (commented(), CONTRACT):
        written: dict[str, Any] = parse(text, "f").values
        assert written["oauth"].pop("lost_answer_replay") is None
        written["upstream"].pop("url", None)
        written.pop("routes", None)
        for name in ("client_id", "authorization_url", "token_url"):
            written["oauth"].pop(name, None)
        assert Settings.model_validate(written) == Settings()


def test_the_example_names_every_key_of_the_contract() -> None:
    """All but the inline forms of secrets (and `webhook_file`, `proxy_file` and what only a comment can show)."""
    text = commented()
    inline = {path for path, key in catalogue().items() if (*path[:-1], f"{path[-1]}_file") in catalogue()}
    for path, key in catalogue().items():
        if not key.section and path not in inline:
            assert re.search(rf"\b{path[-1]}\b", text) or path == ("alerts", "webhook_file"), path


def test_both_pass_apart_from_the_credentials(folder: Folder) -> None:
    for text in (commented(), CONTRACT):
        assert {fault.key for fault in folder.faults(text)} == {"oauth.client_secret_file"}
    loaded = folder.load(
        commented(), {"PASSOPROXY__OAUTH__CLIENT_SECRET_FILE": "secret", "PASSOPROXY__OAUTH__CLIENT_ID": "a"}
    )
    assert loaded.warnings == ()
    plain = folder.load(LEAST.replace("abc", "a"))
    assert loaded.settings.model_copy(update={"state": None, "cache": None}) == plain.settings.model_copy(
        update={"state": None, "cache": None}
    )


def test_every_key_says_what_it_does() -> None:
    for path, key in catalogue().items():
        assert key.section or path == ("routes",) or texts()[path], path
    assert texts()["oauth", "client_secret"] == "the value itself, in the place of client_secret_file"
    assert texts()["routes", "key", "sort_query"] == "the order of parameters does not matter"
    assert texts()["oauth", "lost_answer_replay"].endswith("else once")  # from its second line
