"""The flags agree with the rules; filters match what they name."""

import pytest

from passoproxy.sandbox.data.texts import FORMS, matches, requirements


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
    rules = requirements(destination, nationality)
    assert rules is not None
    found = FORMS["visa"](rules, "en")
    assert matches(found, {"required": {"status": status}})
    for way in ("e_visa", "on_arrival", "foreign_representation"):
        assert matches(found, {"application": {way: {"available": way == application}}})


def test_entry_overview_and_health() -> None:
    turkey, kenya, brazil = requirements("TR", "DE"), requirements("KE", "DE"), requirements("AR", "DE")
    assert turkey is not None
    assert kenya is not None
    assert brazil is not None
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
        FORMS["health"](brazil, "en"),
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
