"""The table of bodies against PHP itself: it says the truth, nothing in it passes, and nor does what chance makes of it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from passoproxy.core.access import Admission, AdmissionPolicy
from passoproxy.core.http.messages import fields_of
from passoproxy.errors import MethodNotAllowed
from tests.php.bodies import BODIES, DELETE
from tests.php.origin import php, post

NO_DELETE = Admission(AdmissionPolicy(allow_methods=("GET", "POST")))


@pytest.fixture(scope="module")
def origin() -> Iterator[int]:
    with php() as port:
        yield port


def is_refused(content_type: str, body: bytes) -> bool:
    try:
        NO_DELETE.post(fields_of([("Content-Type", content_type)] if content_type else []), body)
    except MethodNotAllowed:
        return True
    return False


@pytest.mark.parametrize("name", BODIES)
def test_the_table_says_what_php_says(origin: int, name: str) -> None:
    content_type, body, method = BODIES[name]
    assert post(origin, content_type, body)["method"] == method


@pytest.mark.parametrize("seed", range(4))
def test_what_chance_makes_of_the_table_does_not_pass(origin: int, seed: int) -> None:
    chance = random.Random(seed)
    met = 0
    for _ in range(150):
        content_type, body = mutated(chance)
        if post(origin, content_type, body).get("method") == DELETE:
            met += 1
            assert is_refused(content_type, body), (content_type, body)
    assert met >= 30


SPLINTERS = [
    b"\0",
    b"\r\n",
    b"\n",
    b" ",
    b"\t",
    b";",
    b'"',
    b"'",
    b"\\",
    b"=",
    b":",
    b"\r",
    b"\v",
    b"--b",
    b"%00",
    b"&",
    b"name=",
    b"\r\n\r\n",
]


def mutated(chance: random.Random) -> tuple[str, bytes]:
    """A body of the table with up to three splinters in or in the place of some bytes."""
    content_type, body, _ = chance.choice(
        [each for each in BODIES.values() if each[2] == DELETE and len(each[1]) < 1000]
    )
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(body))
        body = body[:at] + chance.choice(SPLINTERS) + body[at + chance.randrange(3) :]
    return content_type, body
