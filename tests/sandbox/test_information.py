"""Search, share, the question whether earlier answers still hold, the news, and the texts of the account and of operators."""

from typing import Any

import pytest

from passoproxy.sandbox.origin import changes
from passoproxy.sandbox.origin.changes import Changes
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


# ---- what was given and what changed, in bounded memory


def test_the_oldest_answers_are_forgotten() -> None:
    memory = Changes(lambda: 0.0)
    for number in range(changes._REMEMBERED + 1):
        memory.give(str(number), "/x", ["TR"], ["DE"])
    assert memory.given("0") is None
    assert memory.given("1") is not None


def test_the_log_is_bounded_and_numbered() -> None:
    memory = Changes(lambda: 7.0)
    memory.mark(["TR"] * 150, important=True)
    assert len(memory.log) == 100
    assert memory.log[-1] == (150, 7.0, "TR")
    assert memory.important_at(["TR"], after=150) is None
    assert memory.important_at(["TR"], after=149) == 7.0


# ---- texts of the account and of operators

ALL = "/content/all/text?lang=en&countries=ZA&nat=DE"


def item(code: str | None = "mine", destination: str | None = None, **more: Any) -> dict[str, Any]:
    rule = {"subject": "destination", "type": "contains_any", "values": [destination]}
    made = {
        "code": code,
        "main_language": "de",
        "translations": {"de": {"name": "Hinweis", "content": "Hallo"}},
        "filters": {"group": {"items": [{"type": "rule", "rule": rule}]}} if destination else None,
        **more,
    }
    return {name: value for name, value in made.items() if value is not None}


async def shown(stand: Stand, path: str = ALL) -> list[str]:
    answer = (await stand.api(path)).json
    return [section["code"] for section in answer.get("individual_content", {"sections": []})["sections"]]


async def test_writing_shows_and_deleting_hides(stand: Stand) -> None:
    assert await shown(stand) == []
    answer = (await stand.api("/individual-content", "POST", json={"content": [item()]})).json["content"]
    assert answer[0] | {"created_at": ""} == item() | {
        "active": True,
        "use_by_default": True,
        "applies_retrospectively": False,
        "filters": None,
        "created_at": "",
    }
    assert await shown(stand) == ["mine"]
    codes = [each["code"] for each in (await stand.api("/individual-content")).json["content"]]
    assert codes == ["ic-1", "mine"]
    await stand.api("/individual-content", "DELETE", json={"content": [{"code": "mine"}, "unknown"]})
    assert await shown(stand) == []


async def test_which_texts_are_chosen(stand: Stand) -> None:
    written = [
        item("off", active=False),
        item("named", use_by_default=False),
        item("turkey", "TR"),
        item("africa", "ZA"),
        item("odd", filters={"group": {"items": [{"rule": {"subject": "weather"}}, 7]}}),
    ]
    await stand.api("/individual-content", "POST", json={"content": written})
    assert await shown(stand) == ["africa", "odd"]
    assert await shown(stand, f"{ALL}&individual_contents=named,off") == ["named"]


async def test_languages_fall_back(stand: Stand) -> None:
    spanish = {"es": {"name": "Nota", "content": "Hola"}}
    await stand.api("/individual-content", "POST", json={"content": [item("a"), item("b", translations=spanish)]})
    sections = (await stand.api(ALL)).json["individual_content"]["sections"]
    assert [section["content"] for section in sections] == ["Hallo", "Hola"]


async def test_order(stand: Stand) -> None:
    await stand.api("/individual-content", "POST", json={"content": [item("a"), item("b"), item(None)]})
    await stand.api(
        "/individual-content/order", "POST", json={"content": [{"code": "b"}, {"code": "a"}, {"code": "none"}]}
    )
    codes = [each["code"] for each in (await stand.api("/individual-content")).json["content"]]
    assert codes == ["b", "a", "ic-1", "ic-4"]


async def test_operators_keep_texts_of_their_own(stand: Stand) -> None:
    await stand.api("/tour-operator/SUNX", "POST", json={"content": [item("c2")]})
    assert [each["code"] for each in (await stand.api("/tour-operator/SUNX")).json["content"]] == ["c1", "c2"]
    await stand.api("/tour-operator/SUNX", "DELETE", json={"content": [{"code": "c1"}]})
    (operator,) = (await stand.api(f"{ALL}&tour_operators=SUNX")).json["tour_operators"]
    assert [each["code"] for each in operator["contents"]] == ["c2"]
    assert len((await stand.api("/tour-operator/NORD")).json["content"]) == 1


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        ["x"],
        [item("")],
        [item(translations={})],
        [item(translations={"xx": {"name": "a", "content": "b"}})],
        [item(translations={"de": "x"})],
        [item(translations={"de": {"name": "a"}})],
        [item(f"c{number}") for number in range(501)],
    ],
)
async def test_what_cannot_be_kept(stand: Stand, content: Any) -> None:
    before = (await stand.api("/individual-content")).json["content"]
    assert (await stand.api("/individual-content", "POST", json={"content": content})).status == 422
    assert (await stand.api("/individual-content")).json["content"] == before
