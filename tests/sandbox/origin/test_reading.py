"""Finding the fields of a request, as PHP does."""

from typing import Any

import pytest

from tests.sandbox.conftest import Stand

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"{", JSON, "not valid JSON"),
        (b"[" * 100_000, JSON, "not valid JSON"),
        (b"[]", JSON, "JSON object"),
        (b"\xff", {"Content-Type": "application/x-www-form-urlencoded"}, "not a valid form"),
        (b"x", {"Content-Type": "text/csv"}, "application/json"),
    ],
)
async def test_bodies_that_cannot_be_read(stand: Stand, body: bytes, headers: dict[str, str], words: str) -> None:
    answer = await stand.api("/destinations", "POST", data=body, headers=headers)
    assert answer.status == 422
    assert words in answer.json["message"]


async def test_an_empty_body_leaves_the_query(stand: Stand) -> None:
    path = "/content/entry/text?lang=en&countries=TR&nat=DE"
    assert (await stand.api(path, "POST", data=b"")).status == 200
    chunked = await stand.api(path, "POST", data=_nothing(), headers=JSON)
    assert chunked.status == 200


async def _nothing() -> Any:
    for part in ():
        yield part


@pytest.mark.parametrize(
    "query",
    [
        "countries=TR&countries=ZA&nat=DE",
        "countries[]=TR&countries[]=ZA&nat=DE",
        "countries[0]=TR&countries[1]=ZA&nat=DE",
        "countries=TR,ZA&nat=DE",
        "destinations[0][destination]=TR&destinations[1][destination]=ZA&nat=DE",
        "[odd=1&countries=TR,ZA&nat=DE",
        "nat=AT&countries[x]=1&countries=TR,ZA&nat[]=DE",
    ],
)
async def test_lists_in_every_way(stand: Stand, query: str) -> None:
    answer = await stand.api(f"/content/entry/text?{query}")
    if "[x]" in query:
        assert answer.status == 422
        return
    assert [record["destination"] for record in answer.json["records"]] == ["TR", "ZA"]


async def test_the_body_wins_over_the_query(stand: Stand) -> None:
    answer = await stand.api(
        "/content/entry/text?lang=de&countries=TR&nat=DE", "POST", json={"lang": "en", "countries": "AE"}
    )
    (record,) = answer.json["records"]
    assert (record["language"], record["destination"]) == ("EN", "AE")
