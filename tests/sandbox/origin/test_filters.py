"""Filters of searches."""

import pytest

from passoproxy.sandbox.origin.fields import Invalid
from passoproxy.sandbox.origin.trips import condition


@pytest.mark.parametrize(
    ("found", "wanted", "fulfilled"),
    [
        ("REF-7001", {"like": "ref-70%"}, True),
        ("REF-7001", {"like": "70"}, False),
        ("a.c", {"like": "a.c"}, True),
        ("abc", {"like": "a.c"}, False),
        ("x", "x", True),
        ("x", "y", False),
        ("2026-05-01", {">=": "2026-05-01", "<": "2026-05-02"}, True),
        ("2026-05-01", {">": "2026-05-01"}, False),
        ("2026-05-01", {"<=": "2026-05-01"}, True),
        (None, {"=": ""}, True),
        (None, {">": "a"}, False),
        ("x", {}, True),
    ],
)
def test_conditions(found: object, wanted: object, fulfilled: bool) -> None:
    assert condition("x", wanted)(found) is fulfilled


@pytest.mark.parametrize("wanted", [{"near": "x"}, {"=": 1}, 7, ["x"]])
def test_other_shapes_are_refused(wanted: object) -> None:
    with pytest.raises(Invalid) as refused:
        condition("tid", wanted)
    assert list(refused.value.errors) == ["tid"]
