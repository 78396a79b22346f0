"""What the documents say is held against the code: commands, configuration, metrics, codes, links between pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.exceptions import TyperException

from passoproxy import errors
from passoproxy.config.keys import catalogue
from passoproxy.config.settings import RouteSettings, Settings
from tests.command_lines import parse
from tests.documents import reference

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CONTRACT = (ROOT / "docs" / "contract.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])


def command_lines() -> list[tuple[str, str]]:
    """Every `passoproxy …` that a page tells people to type, in blocks and between backticks."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        blocks = "\n".join(re.findall(r"```(?:console|sh)\n(.*?)```", text, re.S)).replace("\\\n", " ")
        typed = re.findall(r"(?:^|[ /(\"])(passoproxy [a-z][^\n)]*)", blocks, re.M)
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        typed += re.findall(
            r"`(?:(?:docker|kubectl|sudo) [^`]*? )?(passoproxy [a-z][^`]*)`", re.sub(r"\s+", " ", prose)
        )
        found |= {(str(page.relative_to(ROOT)), line) for line in typed}
    return sorted(found)


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_line_parses(page: str, line: str) -> None:
    """What is named between backticks may lack its arguments."""
    is_bare = len(line.split()) <= 3
    try:
        parse(re.sub(r"[\[\]]|(?<=\])…", "", line).replace(" …", " x"))
    except TyperException as error:
        if not (is_bare and "Missing argument" in error.format_message()):
            raise


def test_the_readme_names_commands() -> None:
    named = " ".join(line for page, line in command_lines() if page == "README.md")
    for command in ("serve", "login", "sandbox", "token import", "config check", "doctor", "run --"):
        assert f"passoproxy {command}" in named


def test_the_configuration_reference_is_that_of_the_models() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run make docs"


def test_every_key_that_a_page_names_exists() -> None:
    sections = "|".join(name for (name, *_), key in catalogue().items() if key.section or name == "routes")
    for page in PAGES:
        if page.parent.name == "decisions" or page.stem == "architecture":  # they name parts of the program
            continue
        for key in re.findall(rf"`((?:{sections})(?:\.[a-z_]+)+)(?=[`:])", page.read_text()):
            assert tuple(key.split(".")) in catalogue() or key.endswith((".py", ".yaml", ".md")), (page, key)


def test_make_goals_exist() -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text())) <= goals, page


def test_files_that_are_named_exist() -> None:
    for page in PAGES:
        if page.parent.name == "decisions" or page.name == "CHANGELOG.md":  # they tell of their time
            continue
        for path in re.findall(r"(?<![\w/.-])((?:tests|passoproxy|bench|systemd|docs)/[\w./@-]*\w)", page.read_text()):
            assert (ROOT / path).exists() or path == "passoproxy/VERSION", (page, path)


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


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)]+))?\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), (page, target)
            assert not anchor or anchor in anchors(there), (page, target, anchor)


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


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


def test_the_promises_of_the_cache_name_tests_that_exist() -> None:
    """Files or folders below `tests/`, with a test or without; `…` stands for the file before."""
    page, path, counted = (ROOT / "docs" / "cache-promises.md").read_text(), "", [0, 0]
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


def test_the_ages_in_the_caching_table_are_those_of_the_preset() -> None:
    text = (ROOT / "docs" / "caching.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    told = {row[0]: row[3:] for row in rows if len(row) == 6}
    presets = yaml.safe_load((ROOT / "passoproxy" / "config" / "passolution.yaml").read_text())["routes"]
    routes = {route["name"]: RouteSettings.model_validate(route) for route in presets}
    for name, column in (("content-visa", 0), ("content-entry", 0), ("infosystem-general", 1), ("countries", 2)):
        route = routes[name]
        assert route.ttl is not None
        ages = {
            "fresh": route.ttl,
            "late in its freshness (`refresh_ahead`)": route.ttl,
            "stale, and asked for soon (`stale_while_revalidate`)": route.ttl + route.stale_while_revalidate,
            "stale, and the origin fails, is away or asked for a pause (`stale_if_error`)": route.ttl
            + route.stale_if_error,
            "stale, and no usable token (`stale_if_unauthorized`)": route.ttl + route.stale_if_unauthorized,
        }
        assert {state: told[state][column] for state in ages} == {state: in_words(age) for state, age in ages.items()}


def in_words(seconds: float) -> str:
    units = ((86_400, "d"), (3_600, "h"), (60, "min"))
    left = [
        (int(seconds) % more // unit, name) for (unit, name), more in zip(units, (10**9, 86_400, 3_600), strict=True)
    ]
    return " ".join(f"{amount} {name}" for amount, name in left if amount)


def test_the_comparison_quotes_the_figures_of_the_suite() -> None:
    table = dict(re.findall(r"^\| ([^|]+) \| (\d+) \|", (ROOT / "docs" / "conformance.md").read_text(), re.M))
    page = " ".join((ROOT / "docs" / "comparison.md").read_text().split())
    peers = ("passoproxy", "Varnish 7.7, tuned by hand", "Apache 2.4", "Squid 6", "hishel 2.0", "nginx 1.26")
    told = r"passes (\d+) of the 160 .* gave (\d+) required for a tuned Varnish, (\d+) for Apache, (\d+) for Squid, (\d+) for hishel and (\d+) for nginx"
    assert re.search(told, page).groups() == tuple(table[peer] for peer in peers)  # type: ignore[union-attr]


def test_configurations_of_the_pages_are_valid() -> None:
    counted = 0
    for page in PAGES:
        for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.S | re.M):
            values = yaml.safe_load(text)
            if set(values) <= set(Settings.model_fields) and page.stem != "contract":  # tests/config has that one
                Settings.model_validate(values)
                counted += 1
    assert counted > 1
