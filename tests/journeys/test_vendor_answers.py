"""What the real service is known to answer, and its breakages: passed on as they are, or told as what they are."""

from __future__ import annotations

import json
import time

import pytest

from tests.journeys.conftest import Stand, ask, until

ENTRY = "/api/v2/content/entry/html?lang=en&countries={}&nat=DE"


def test_204_nothing_for_this_request(shared_stand: Stand) -> None:
    first, second = shared_stand.get(ENTRY.format("XX")), shared_stand.get(ENTRY.format("XX"))
    assert first.status == second.status == 204
    assert first.body == second.body == b""
    assert "hit" in second.cache_status


def test_pdf_passes_byte_for_byte(shared_stand: Stand) -> None:
    target = "/api/v2/content/all/pdf?lang=en&countries=TR&nat=DE"
    first, second = shared_stand.get(target), shared_stand.get(target, Accept_Encoding="gzip")
    assert first.headers["content-type"] == "application/pdf"
    assert first.body.startswith(b"%PDF-")
    assert first.body == second.body
    assert "content-encoding" not in second.headers
    assert "hit" in second.cache_status
    part = shared_stand.get(target, Range="bytes=5-104")
    assert (part.status, part.body, "hit" in part.cache_status) == (206, first.body[5:105], True)


def test_json_comes_whole_as_its_links_are_rewritten(shared_stand: Stand) -> None:
    target = "/api/v2/countries?limit=10&page=1"
    whole = shared_stand.get(target)
    for ranges in ("bytes=0-9", "bytes=0-1,5-6", "bytes=9999999-"):
        answer = shared_stand.get(target, Range=ranges)
        assert (answer.status, answer.body) == (200, whole.body)


def test_404_and_422_reach_the_client(shared_stand: Stand) -> None:
    unknown = shared_stand.get("/api/v2/no-such-resource")
    assert unknown.status == 404
    assert "message" in unknown.json
    wrong = shared_stand.get("/api/v2/content/entry/html?lang=xx&countries=TR&nat=DE")
    assert wrong.status == 422
    assert "message" in wrong.json
    assert "stored" not in wrong.cache_status


def test_401_leads_to_one_refresh_and_one_replay(stand: Stand) -> None:
    stand.begin()
    stand.fault("origin_401:1")
    answer = stand.get(ENTRY.format("TR"))
    assert answer.status == 200, answer
    assert len(stand.refreshes()) == 1
    assert sum(each["path"].startswith("/api/v2/content/entry") for each in stand.journal()["requests"]) == 2


def test_a_second_401_is_the_clients_and_refreshes_are_not_repeated(stand: Stand) -> None:
    stand.begin()
    stand.fault("origin_401")
    for country in ("TR", "ZA", "AE", "US"):
        assert stand.get(ENTRY.format(country)).status == 401
    assert len(stand.refreshes()) <= 2
    stand.fault()
    assert until(lambda: stand.get(ENTRY.format("TR")).status == 200)


def test_429_with_and_without_retry_after(stand: Stand) -> None:
    stand.begin("--quota", "2")
    stored = stand.get(ENTRY.format("TR"))
    assert stored.status == 200
    stand.get(ENTRY.format("ZA"))
    refused = stand.get(ENTRY.format("AE"))
    assert refused.status == 429
    assert refused.json["message"]
    assert "hit" in stand.get(ENTRY.format("TR")).cache_status


def test_429_of_the_concurrency_limit_carries_retry_after(shared_stand: Stand) -> None:
    shared_stand.fault("origin_429:1")
    refused = shared_stand.get(ENTRY.format("FR"))
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert until(lambda: shared_stand.get(ENTRY.format("FR")).status == 200)


def test_500_with_html_is_passed_on_and_not_stored(shared_stand: Stand) -> None:
    shared_stand.fault("origin_5xx:1")
    answer = shared_stand.get(ENTRY.format("ES"))
    assert answer.status == 500
    assert answer.headers["content-type"].startswith("text/html")
    assert shared_stand.get(ENTRY.format("ES")).status == 200


def test_a_body_cut_off_midway_is_visibly_broken_and_never_stored(shared_stand: Stand) -> None:
    for fault, country in (("origin_truncated:1", "IT"), ("origin_reset_midbody:1", "GR")):
        shared_stand.fault(fault)
        cut = shared_stand.get(ENTRY.format(country))
        assert cut.broken or cut.status in (0, 502), (fault, cut)
        whole = shared_stand.get(ENTRY.format(country))
        assert whole.status == 200
        assert "fwd=" in whole.cache_status
        assert json.loads(whole.body)["records"]


def test_paging_stays_with_the_proxy(shared_stand: Stand) -> None:
    target, seen = "/api/v2/countries?limit=10&page=1", 0
    while target:
        page = shared_stand.get(target)
        assert page.status == 200
        seen += len(page.json["data"])
        following = page.json["links"]["next"]
        assert following is None or following.startswith(shared_stand.proxy)
        target = following.removeprefix(shared_stand.proxy) if following else ""
    assert seen >= 40


def test_nothing_of_the_client_reaches_the_origin_that_must_not(shared_stand: Stand) -> None:
    ask(
        shared_stand.port,
        "/api/v2/countries?planted=1",
        headers={
            "Authorization": "Bearer theirs",
            "Cookie": "a=b",
            "X-Forwarded-For": "1.2.3.4",
            "Forwarded": "for=1.2.3.4",
            "TE": "trailers",
        },
    )
    sent = [each for each in shared_stand.journal()["requests"] if "planted" in json.dumps(each)][-1]
    headers = {name.lower(): value for name, value in dict(sent["headers"]).items()}
    assert not {"cookie", "x-forwarded-for", "forwarded", "te"} & set(headers)
    assert sent["token_valid"] is True
    assert headers["via"] == "1.1 passoproxy"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one process", "workers", "a follower"])
def test_a_path_that_always_answers_401_costs_one_refresh(stand: Stand, kind: str) -> None:
    """One in all processes, though three would fit into the time by the bound that holds over all paths."""
    lifetime = 30.0
    server = {"listen": f"127.0.0.1:{stand.port}", "workers": 2 if kind == "workers" else 1}
    stand.configure(server=server, oauth={**stand.settings["oauth"], "refresh_at": 0.9})
    stand.start_sandbox("--lifetime", f"{lifetime:g}s")
    stand.start_daemon()
    ports = [stand.port]
    if kind == "a follower":
        other = stand.follower()
        other.start_daemon()
        ports.append(other.port)
    stand.login()
    stand.fault("origin_401")
    end = time.monotonic() + lifetime / 4
    while time.monotonic() < end:
        for port in ports:
            assert ask(port, ENTRY.format("TR")).status == 401
        time.sleep(0.05)
    assert len(stand.refreshes()) == 1
