"""Every endpoint of the origin: its wrapper, its token, how fields are read, how lists are paged, and how answers look."""

import gzip
import json
from typing import Any

import pytest

from passoproxy.sandbox.origin import api
from passoproxy.sandbox.origin.fields import Asked, Invalid, Place
from passoproxy.sandbox.origin.responses import php_json, takes_gzip
from tests.sandbox.conftest import Stand, Started

PAIR = "lang=en&countries=TR&nat=DE"
PAGED = {"data", "links", "meta"}
VOLATILE = {"requestid", "responsetime"}
CONTENT = {"records", "disclaimer"}

READS: list[tuple[str, str, Any, set[str]]] = [
    ("GET", "/health", None, {"error", "status"}),
    ("GET", "/version", None, {"error", "version", "commit_hash"}),
    ("GET", "/auth/login/generate_link?page=/", None, {"username", "link"}),
    ("GET", "/countries", None, PAGED),
    ("GET", "/countries/de/locations", None, {"locations", "links", "meta"}),
    ("GET", "/nationalities", None, PAGED),
    ("GET", "/languages", None, PAGED),
    ("GET", "/tour-operators", None, {"data"}),
    ("GET", "/entry/documents", None, {"documents"}),
    ("GET", "/entry/additional-info", None, {"additional_info"}),
    ("GET", "/health/immunizations", None, {"immunizations"}),
    ("POST", "/destinations?lang=en&nationalities=DE", {}, {"destinations"}),
    ("GET", f"/information/search?{PAIR}", None, {"request", "response"}),
    ("POST", "/information/search", {"lang": "en", "destco": "TR", "nat": "DE"}, {"request", "response"}),
    ("POST", "/information/share", {"destinations": ["TR"], "nationalities": ["DE"]}, {"url"}),
    ("GET", "/information/updates?request_ids=x", None, {"requests"}),
    ("POST", "/information/updates", {"request_ids": ["x"]}, {"requests"}),
    ("GET", f"/content/all/html?{PAIR}", None, CONTENT | {"individual_content"}),
    ("GET", f"/content/all/text?{PAIR}", None, CONTENT | {"individual_content"}),
    ("GET", "/content/country/html?lang=en&countries=TR", None, CONTENT),
    *[
        ("GET", f"/content/{topic}/{form}?{PAIR}", None, CONTENT)
        for topic, forms in {
            "overview": ("json", "html"),
            "entry": ("json", "html", "text"),
            "visa": ("json", "html", "text"),
            "transit_visa": ("html", "text"),
            "health": ("json", "html", "text"),
        }.items()
        for form in forms
    ],
    ("GET", "/infosystem/general?lang=en", None, {"code", "message", "result"}),
    ("GET", "/infosystem/passolution", None, PAGED),
    ("POST", "/travel-details", {}, PAGED),
    ("GET", "/travel-details/SAND-BOX1-0001", None, {"data"}),
    ("POST", "/travel-details/SAND-BOX1-0001", {"trip_name": "x"}, {"data"}),
    ("POST", "/travel-details/media", {}, PAGED),
    ("GET", "/individual-content", None, {"content"}),
    ("POST", "/individual-content", {"content": []}, {"content"}),
    ("DELETE", "/individual-content", {"content": []}, set()),
    ("POST", "/individual-content/order", {"content": []}, set()),
    ("GET", "/tour-operator/SUNX", None, {"content"}),
    ("POST", "/tour-operator/sunx", {"content": []}, {"content"}),
    ("DELETE", "/tour-operator/SUNX", {"content": []}, set()),
]
FREE = {"/health", "/version", "/countries", "/nationalities", "/languages"}
CONTENT_PATHS = [path for method, path, _, _ in READS if method == "GET" and path.startswith("/content/")]
PDF_PATHS = [
    f"/content/{topic}/pdf?{PAIR}"
    for topic in ("all", "country", "overview", "entry", "visa", "transit_visa", "health")
]


async def test_members_framework_headers_and_tokens(stand: Stand) -> None:
    for method, path, body, members in READS:
        answer = await stand.api(path, method, json=body)
        assert answer.status == 200, (path, answer)
        assert set(answer.json) == members | VOLATILE, path
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-cache, private"
        assert answer.json["requestid"] != (await stand.api(path, method, json=body)).json["requestid"]
        free = await stand.ask(f"/api/v2{path}", method, json=body)
        if path in FREE:
            assert free.status == 200, path
        else:
            assert (free.status, free.json) == (401, {"message": "Unauthenticated."}), path
            assert free.headers["WWW-Authenticate"] == "Bearer"


async def test_get_and_post_and_both_vocabularies_say_the_same(stand: Stand) -> None:
    bodies: list[dict[str, Any]] = [
        {"json": {"language": "en", "destinations": ["TR"], "nationalities": ["DE"]}},
        {"json": {"language": "en", "destinations": [{"destination": "tr", "type": "travel"}], "nationalities": "de"}},
        {"json": {"lang": "en", "countries": "TR", "nat": "DE"}},
        {"data": {"language": "en", "destinations[0][destination]": "TR", "nationalities[]": "DE"}},
    ]
    for path in CONTENT_PATHS:
        plain, _, _ = path.partition("?")
        expected = (await stand.api(path)).json["records"]
        for body in bodies:
            assert (await stand.api(plain, "POST", **body)).json["records"] == expected, (path, body)
        other = f"{plain}?language=en&destinations=TR&nationalities=DE"
        assert (await stand.api(other)).json["records"] == expected, path


async def test_pdfs_and_nothing_for_this_request(stand: Stand) -> None:
    for path in PDF_PATHS:
        for method in ("GET", "POST"):
            answer = await stand.api(path, method)
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pdf"), path
            assert answer.body.startswith(b"%PDF-1.4")
            assert answer.body.rstrip().endswith(b"%%EOF")
            assert "Content-Encoding" not in answer.headers
    for path in (*CONTENT_PATHS, *PDF_PATHS, f"/information/search?{PAIR}"):
        answer = await stand.api(path.replace("=TR", "=XX"))
        assert (answer.status, answer.body) == (204, b""), path


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/content/all/html?countries=TR", "nationalities"),
        ("/content/all/html?nat=DE", "destinations"),
        ("/content/entry/text?countries=TUR&nat=DE", "destinations"),
        ("/content/entry/text?countries=TR&nat=D1", "nationalities"),
        ("/content/health/json?lang=en", "destinations"),
        ("/content/country/html?lang=en", "destinations"),
        (f"/content/visa/json?{PAIR}&lang=xx", "language"),
        (f"/information/search?{PAIR}&lang=xx", "language"),
        ("/countries?limit=0", "limit"),
        ("/countries?limit=x", "limit"),
        ("/countries?page=0", "page"),
        ("/countries?sort_by=colour", "sort_by"),
        ("/countries?sort_order=up", "sort_order"),
        ("/information/updates", "request_ids"),
        ("/auth/login/generate_link?page=evil", "page"),
        ("/travel-details/SAND-BOX1-0001?with=everything", "with"),
        ("/travel-details/SAND-BOX1-0001?content_type=pdf", "content_type"),
        (f"/content/all/html?{PAIR}&target-device=fridge", "target-device"),
    ],
)
async def test_bad_parameters(stand: Stand, path: str, field: str) -> None:
    answer = await stand.api(path)
    assert (answer.status, list(answer.json["errors"])) == (422, [field])
    assert answer.json["message"] == answer.json["errors"][field][0]


async def test_unknown_records_and_head(stand: Stand) -> None:
    for path in ("/travel-details/NONE", "/tour-operator/NONE"):
        answer = await stand.api(path)
        assert (answer.status, answer.json) == (404, {"message": "Not found."})
    head = await stand.api("/languages", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 100


# ---- fields ----------------------------------------------------------------------------------------------------------


def test_fields_are_read_as_the_framework_reads_them() -> None:
    for value, words in (
        (None, []),
        ("a,b", ["a", "b"]),
        (["a", "b,c"], ["a", "b", "c"]),
        (" a , ", ["a"]),
        (7, ["7"]),
        ([], []),
    ):
        assert Asked({"x": value}).words("x") == words
    for value, flag in (
        (None, None),
        (True, True),
        (False, False),
        ("1", True),
        ("true", True),
        ("0", False),
        ("false", False),
        ("", False),
        (1, True),
    ):
        assert Asked({"x": value}).flag("x") is flag
    for value, text in (("a", "a"), (["a", "b"], "b"), ("", None), (None, None), (3, "3"), (1.5, "1.5")):
        assert Asked({"x": value}).text("x") == text
    assert Asked({"destinations": "za,tr,ZA"}).destinations() == [Place("ZA"), Place("TR")]
    mixed = [{"destination": "tr", "type": "transit"}, "ae"]
    assert Asked({"destinations": mixed}).destinations() == [Place("TR", "transit"), Place("AE")]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Asked({"x": {}}).text("x"),
        lambda: Asked({"x": []}).text("x"),
        lambda: Asked({"x": "b"}).choice("x", ("a",), "a"),
        lambda: Asked({"x": "1.5"}).number("x", 1),
        lambda: Asked({"x": "9"}).number("x", 1, most=8),
        lambda: Asked({"x": [{}]}).words("x"),
        lambda: Asked({"x": []}).object("x"),
        lambda: Asked({"destinations": [{"destination": "TR", "type": "fly"}]}).destinations(),
        lambda: Asked({"destinations": [{}]}).destinations(),
        lambda: Asked({"destinations": [{"destination": "TR"}, 5]}).destinations(),
    ],
)
def test_what_cannot_be_used(wrong: Any) -> None:
    with pytest.raises(Invalid) as refused:
        wrong()
    assert next(iter(refused.value.errors)) in ("x", "destinations")


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


# ---- lists -----------------------------------------------------------------------------------------------------------


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


async def test_ordering(stand: Stand) -> None:
    for field in ("code", "population", "birthrate", "capital"):
        for order in ("asc", "desc"):
            page = (await stand.ask(f"/api/v2/countries?limit=100&sort_by={field}&sort_order={order}")).json
            values = [record[field] for record in page["data"]]
            assert values == sorted(values, reverse=order == "desc"), (field, order)


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


# ---- answers ---------------------------------------------------------------------------------------------------------

HTML = "/content/all/html?lang=de&countries=TR&nat=DE"


def test_json_as_php_writes_it() -> None:
    assert php_json({"a": "http://x/ü", "b": None}) == b'{"a":"http:\\/\\/x\\/\\u00fc","b":null}'


def test_what_takes_gzip() -> None:
    assert all(map(takes_gzip, ("gzip", "br, GZIP;q=0.5", "*")))
    assert not any(map(takes_gzip, ("", "gzip;q=0", "gzip; q=0.0", "identity")))


async def test_gzip_where_the_client_takes_it(stand: Stand) -> None:
    stand.client.session._auto_decompress = False
    coded = await stand.api(HTML, headers={"Accept-Encoding": "gzip"})
    plain = await stand.api(HTML, headers={"Accept-Encoding": "identity"})
    assert (coded.headers["Content-Encoding"], coded.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert ("Content-Encoding" in plain.headers, plain.headers["Vary"]) == (False, "Accept-Encoding")
    assert int(coded.headers["Content-Length"]) == len(coded.body) < len(plain.body) / 2
    assert json.loads(gzip.decompress(coded.body))["records"] == plain.json["records"]
    assert len(plain.body) > 3000


async def test_small_answers_are_not_coded(stand: Stand) -> None:
    answer = await stand.api("/health", headers={"Accept-Encoding": "gzip"})
    assert not {"Content-Encoding", "Vary"} & set(answer.headers)


async def test_there_are_no_validators_by_default(stand: Stand) -> None:
    answer = await stand.api(HTML)
    assert not {"ETag", "Last-Modified", "Expires"} & set(answer.headers)


async def test_validators_by_option_stand_for_what_is_stable(started: Started) -> None:
    stand = await started(validators=True)
    first = await stand.api(HTML)
    tag = first.headers["ETag"]
    assert tag.startswith('W/"')
    known = await stand.api(HTML, headers={"If-None-Match": f'"x", {tag}'})
    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", tag)
    assert (await stand.api(HTML, headers={"If-None-Match": '"x"'})).status == 200
    assert (await stand.api(HTML, headers={"If-None-Match": "*"})).status == 304
    assert "ETag" not in (await stand.api("/content/all/html")).headers
    stand.sandbox.changes.mark(["TR"], important=True)
    assert (await stand.api(HTML, headers={"If-None-Match": tag})).status == 200
    assert "ETag" in (await stand.api(HTML.replace("html", "pdf"))).headers
    assert "ETag" in (await stand.api("/account/subscription")).headers


# ---- login links -----------------------------------------------------------------------------------------------------


async def test_a_link_logs_in_once(stand: Stand) -> None:
    answer = (await stand.api("/auth/login/generate_link?page=/trips&username=a%26b@c.example")).json
    assert answer["username"] == "a&b@c.example"
    assert answer["link"]["token"] in answer["link"]["url"]
    assert answer["link"]["url"].startswith(stand.sandbox.base_url)
    opened = await stand.ask(answer["link"]["url"])
    assert (opened.status, "a&amp;b@c.example" in opened.text) == (200, True)
    assert (await stand.ask(answer["link"]["url"])).status == 410


async def test_a_link_is_good_for_30_seconds(stand: Stand) -> None:
    link = (await stand.api("/auth/login/generate_link")).json
    assert link["username"] == "agent@sandbox.example"
    await stand.clock.advance(30)
    assert (await stand.ask(link["link"]["url"])).status == 410


async def test_memory_of_links_is_bounded(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_LINKS", 1)
    first = (await stand.api("/auth/login/generate_link")).json["link"]["url"]
    await stand.api("/auth/login/generate_link")
    assert (await stand.ask(first)).status == 410
