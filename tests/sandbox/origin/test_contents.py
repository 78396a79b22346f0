"""Texts of the account and of operators: writing them changes what `/content/all` says."""

from typing import Any

import pytest

from tests.sandbox.conftest import Stand

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
