"""What the models refuse, as a person reads it."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import BaseModel, ValidationError

from passoproxy.config.faults import explain
from passoproxy.config.sources import Layer
from tests.config.writing import LEAST, Folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upstream: {max_concurency: 4}", "upstream.max_concurency: is not a known key; did you mean max_concurrency?"),
        ("upstream: {listen: 4}", "upstream.listen: is not a known key; did you mean server.listen?"),
        ("routes: [{match: /x}]", "routes[0].name: is missing; add 'name: ...'"),
        (
            "upstream: {read_timeout: }",
            "upstream.read_timeout: is empty; give a value, or remove the line for the default",
        ),
        ("log: {level: trace}", "log.level: 'trace' is not known here; write debug, info, warning or error"),
        (
            "log: {level: INFO}",
            "log.level: 'INFO' is not known here; did you mean info? Valid: debug, info, warning or error",
        ),
        (
            "oauth: {client_id: abc, client_secret_file: secret, scope: 5}",
            "oauth.scope: 5 is not text; put it into quotes",
        ),
        ("upstream: {user_agent: [a]}", "upstream.user_agent: a list is not text; write one text"),
        (
            "cache: {shared: 'yes'}",
            "cache.shared: 'yes' is neither true nor false; write true or false, without quotes",
        ),
        (
            "upstream: {max_connections: '3'}",
            "upstream.max_connections: '3' is not a whole number; write digits without quotes",
        ),
        (
            "upstream: {max_connections: 2.5}",
            "upstream.max_connections: 2.5 is not a whole number; write digits without quotes",
        ),
        ("server: {workers: 0}", "server.workers: 0 is too small; write 1 or more"),
        ("server: {workers: 999}", "server.workers: 999 is too large; write 256 or less"),
        ("upstream: {allow_methods: GET}", "upstream.allow_methods: 'GET' is not a list; write [GET]"),
        ("routes: {a: 1}", "routes: a mapping is not a list; write [a, b]"),
        (
            "log: verbose",
            "log: 'verbose' is not a mapping; indent its keys below it; valid here: level, format, access, query",
        ),
        (
            "server: {allowed_peers: [10.0.0.5/8]}",
            "server.allowed_peers[0]: '10.0.0.5/8' is no network: it has bits beyond the prefix; write 10.0.0.0/8",
        ),
        (
            "admin: {token: [planted]}",
            "admin.token: is not text; put the secret in quotes, or better in a file that the _file key names",
        ),
        (
            "alerts: {command: 5}",
            "alerts.command: 5 is not a command; write a path, or a list of program and arguments",
        ),
        (
            "oauth: {client_id: abc, client_secret_file: secret, lost_answer_replay: [5]}",
            "oauth.lost_answer_replay: a list is not known here; write never, once, always, or a grace period such as 30s",
        ),
    ],
)
def test_the_whole_line(folder: Folder, text: str, said: str) -> None:
    start = "" if text.startswith("oauth") else LEAST
    assert folder.fault(f"{start}{text}\n") == f"c.yaml:{2 if start else 1}: {said}"


def test_what_pydantic_says_in_its_own_words_is_passed_on_with_the_value() -> None:
    class Odd(BaseModel):
        scope: date

    with pytest.raises(ValidationError) as raised:
        Odd.model_validate({"scope": "soon"})
    error = ValidationError.from_exception_data(
        "Settings", [{"type": "date_type", "loc": ("oauth", "scope"), "input": raised.value.errors()[0]["input"]}]
    )
    ((path, fault),) = explain(error, Layer()).items()
    assert (fault.key, path) == ("oauth.scope", ("oauth", "scope"))
    assert fault.problem == "'soon' is not valid here: input should be a valid date"
