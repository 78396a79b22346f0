"""How answers look: PHP's JSON, gzip, validators."""

import gzip
import json

import pytest

from passoproxy.sandbox.origin.responses import php_json, takes_gzip
from tests.sandbox.conftest import Stand, Started

PATH = "/content/all/html?lang=de&countries=TR&nat=DE"


def test_json_as_php_writes_it() -> None:
    assert php_json({"a": "http://x/ü", "b": None}) == b'{"a":"http:\\/\\/x\\/\\u00fc","b":null}'


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("*", True),
        ("identity", False),
    ],
)
def test_what_takes_gzip(accepted: str, takes: bool) -> None:
    assert takes_gzip(accepted) is takes


async def test_gzip_where_the_client_takes_it(stand: Stand) -> None:
    stand.session._auto_decompress = False
    coded = await stand.api(PATH, headers={"Accept-Encoding": "gzip"})
    plain = await stand.api(PATH, headers={"Accept-Encoding": "identity"})
    assert (coded.headers["Content-Encoding"], coded.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert ("Content-Encoding" in plain.headers, plain.headers["Vary"]) == (False, "Accept-Encoding")
    assert int(coded.headers["Content-Length"]) == len(coded.body) < len(plain.body) / 2
    assert json.loads(gzip.decompress(coded.body))["records"] == plain.json["records"]
    assert len(plain.body) > 3000


async def test_small_answers_are_not_coded(stand: Stand) -> None:
    answer = await stand.api("/health", headers={"Accept-Encoding": "gzip"})
    assert not {"Content-Encoding", "Vary"} & set(answer.headers)


async def test_there_are_no_validators_by_default(stand: Stand) -> None:
    answer = await stand.api(PATH)
    assert not {"ETag", "Last-Modified", "Expires"} & set(answer.headers)


async def test_validators_by_option_stand_for_what_is_stable(started: Started) -> None:
    stand = await started(validators=True)
    first = await stand.api(PATH)
    tag = first.headers["ETag"]
    assert tag.startswith('W/"')
    known = await stand.api(PATH, headers={"If-None-Match": f'"x", {tag}'})
    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", tag)
    assert (await stand.api(PATH, headers={"If-None-Match": '"x"'})).status == 200
    assert (await stand.api(PATH, headers={"If-None-Match": "*"})).status == 304
    assert "ETag" not in (await stand.api("/content/all/html")).headers
    stand.sandbox.changes.mark(["TR"], important=True)
    assert (await stand.api(PATH, headers={"If-None-Match": tag})).status == 200
    assert "ETag" in (await stand.api(PATH.replace("html", "pdf"))).headers
    assert "ETag" in (await stand.api("/account/subscription")).headers
