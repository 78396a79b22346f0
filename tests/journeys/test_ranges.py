"""Ranges as a client of the whole daemon sees them: parts of a PDF, and JSON whole, since links in it are rewritten."""

from __future__ import annotations

from tests.journeys.conftest import Stand

PDF = "/api/v2/content/all/pdf?lang=en&countries={}&nat=DE"
JSON = "/api/v2/countries?limit=10&page=1"


def arrived(stand: Stand, country: str) -> int:
    return sum(f"countries={country}" in str(each) for each in stand.journal()["requests"])


def test_parts_of_a_stored_answer(shared_stand: Stand) -> None:
    target = PDF.format("TR")
    whole = shared_stand.get(target)
    assert whole.status == 200
    size = len(whole.body)
    part = shared_stand.get(target, Range="bytes=5-104")
    assert (part.status, part.body) == (206, whole.body[5:105])
    assert part.headers["content-range"] == f"bytes 5-104/{size}"
    assert "hit" in part.cache_status
    assert part.headers["accept-ranges"] == "bytes"
    tail = shared_stand.get(target, Range="bytes=-20", Accept_Encoding="gzip")
    assert (tail.status, tail.body) == (206, whole.body[-20:])
    several = shared_stand.get(target, Range="bytes=0-3,50-59")
    assert several.status == 206
    assert several.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert int(several.headers["content-length"]) == len(several.body)
    assert whole.body[50:60] in several.body
    beyond = shared_stand.get(target, Range=f"bytes={size}-")
    assert (beyond.status, beyond.headers["content-range"], beyond.body) == (416, f"bytes */{size}", b"")


def test_a_ranged_miss_fetches_the_whole_once(shared_stand: Stand) -> None:
    target = PDF.format("JP")
    part = shared_stand.get(target, Range="bytes=0-4")
    assert (part.status, part.body) == (206, b"%PDF-")
    whole = shared_stand.get(target)
    assert "hit" in whole.cache_status
    assert arrived(shared_stand, "JP") == 1


def test_json_comes_whole(shared_stand: Stand) -> None:
    whole = shared_stand.get(JSON)
    for ranges in ("bytes=0-9", "bytes=0-1,5-6", "bytes=9999999-"):
        answer = shared_stand.get(JSON, Range=ranges)
        assert (answer.status, answer.body) == (200, whole.body)
