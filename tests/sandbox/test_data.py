"""The data: tables that are whole, rules that follow from them, sentences in every language, flags that agree, and PDF files."""

import re
import string
from typing import Any

import pytest

from passoproxy.sandbox.data.catalogue import (
    ADDITIONAL_INFO,
    DOCUMENTS,
    IMMUNIZATIONS,
    LANGUAGE_NAMES,
    LANGUAGES,
    PLACES,
    countries,
    nationalities,
)
from passoproxy.sandbox.data.pdf import document
from passoproxy.sandbox.data.texts import (
    FORMS,
    PHRASES,
    SECTIONS,
    Requirements,
    country_topic,
    matches,
    named,
    product_news,
    requirements,
    section,
    ticker,
    written,
)


def test_there_is_enough_of_everything() -> None:
    assert len(countries()) >= 40
    assert len(nationalities()) >= 20
    assert len(LANGUAGES) >= 4
    assert len(LANGUAGE_NAMES) == 21
    assert len(PLACES) == 40


def test_every_row_is_whole() -> None:
    for code, country in countries().items():
        assert len(code) == 2
        assert code.isupper()
        assert set(country.names) == set(LANGUAGES)
        assert all(country.names.values())
        assert country.yellow_fever in ("no", "risk", "all")
        assert country.malaria in ("no", "parts", "all")
        assert country.transit in ("none", "airside", "visa")


def test_every_pair_has_rules() -> None:
    kinds = set()
    for destination in countries():
        for nationality in nationalities():
            found = requirements(destination, nationality)
            assert found is not None
            kinds.add(found.visa)
            assert (found.stay_days is None) == (found.visa in ("own", "move"))
            assert (found.fee > 0) == found.visa_required
            assert found.handling_days[0] < found.handling_days[1]
    assert kinds == {"own", "move", "free", "evisa", "arrival", "embassy"}


def rules_for(destination: str, nationality: str, *change: Any) -> Requirements:
    found = requirements(destination, nationality, *change)
    assert found is not None
    return found


def test_some_pairs() -> None:
    for destination, nationality, visa, days in (
        ("TR", "DE", "free", 90),
        ("DE", "DE", "own", None),
        ("DE", "AT", "move", None),
        ("IN", "DE", "evisa", 30),
        ("EG", "DE", "arrival", 30),
        ("DE", "IN", "embassy", 90),
    ):
        found = rules_for(destination, nationality)
        assert (found.visa, found.stay_days) == (visa, days)
    assert requirements("XX", "DE") is None
    assert requirements("TR", "XX") is None


def test_a_revision_changes_the_facts_and_is_told() -> None:
    before, after = rules_for("IN", "DE"), rules_for("IN", "DE", 1, "2026-01-01 00:00:00")
    assert after.fee > before.fee
    assert after.passport_days != before.passport_days
    for name in ("overview", "entry", "health"):
        assert "2026-01-01 00:00:00" in section(after, name, "en", "text")


# ---- sentences


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_sentence_with_the_same_fields(language: str) -> None:
    english = PHRASES["en"]
    assert list(PHRASES[language]) == list(english)
    for key, text in PHRASES[language].items():
        assert fields(text) == fields(english[key]), key
        assert text.strip()


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_sentences_are_translated(language: str) -> None:
    same = [
        key for key, text in PHRASES[language].items() if text == PHRASES["en"][key] and not key.startswith("name_")
    ]
    assert set(same) <= {"visa", "communication"}


@pytest.mark.parametrize("language", [*LANGUAGES, "it"])
def test_every_pair_can_be_written(language: str) -> None:
    for destination in countries():
        for nationality in list(nationalities())[::5]:
            rules = rules_for(destination, nationality)
            for name in SECTIONS:
                for form in ("html", "text"):
                    text = section(rules, name, language, form)
                    assert "{" not in text
                    assert text.startswith("<") is (form == "html")


def test_content_is_several_kilobytes() -> None:
    rules = rules_for("IN", "DE")
    assert sum(len(section(rules, name, "de", "html")) for name in SECTIONS) > 4000


def test_names_and_topics() -> None:
    for code in (*DOCUMENTS, *ADDITIONAL_INFO, *IMMUNIZATIONS):
        assert {named(code, language) for language in (*LANGUAGES, "ru")}
    assert "Ankara" in country_topic(countries()["TR"], "geography", "es")
    assert (written("fr"), written("ru")) == ("fr", "en")


def test_news() -> None:
    messages = ticker("de")
    assert len({each["id"] for each in messages}) == len(messages) == 80
    assert messages[0]["tagtext"] == "Verkehr"
    assert [each["id"] for each in product_news("en")] == list(range(312, 300, -1))


# ---- flags


@pytest.mark.parametrize(
    ("destination", "nationality", "status", "application"),
    [
        ("TR", "DE", "not_required", None),
        ("IN", "DE", "required", "e_visa"),
        ("EG", "US", "required", "on_arrival"),
        ("DE", "IN", "required", "foreign_representation"),
    ],
)
def test_visa(destination: str, nationality: str, status: str, application: str | None) -> None:
    rules = rules_for(destination, nationality)
    found = FORMS["visa"](rules, "en")
    assert matches(found, {"required": {"status": status}})
    for way in ("e_visa", "on_arrival", "foreign_representation"):
        assert matches(found, {"application": {way: {"available": way == application}}})


def test_entry_overview_and_health() -> None:
    turkey, kenya, argentina = (rules_for(code, "DE") for code in ("TR", "KE", "AR"))
    assert matches(
        FORMS["entry"](turkey, "en"), {"status": "possible", "documents": {"passport": {"validity": {"days": 150}}}}
    )
    assert matches(
        FORMS["overview"](turkey, "en"),
        {"entry": {"documents": {"id_card": {"allowed": True}}}, "visa": {"required": False}},
    )
    assert matches(FORMS["health"](kenya, "en"), {"risk_groups": {"child": {"has_risk": True}}})
    assert FORMS["health"](kenya, "en")["immunizations"]["yellow_fever"]["required_if"]  # type: ignore[index]
    assert matches(
        FORMS["health"](argentina, "en"),
        {"insurance": {"required": True}, "risk_groups": {"pregnant": {"has_risk": False}}},
    )


@pytest.mark.parametrize(
    ("found", "wanted", "holds"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"c": 1}, False),
        (1, {"a": 1}, False),
        ({"a": {}}, {}, True),
        ("x", ["x", "y"], True),
        (["x", "y"], ["y"], True),
        (["x"], ["x", "y"], False),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (1, 1, True),
        (None, None, True),
    ],
)
def test_matching(found: object, wanted: object, holds: bool) -> None:
    assert matches(found, wanted) is holds


# ---- PDF


def check(raw: bytes) -> int:
    """Follows the cross-reference table as a reader does; the number of pages."""
    start = int(raw.rsplit(b"startxref\n", 1)[1].split()[0])
    assert raw[start:].startswith(b"xref\n")
    count = int(raw[start:].split()[2])
    lines = raw[start:].split(b"\n")[2 : 2 + count]
    for number, line in enumerate(lines[1:], 1):
        assert raw[int(line[:10]) :].startswith(f"{number} 0 obj\n".encode())
    for length, content in re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", raw, re.DOTALL):
        assert int(length) == len(content)
    (pages,) = re.findall(rb"/Count (\d+)", raw)
    assert raw.count(b"/Type /Page ") == int(pages)
    return int(pages)


def test_a_small_file() -> None:
    raw = document("Türkei (Entwurf)", [("Visum", "Kein Visum nötig.\n\nZweiter Absatz \\ mit €")])
    assert check(raw) == 1
    assert rb"T\374rkei" in raw or "Türkei".encode("cp1252") in raw
    assert rb"\(Entwurf\)" in raw
    assert b"nicht" not in raw
    assert raw == document("Türkei (Entwurf)", [("Visum", "Kein Visum nötig.\n\nZweiter Absatz \\ mit €")])


@pytest.mark.parametrize(("paragraphs", "pages"), [(0, 1), (51, 1), (60, 2), (500, 10)])
def test_pages(paragraphs: int, pages: int) -> None:
    text = "\n".join(["line"] * paragraphs)
    assert check(document("T", [("H", text)] if paragraphs else [])) == pages


def test_long_lines_are_wrapped_and_foreign_letters_replaced() -> None:
    raw = document("東京", [("", "word " * 100)])
    assert check(raw) == 1
    drawn = re.findall(rb"\((.*)\) Tj", raw)
    assert len(drawn) > 5
    assert max(map(len, drawn)) <= 92
    assert b"(??)" in raw
