"""Search, share, and the question whether earlier answers still hold."""

from typing import Any

import pytest

from tests.sandbox.conftest import Stand


async def test_one_pair_is_an_object_and_several_a_list(stand: Stand) -> None:
    one = (await stand.api("/information/search?lang=fr&destco=TR&nat=DE")).json
    assert one["request"]["destco"] == [
        {"code": "TR", "countryname": "Türkei", "countryname_en": "Turkey", "countryname_translated": "Turquie"}
    ]
    assert one["request"]["nat"][0]["code"] == "DE"
    assert {"entry", "visa", "transitvisa", "inoculation", "additionalContent"} <= set(one["response"])
    for name in ("entry", "visa", "transitvisa", "inoculation"):
        section = one["response"][name]
        assert isinstance(section["version"], int)
        assert section["id"].isdigit()
        assert (section["status"], section["language"]) == ("active", "fr")
        assert section["headline"]
        assert section["content"]
        assert section["source"] == "sandbox"
    assert one["response"]["visa"]["visa_required"] == 0
    several = (await stand.api("/information/search?lang=en&destco=TR,ZA&nat=DE&return_regions=1")).json["response"]
    assert [(each["destco"], each["regions"]) for each in several] == [("TR", []), ("ZA", [])]


async def test_versions_grow_with_changes(stand: Stand) -> None:
    async def version() -> int:
        found: int = (await stand.api("/information/search?destco=TR&nat=DE")).json["response"]["entry"]["version"]
        return found

    before = await version()
    stand.sandbox.changes.mark(["TR"], important=False)
    assert await version() == before + 1


@pytest.mark.parametrize(
    "path", ["/content/all/text", "/content/entry/json", "/information/search", "/content/country/html"]
)
async def test_updates_flip_for_the_destination_that_changed(stand: Stand, path: str) -> None:
    query = "lang=en&nat=DE&states=CA"
    turkey = (await stand.api(f"{path}?{query}&countries=TR")).json["requestid"]
    africa = (await stand.api(f"{path}?{query}&countries=ZA")).json["requestid"]

    async def updates() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await stand.api(f"/information/updates?request_ids={turkey},{africa}")).json[
            "requests"
        ]
        return found

    first, second = await updates()
    assert (first["request_id"], first["is_valid"], first["endpoint"]) == (turkey, True, f"/api/v2{path}")
    assert first["params"]["destinations"] == ["TR"]
    assert first["created_at"] == "2023-11-14 22:13:20"
    assert not first["has_important_changes"]
    stand.sandbox.changes.mark(["TR"], important=False)
    assert not (await updates())[0]["has_important_changes"]
    await stand.ask("/__sandbox/changes", "POST", json={"countries": ["TR"]})
    first, second = await updates()
    assert (first["has_important_changes"], first["last_important_change_at"]) == (True, "2023-11-14 22:13:20")
    assert (second["has_important_changes"], second["last_important_change_at"]) == (False, None)
    fresh = (await stand.api(f"{path}?{query}&countries=TR")).json["requestid"]
    (answer,) = (await stand.api("/information/updates", "POST", json={"request_ids": [fresh]})).json["requests"]
    assert not answer["has_important_changes"]


async def test_unknown_ids_are_not_valid_and_too_many_are_refused(stand: Stand) -> None:
    (answer,) = (await stand.api("/information/updates?request_ids=nonsense")).json["requests"]
    assert (answer["request_id"], answer["is_valid"], answer["has_important_changes"]) == ("nonsense", False, False)
    many = {"request_ids": [str(number) for number in range(1001)]}
    assert (await stand.api("/information/updates", "POST", json=many)).status == 422


@pytest.mark.parametrize(
    "body",
    [
        {"nationalities": ["DE"]},
        {"destinations": ["TR"]},
        {"destinations": ["TR"], "nationalities": ["DE"], "trip": "x"},
        {"destinations": ["TR"], "nationalities": ["DE"], "subscribe": ["nobody"]},
        {"destinations": ["TR"], "nationalities": ["DE"], "trip": {"start_date": "1.2.2026"}},
        {"destinations": ["TR"], "nationalities": ["DE"], "trip": {"start_date": "20260201"}},
        {"destinations": ["TR"], "nationalities": ["DE"], "trip": {"name": 7}},
        {
            "destinations": ["TR"],
            "nationalities": ["DE"],
            "trip": {"start_date": "2026-02-02", "end_date": "2026-02-01"},
        },
    ],
)
async def test_what_cannot_be_shared(stand: Stand, body: dict[str, Any]) -> None:
    before = (await stand.api("/travel-details", "POST", json={})).json["meta"]["total"]
    assert (await stand.api("/information/share", "POST", json=body)).status == 422
    assert (await stand.api("/travel-details", "POST", json={})).json["meta"]["total"] == before


async def test_the_ticker_has_its_own_wrapper_and_shows_changes_first(stand: Stand) -> None:
    before = (await stand.api("/infosystem/general?lang=en&limit=60")).json["result"]
    assert {"current_page", "last_page", "total", "data"} <= set(before)
    assert (len(before["data"]), before["total"], before["last_page"]) == (60, 80, 2)
    created = [each["created_at"] for each in before["data"]]
    assert created == sorted(created, reverse=True)
    stand.sandbox.changes.mark(["TR", "ZA"], important=True)
    newest = (await stand.api("/infosystem/general?lang=en&limit=2")).json["result"]["data"]
    assert [(each["country"], each["tagtext"]) for each in newest] == [
        ("ZA", "Requirements changed"),
        ("TR", "Requirements changed"),
    ]
    oldest = (await stand.api("/infosystem/general?sort_by=created_at&sort_order=asc&limit=1")).json["result"]["data"]
    assert oldest[0]["created_at"] == created[-1] or oldest[0]["created_at"] < created[-1]
