"""Pages: walking to the end by the links, ordering."""

import pytest

from tests.sandbox.conftest import Stand


@pytest.mark.parametrize(
    ("path", "member", "least"),
    [
        ("/countries?limit=7&sort_by=population&sort_order=desc", "data", 40),
        ("/nationalities?limit=9", "data", 20),
        ("/languages?limit=4", "data", 21),
        ("/countries/de/locations", "locations", 40),
        ("/infosystem/passolution?limit=5", "data", 12),
    ],
)
async def test_following_the_links_to_the_end(stand: Stand, path: str, member: str, least: int) -> None:
    stand.token = str(stand.sandbox.issue_pair()["access_token"])
    address: str | None = f"{stand.sandbox.base_url}/api/v2{path}"
    seen: list[str] = []
    first = before = None
    while address is not None:
        page = (await stand.ask(address, headers={"Authorization": f"Bearer {stand.token}"})).json
        links, meta = page["links"], page["meta"]
        first = first or links["first"]
        assert (links["first"], links["prev"]) == (first, before)
        assert meta["path"] == f"{stand.sandbox.base_url}/api/v2{path.partition('?')[0]}"
        assert (meta["from"], meta["to"]) == (len(seen) + 1, len(seen) + len(page[member]))
        seen += [str(each) for each in page[member]]
        before, address = address if "page=" in address else first, links["next"]
        assert (links["next"] is None) is (meta["current_page"] == meta["last_page"])
    assert before == links["last"]
    assert len(seen) == len(set(seen)) == meta["total"] >= least


async def test_links_name_the_host_that_the_client_named(stand: Stand) -> None:
    answer = await stand.ask("/api/v2/languages?limit=5&active=0", headers={"Host": "data.example:99"})
    assert answer.json["links"]["next"] == "http://data.example:99/api/v2/languages?limit=5&active=0&page=2"
    assert b'"http:\\/\\/data.example:99\\/api' in answer.body


async def test_a_page_beyond_the_end_is_empty(stand: Stand) -> None:
    page = (await stand.ask("/api/v2/languages?page=99")).json
    assert (page["data"], page["meta"]["from"], page["meta"]["to"], page["links"]["next"]) == ([], None, None, None)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("field", ["code", "population", "birthrate", "capital"])
async def test_ordering(stand: Stand, field: str, order: str) -> None:
    page = (await stand.ask(f"/api/v2/countries?limit=100&sort_by={field}&sort_order={order}")).json
    values = [record[field] for record in page["data"]]
    assert values == sorted(values, reverse=order == "desc")


async def test_ordering_takes_records_without_a_value_first(stand: Stand) -> None:
    await stand.api("/information/share", "POST", json={"destinations": ["TR"], "nationalities": ["DE"]})
    page = (await stand.api("/travel-details", "POST", json={"sort_by": "trip_name"})).json
    assert page["data"][0]["trip_name"] is None


async def test_filters_of_lists(stand: Stand) -> None:
    async def codes(path: str) -> list[str]:
        return [record["code"] for record in (await stand.ask(f"/api/v2{path}")).json["data"]]

    assert await codes("/countries?code=tr,ZA") == ["TR", "ZA"]
    assert await codes("/countries?active=0") == []
    assert await codes("/languages?limit=30&active=1") == ["de", "en", "es", "fr"]
    assert (await stand.ask("/api/v2/countries?code=TR&lang=de")).json["data"][0]["name"] == "Türkei"
    found = (await stand.api("/countries/de/locations?zip_codes=04109,80331&zip_code=12683")).json["locations"]
    assert [place["name"] for place in found] == ["Leipzig", "Berlin", "Munich"]
    assert found[0] == {"name": "Leipzig", "zip_code": 4109, "state": "Saxony"}
