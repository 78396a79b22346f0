"""Every endpoint: what it answers, in which wrapper, and whether it needs a token."""

from typing import Any

import pytest

from tests.sandbox.conftest import Stand

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
IDS = [f"{method} {path}" for method, path, _, _ in READS]


@pytest.mark.parametrize(("method", "path", "body", "members"), READS, ids=IDS)
async def test_members_and_framework_headers(
    stand: Stand, method: str, path: str, body: Any, members: set[str]
) -> None:
    answer = await stand.api(path, method, json=body)
    assert answer.status == 200, answer
    assert set(answer.json) == members | VOLATILE
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-cache, private"
    assert "Date" in answer.headers
    again = await stand.api(path, method, json=body)
    assert answer.json["requestid"] != again.json["requestid"]


@pytest.mark.parametrize(("method", "path", "body"), [(m, p, b) for m, p, b, _ in READS], ids=IDS)
async def test_without_a_token(stand: Stand, method: str, path: str, body: Any) -> None:
    answer = await stand.ask(f"/api/v2{path}", method, json=body)
    if path in FREE:
        assert answer.status == 200
        return
    assert (answer.status, answer.json) == (401, {"message": "Unauthenticated."})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


CONTENT_PATHS = [path for method, path, _, _ in READS if method == "GET" and path.startswith("/content/")]


@pytest.mark.parametrize("path", CONTENT_PATHS)
async def test_get_and_post_and_both_vocabularies_say_the_same(stand: Stand, path: str) -> None:
    plain, _, _ = path.partition("?")
    bodies = [
        {"language": "en", "destinations": ["TR"], "nationalities": ["DE"]},
        {"language": "en", "destinations": [{"destination": "tr", "type": "travel"}], "nationalities": "de"},
        {"lang": "en", "countries": "TR", "nat": "DE"},
    ]
    expected = (await stand.api(path)).json["records"]
    for body in bodies:
        assert (await stand.api(plain, "POST", json=body)).json["records"] == expected
    form = {"language": "en", "destinations[0][destination]": "TR", "nationalities[]": "DE"}
    assert (await stand.api(plain, "POST", data=form)).json["records"] == expected
    other = f"{plain}?language=en&destinations=TR&nationalities=DE"
    assert (await stand.api(other)).json["records"] == expected


PDFS = ["all", "country", "overview", "entry", "visa", "transit_visa", "health"]


@pytest.mark.parametrize("topic", PDFS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_pdfs(stand: Stand, topic: str, method: str) -> None:
    answer = await stand.api(f"/content/{topic}/pdf?{PAIR}", method)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pdf")
    assert answer.body.startswith(b"%PDF-1.4")
    assert answer.body.rstrip().endswith(b"%%EOF")
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    "path", [*CONTENT_PATHS, *(f"/content/{topic}/pdf?{PAIR}" for topic in PDFS), f"/information/search?{PAIR}"]
)
async def test_nothing_for_this_request(stand: Stand, path: str) -> None:
    answer = await stand.api(path.replace("=TR", "=XX"))
    assert (answer.status, answer.body) == (204, b"")


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
    assert answer.status == 422
    assert list(answer.json["errors"]) == [field]
    assert answer.json["message"] == answer.json["errors"][field][0]


@pytest.mark.parametrize("path", ["/travel-details/NONE", "/tour-operator/NONE"])
async def test_unknown_records(stand: Stand, path: str) -> None:
    answer = await stand.api(path)
    assert (answer.status, answer.json) == (404, {"message": "Not found."})


async def test_head_is_get_without_a_body(stand: Stand) -> None:
    answer = await stand.api("/languages", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 100
