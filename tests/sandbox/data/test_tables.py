"""The tables: enough rows, every one readable, rules that follow from them."""

import pytest

from passoproxy.sandbox.data.catalogue import LANGUAGE_NAMES, LANGUAGES, PLACES, countries, nationalities
from passoproxy.sandbox.data.texts import requirements


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


@pytest.mark.parametrize(
    ("destination", "nationality", "visa", "days"),
    [
        ("TR", "DE", "free", 90),
        ("DE", "DE", "own", None),
        ("DE", "AT", "move", None),
        ("IN", "DE", "evisa", 30),
        ("EG", "DE", "arrival", 30),
        ("DE", "IN", "embassy", 90),
    ],
)
def test_some_pairs(destination: str, nationality: str, visa: str, days: int | None) -> None:
    found = requirements(destination, nationality)
    assert found is not None
    assert (found.visa, found.stay_days) == (visa, days)


def test_unknown_codes_have_none() -> None:
    assert requirements("XX", "DE") is None
    assert requirements("TR", "XX") is None


def test_a_revision_changes_the_facts() -> None:
    before, after = requirements("IN", "DE"), requirements("IN", "DE", 1, "2026-01-01 00:00:00")
    assert before is not None
    assert after is not None
    assert after.fee > before.fee
    assert after.passport_days != before.passport_days
    assert after.changed == "2026-01-01 00:00:00"
