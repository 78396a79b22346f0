"""Travel details: created by sharing, searched, read, changed, deleted."""

from typing import Any

import pytest

from passoproxy.sandbox.origin import trips
from passoproxy.sandbox.origin.fields import Invalid
from passoproxy.sandbox.origin.trips import condition
from tests.sandbox.conftest import Stand


async def share(stand: Stand, **trip: Any) -> str:
    body = {
        "language": "en",
        "destinations": ["TR", "AE"],
        "nationalities": ["DE"],
        "trip": trip,
        "subscribe": "t@sandbox.example",
    }
    link: str = (await stand.api("/information/share", "POST", json=body)).json["url"]
    return link.rpartition("=")[2]


async def found(stand: Stand, **filters: Any) -> list[str]:
    answer = await stand.api("/travel-details", "POST", json={"per_page": 100, **filters})
    assert answer.status == 200, answer
    return [trip["tid"] for trip in answer.json["data"]]


async def test_the_life_of_a_trip(stand: Stand) -> None:
    tid = await share(stand, name="Trip", reference="REF-9", start_date="2026-09-01", end_date="2026-09-10", note="hi")
    path = f"/travel-details/{tid}"
    data = (await stand.api(path)).json["data"]
    assert (data["trip_name"], data["reference_id"], data["note"]) == ("Trip", "REF-9", "hi")
    assert (data["destinations"], data["nationalities"], data["visits"]) == (["TR", "AE"], ["DE"], 0)
    assert data["nationalities_meta"] == [{"code": "DE", "inherent": True, "added_by_user": False}]
    await stand.clock.advance(5)
    changed = {"trip_name": "Renamed", "destinations": ["ZA"], "nationalities": "AT", "tour_operators": ["SUNX"]}
    data = (await stand.api(path, "POST", json=changed)).json["data"]
    assert (data["trip_name"], data["reference_id"], data["destinations"], data["nationalities"]) == (
        "Renamed",
        "REF-9",
        ["ZA"],
        ["AT"],
    )
    assert (data["tour_operators"], data["last_change_at"], data["created_at"]) == (
        ["SUNX"],
        "2023-11-14 22:13:25",
        "2023-11-14 22:13:20",
    )
    gone = await stand.api(path, "DELETE")
    assert (gone.status, gone.body) == (204, b"")
    assert (await stand.api(path)).status == 404
    assert (await stand.api(path, "DELETE")).status == 404


async def test_reading_does_not_count_unless_asked_to(stand: Stand) -> None:
    tid = await share(stand)
    for mark, visits in (("", 0), ("?mark_visited=false", 0), ("?mark_visited=true", 1), ("", 1)):
        data = (await stand.api(f"/travel-details/{tid}{mark}")).json["data"]
        assert data["visits"] == visits
        assert (data["last_visited_at"] is None) is (visits == 0)


async def test_with_requirements_and_subscriptions(stand: Stand) -> None:
    tid = await share(stand)
    answer = (await stand.api(f"/travel-details/{tid}?with=requirements,subscriptions&content_type=text")).json
    assert [record["destination"] for record in answer["requirements"]] == ["TR", "AE"]
    assert "<p>" not in answer["requirements"][0]["entry"]["content"]
    assert answer["individual_content"]["sections"]
    assert answer["subscriptions"] == [
        {"email_address": "t@sandbox.example", "language": "en", "created_at": "2023-11-14", "verified_at": None}
    ]


async def test_filters(stand: Stand) -> None:
    for filters, count in (
        ({}, 12),
        ({"reference_id": {"like": "REF-70%"}}, 12),
        ({"reference_id": "REF-7002"}, 1),
        ({"trip_name": {"like": "%nile%"}}, 1),
        ({"tid": "SAND-BOX1-0001"}, 1),
        ({"destinations": ["TR", "ZA"]}, 2),
        ({"nationalities": "AT"}, 2),
        ({"start_date": {">=": "2027-06-01", "<": "2027-07-01"}}, 1),
        ({"end_date": {"<=": "2027-02-28"}}, 2),
        ({"end_date": {">": "2099-01-01"}}, 0),
        ({"status": "active"}, 12),
        ({"created_at": {"<": "2023-11-04"}}, 2),
    ):
        assert len(await found(stand, **filters)) == count, filters
    for wrong in ({"near": "x"}, {"=": 1}, [1]):
        assert (await stand.api("/travel-details", "POST", json={"tid": wrong})).status == 422


async def test_trips_expire(stand: Stand) -> None:
    await stand.clock.advance(6 * 366 * 86_400)
    stand.token = ""
    assert await found(stand, status="active") == []
    assert len(await found(stand, status="expired")) == 12


async def test_order_and_pages(stand: Stand) -> None:
    newest = await found(stand)
    assert newest[0] == "SAND-BOX2-0012"
    asked = {"sort_by": "reference_id", "sort_order": "asc", "per_page": 5, "page": 3}
    page = (await stand.api("/travel-details", "POST", json=asked)).json
    assert [trip["reference_id"] for trip in page["data"]] == ["REF-7011", "REF-7012"]
    assert page["meta"]["per_page"] == 5


async def test_important_changes_show(stand: Stand) -> None:
    tid = await share(stand)
    assert (await stand.api(f"/travel-details/{tid}")).json["data"]["last_important_change_at"] is None
    await stand.clock.advance(60)
    stand.sandbox.changes.mark(["AE"], important=True)
    data = (await stand.api(f"/travel-details/{tid}")).json["data"]
    assert data["last_important_change_at"] == data["last_change_at"] == "2023-11-14 22:14:20"
    await stand.clock.advance(60)
    later = await share(stand)
    assert (await stand.api(f"/travel-details/{later}")).json["data"]["last_important_change_at"] is None


async def test_media(stand: Stand) -> None:
    page = (await stand.api("/travel-details/media?page=2", "POST", json={})).json
    assert (len(page["data"]), page["meta"]["total"]) == (1, 11)
    assert set(page["data"][0]) == {"id", "name", "type"}


async def test_the_store_is_bounded(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trips, "MAX_TRIPS", 12)
    tid = await share(stand)
    kept = await found(stand)
    assert (len(kept), kept[0]) == (12, tid)
    assert "SAND-BOX1-0001" not in kept


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
