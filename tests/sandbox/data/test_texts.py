"""The texts: every language says everything, with the same fields, for every pair."""

import string

import pytest

from passoproxy.sandbox.data.catalogue import (
    ADDITIONAL_INFO,
    DOCUMENTS,
    IMMUNIZATIONS,
    LANGUAGES,
    countries,
    nationalities,
)
from passoproxy.sandbox.data.texts import (
    PHRASES,
    SECTIONS,
    country_topic,
    named,
    product_news,
    requirements,
    section,
    ticker,
    written,
)


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


@pytest.mark.parametrize("form", ["html", "text"])
@pytest.mark.parametrize("language", [*LANGUAGES, "it"])
def test_every_pair_can_be_written(language: str, form: str) -> None:
    for destination in countries():
        for nationality in list(nationalities())[::5]:
            rules = requirements(destination, nationality)
            assert rules is not None
            for name in SECTIONS:
                text = section(rules, name, language, form)
                assert "{" not in text
                assert text.startswith("<") is (form == "html")


def test_a_change_is_told() -> None:
    rules = requirements("TR", "DE", 2, "2026-01-01 00:00:00")
    assert rules is not None
    for name in ("overview", "entry", "health"):
        assert "2026-01-01 00:00:00" in section(rules, name, "en", "text")


def test_content_is_several_kilobytes() -> None:
    rules = requirements("IN", "DE")
    assert rules is not None
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
