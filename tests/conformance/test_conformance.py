"""The cache against the public suite (http-tests/cache-tests), in both modes, and docs/conformance.md against what is expected of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.suite import KINDS, MODES, ROOT, Suite, differing, expectations, figures, own_copy

DOCUMENT = ROOT / "docs" / "conformance.md"
LEAST = {"required": 158, "optimal": 95, "check": 78}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_copy(tmp_path_factory.mktemp("suite"))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
def test_every_verdict_is_the_expected_one(
    mode: str,
    copy: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = expectations()[mode]
    with Suite(copy, tmp_path / mode, mode).standing() as suite:
        found = suite.run(expected)
    record_property("figures", figures(found))
    with capsys.disabled():
        print(f"\n{mode}: {figures(found)}")
    told = [f"{name}: {found.get(name)}, expected {expected.get(name)}" for name in differing(found, expected)]
    assert not told, "\n".join(told)


def test_what_is_expected_is_no_less_than_what_was_promised() -> None:
    shared = expectations()["shared"].values()
    for kind in KINDS:
        assert sum(each.is_good for each in shared if each.kind == kind) >= LEAST[kind]


def rows(heading: str) -> dict[str, str]:
    """The first two columns of the table under a heading of the document."""
    text = DOCUMENT.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cell[0].strip().strip("`"): cell[1].strip() for cell in cells}


def test_the_document_gives_a_reason_for_every_test_that_is_not_passed() -> None:
    expected = expectations()
    named = rows("Not passed, shared cache")
    assert set(named) == {name for name, each in expected["shared"].items() if not each.is_good}
    reasons = list(named.values())
    for heading, mode in (
        ("Not passed by a private cache only", "private"),
        ("Not passed without a route only", "shared-bare"),
    ):
        only = rows(heading)
        assert set(only) == {name for name, each in expected[mode].items() if not each.is_good} - set(named)
        reasons += only.values()
    assert all(len(reason) > 10 for reason in reasons)


def test_the_document_shows_the_figures() -> None:
    text = DOCUMENT.read_text()
    for mode in MODES:
        assert f"`{figures(expectations()[mode])}`" in text, f"{mode}: {figures(expectations()[mode])}"


def test_nothing_of_the_suite_is_kept_here() -> None:
    assert {path.name for path in Path(__file__).parent.iterdir() if path.name != "__pycache__"} == {
        "expectations.txt",
        "run.mjs",
        "suite.py",
        "test_conformance.py",
    }
