"""curl, Python requests and Node's fetch as they are, against the running daemon."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import program
from tests.journeys.conftest import Stand

TARGET = "/api/v2/content/entry/html?lang=en&countries=TR&nat={nat}"
POSTED = "/api/v2/content/all/html"
BODY = {"language": "en", "destinations": [{"destination": "TR", "type": "travel"}], "nationalities": ["DE"]}

Run = Callable[..., dict[str, Any]]
"""Asks and tells {status, headers (lower case), text}."""


def with_curl(
    url: str, *, method: str = "GET", body: object = None, gzip: bool = False, close: bool = False
) -> dict[str, Any]:
    command = [program("curl"), "-sS", "-i", "--http1.1", "-X", method, url]
    command += ["--compressed", "-H", "Accept-Encoding: gzip"] if gzip else []
    command += ["-H", "Connection: close"] if close else []
    command += ["-H", "Content-Type: application/json", "--data", json.dumps(body)] if body is not None else []
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    head, _, text = done.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return {
        "status": int(first.split()[1]),
        "headers": {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)},
        "text": text.decode(),
    }


REQUESTS = """
import json, sys, requests
asked = json.loads(sys.argv[1])
session = requests.Session()
session.headers["Accept-Encoding"] = "gzip" if asked["gzip"] else "identity"
if asked["close"]:
    session.headers["Connection"] = "close"
for _ in range(asked["times"]):
    answer = session.request(asked["method"], asked["url"], json=asked["body"], timeout=30)
print(json.dumps({"status": answer.status_code, "headers": {k.lower(): v for k, v in answer.headers.items()}, "text": answer.text}))
"""

FETCH = """
const asked = JSON.parse(process.argv[1]);
const headers = {'Accept-Encoding': asked.gzip ? 'gzip' : 'identity'};
if (asked.close) headers['Connection'] = 'close';
if (asked.body !== null) headers['Content-Type'] = 'application/json';
let answer, text;
for (let turn = 0; turn < asked.times; turn++) {
  answer = await fetch(asked.url, {method: asked.method, headers, body: asked.body === null ? undefined : JSON.stringify(asked.body)});
  text = await answer.text();
}
console.log(JSON.stringify({status: answer.status, headers: Object.fromEntries(answer.headers), text}));
"""


def with_script(command: list[str]) -> Run:
    def run(
        url: str, *, method: str = "GET", body: object = None, gzip: bool = False, close: bool = False, times: int = 1
    ) -> dict[str, Any]:
        asked = {"url": url, "method": method, "body": body, "gzip": gzip, "close": close, "times": times}
        done = subprocess.run([*command, json.dumps(asked)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return run


@pytest.fixture(params=["curl", "requests", "fetch"])
def client(request: pytest.FixtureRequest) -> Run:
    if request.param == "curl":
        program("curl")
        return with_curl
    if request.param == "requests":
        return with_script([sys.executable, "-W", "ignore", "-c", textwrap.dedent(REQUESTS)])
    return with_script([program("node"), "--input-type=module", "-e", FETCH])


@pytest.mark.parametrize(("gzip", "close"), [(True, False), (False, True)], ids=["gzip-kept", "plain-closed"])
def test_get(shared_stand: Stand, client: Run, gzip: bool, close: bool) -> None:
    url = shared_stand.proxy + TARGET.format(nat="DE")
    first, second = client(url, gzip=gzip, close=close), client(url, gzip=gzip, close=close)
    assert first["status"] == second["status"] == 200
    assert json.loads(first["text"])["records"]
    assert first["text"] == second["text"]
    assert second["headers"]["cache-status"].startswith("passoproxy; hit")
    assert second["headers"]["age"].isdigit()


def test_post(shared_stand: Stand, client: Run) -> None:
    url = shared_stand.proxy + POSTED
    first, second = client(url, method="POST", body=BODY), client(url, method="POST", body=dict(reversed(BODY.items())))
    assert first["status"] == second["status"] == 200
    assert first["text"] == second["text"]
    assert "passoproxy; hit" in second["headers"]["cache-status"]


def test_a_problem_is_json(shared_stand: Stand, client: Run) -> None:
    answer = client(f"{shared_stand.proxy}/__internal/x")
    assert answer["status"] == 403
    assert answer["headers"]["content-type"].startswith("application/problem+json")
    assert json.loads(answer["text"])["code"] == "path_not_allowed"


@pytest.mark.parametrize("which", ["requests", "fetch"])
def test_many_on_one_connection(shared_stand: Stand, which: str) -> None:
    command = (
        [sys.executable, "-W", "ignore", "-c", REQUESTS]
        if which == "requests"
        else [program("node"), "--input-type=module", "-e", FETCH]
    )
    answer = with_script(command)(shared_stand.proxy + TARGET.format(nat="AT"), gzip=True, times=50)
    assert answer["status"] == 200
    assert "hit" in answer["headers"]["cache-status"]
