"""What the documents say is held against the code: commands, configuration, metrics, codes, links between pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import passoproxy
from passoproxy import errors
from passoproxy.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CONTRACT = (ROOT / "docs" / "contract.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def commands(text: str) -> list[list[str]]:
    """Every `passoproxy …` of a text that is a command to type, options and placeholders cut."""
    found = re.findall(r"(?:\.venv/bin/)?passoproxy ((?:[a-z]+)(?: [a-z]+)?)[^\n|]*", text)
    known = {"token", "cache", "config", "alert"}
    return [words.split() if words.split()[0] in known else words.split()[:1] for words in found]


def typed_in_readme() -> list[str]:
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", README, re.S))
    ticked = "\n".join(re.findall(r"`(passoproxy [^`]+)`", README))
    return sorted({" ".join(each) for each in commands(blocks + "\n" + ticked)})


@pytest.mark.parametrize("command", typed_in_readme())
def test_commands_of_the_readme_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_readme_names_commands() -> None:
    assert {"serve", "login", "demo", "sandbox", "token import", "config check"} <= set(typed_in_readme())


def test_make_goals_of_the_readme_exist() -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README)) <= goals


def test_codes_of_the_contract_are_those_of_the_code() -> None:
    section = CONTRACT[CONTRACT.index("## 6.") : CONTRACT.index("## 7.")]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    told = {code: int(number) for line in rows for code, number in _codes(line)}
    written = {kind.code: kind.status for kind in _refusals(errors.Refusal) if not kind.__name__.startswith("_")}
    assert told.items() <= written.items()


def _codes(line: str) -> list[tuple[str, str]]:
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return list(zip(re.findall(r"`([a-z_]+)`", cells[0]), re.findall(r"\b\d{3}\b", cells[1]), strict=True))


def _refusals(kind: type[errors.Refusal]) -> list[type[errors.Refusal]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _refusals(child))]


def test_the_changelog_begins_with_this_version() -> None:
    assert re.search(r"^## (\S+)", CHANGELOG, re.M).group(1).rstrip(",") == passoproxy.__version__  # type: ignore[union-attr]


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), (page, target)


def test_pages_and_code_cite_sections_that_exist() -> None:
    for file in (*PAGES, *(ROOT / "passoproxy").rglob("*.py")):
        for number in re.findall(r"contract §(\d+)", file.read_text()):
            assert f"\n## {number}. " in CONTRACT, (file, number)


def test_every_sentence_about_the_pair_has_a_module_and_a_test_that_exist() -> None:
    page = (ROOT / "docs" / "refresh.md").read_text()
    rows = [line for line in page[page.index("## Sentence by sentence") :].splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 30
    for row in rows:
        sentence, modules, tests = (cell.strip() for cell in row.strip("|").split(" | "))
        for module in re.findall(r"`([^`]+\.py)`", modules):
            assert (ROOT / "passoproxy" / module).exists(), (sentence, module)
        named = re.findall(r"`([a-z_/0-9]+\.py)`((?: `test_\w+`)+)", tests)
        assert named, sentence
        for file, names in named:
            text = (ROOT / "tests" / file).read_text()
            for name in re.findall(r"test_\w+", names):
                assert f"def {name}(" in text, (sentence, file, name)


def test_the_caching_table_names_tests_that_exist() -> None:
    """Files or folders below `tests/`, with a test or without; `…` stands for the file before."""
    page, path, counted = (ROOT / "docs" / "caching.md").read_text(), "", [0, 0]
    for before, name in re.findall(r"`(…|[a-z_/]+(?:\.py|/))(?:::(test_\w+))?`", page):
        path = path if before == "…" else before
        there = ROOT if path == "tests/" else ROOT / "tests" / path
        assert there.exists(), path
        assert not name or f"def {name}(" in there.read_text(), (path, name)
        counted[bool(name)] += 1
    assert sum(counted) > 60
    assert counted[True] > 20


def test_the_threat_model_names_tests_that_exist() -> None:
    """As in the caching table, from `tests/` on."""
    page, path, named = (ROOT / "docs" / "threat-model.md").read_text(), "", 0
    for before, name in re.findall(r"`(…|tests/[a-z_/]+\.py)(?:::(test_\w+))?`", page):
        path = path if before == "…" else before
        text = (ROOT / path).read_text()
        assert not name or f"def {name}(" in text, (path, name)
        named += bool(name)
    assert named > 50


# ---- troubleshooting -------------------------------------------------------------------------------------------------

TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text()
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "passoproxy").rglob("*.py")))


def told_of(heading: str) -> set[str]:
    """The words that the first column of a table explains."""
    section = TROUBLE[TROUBLE.index(f"## {heading}") :].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_every_code_is_explained() -> None:
    import passoproxy.server.admin.errors  # noqa: F401 some are defined there

    written = {kind.code for kind in _refusals(errors.Refusal) if not kind.__name__.startswith("_")}
    assert told_of("The answer is an error") == written


def test_every_warning_is_explained() -> None:
    """Those that are written as such; of the others, those that are explained exist."""
    plain = r'(?:Warned\(|Trouble\(|_refuse\(state, |yield )\s*"([a-z]+(?:_[a-z]+)+|placeholder)"'
    explained = told_of("The log warns")
    assert set(re.findall(plain, SOURCE)) <= explained
    assert all(f'"{code}"' in SOURCE for code in explained)


def test_every_check_of_doctor_is_explained() -> None:
    explained = told_of("What doctor finds")
    for name in re.findall(r'(?:good|failure|Finding)\(\s*"([a-z. ]+)"', SOURCE):
        assert name in explained, name
