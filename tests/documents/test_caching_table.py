"""The table of `docs/caching.md` names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def named() -> list[tuple[str, str]]:
    """Each file or folder below `tests/` that is named, with a test in it or ''; `…` stands for the file before."""
    found, path = list[tuple[str, str]](), ""
    for before, name in re.findall(
        r"`(…|[a-z_/]+(?:\.py|/))(?:::(test_\w+))?`", (ROOT / "docs" / "caching.md").read_text()
    ):
        path = path if before == "…" else before
        found.append((path, name))
    return found


@pytest.mark.parametrize(("path", "name"), named())
def test_it_is_there(path: str, name: str) -> None:
    there = ROOT if path == "tests/" else ROOT / "tests" / path
    assert there.exists()
    assert not name or f"def {name}(" in there.read_text()


def test_the_table_is_read_at_all() -> None:
    assert len(named()) > 60
    assert sum(bool(name) for _, name in named()) > 20
