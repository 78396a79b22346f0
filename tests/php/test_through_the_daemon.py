"""The whole daemon, which lets nothing but GET and POST through, in front of PHP: nothing that a client sends is another method there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.journeys.conftest import Stand, ask, environment
from tests.php.bodies import BODIES, DELETE, FORM, MEANT
from tests.php.origin import php


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("php")
    made = Stand(folder, environment(folder))
    token = folder / "token"
    token.write_text("static-token\n")
    token.chmod(0o600)
    with php() as port:
        made.configure(
            provider="custom",
            upstream={"url": f"http://127.0.0.1:{port}", "allow_methods": ["GET", "POST"]},
        )
        made.settings["oauth"] = {"grant": "static", "static_token_file": str(token)}
        made.configure(**made.settings)
        try:
            made.start_daemon(ready=True)
            yield made
        finally:
            made.end()


@pytest.mark.parametrize("name", [name for name, (_, _, method) in BODIES.items() if method == DELETE])
def test_no_body_makes_a_post_another_method(daemon: Stand, name: str) -> None:
    content_type, body, _ = BODIES[name]
    answer = ask(daemon.port, "/", "POST", {"Content-Type": content_type}, body)
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert "_method" in answer.json["detail"]
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("name", MEANT)
def test_what_honest_clients_send_arrives(daemon: Stand, name: str) -> None:
    content_type, body = MEANT[name]
    answer = ask(daemon.port, "/", "POST", {"Content-Type": content_type} if content_type else {}, body)
    assert (answer.status, answer.json["method"]) == (200, "POST")


@pytest.mark.parametrize(
    "query",
    ["_method=DELETE", "a&_method%00=DELETE", "%20_m%65thod=delete", ".method=DELETE", "a=b&_method%00x%3D=DELETE"],
)
def test_no_query_does(daemon: Stand, query: str) -> None:
    assert ask(daemon.port, f"/?{query}", "POST", body=b"").status == 405


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-HTTP-Method-Override", "DELETE"),
        ("X_HTTP_METHOD_OVERRIDE", "DELETE"),
        ("X-HTTP_Method-Override", "DELETE"),
        ("Content_Type", "application/json"),
        ("content_type", FORM),
    ],
)
def test_no_field_of_the_head_does(daemon: Stand, name: str, value: str) -> None:
    for body in (
        b'{"_method": "GET"}',
        b"_method=GET",
    ):  # GET may pass: so that it does not arrive shows that the field is gone
        answer = ask(daemon.port, "/", "POST", {"Content-Type": "text/plain", name: value}, body)
        assert answer.json["method"] == "POST"


@pytest.mark.parametrize("method", ["DELETE", "TRACE", "CONNECT", "delete", "post"])
def test_other_methods_do_not_pass(daemon: Stand, method: str) -> None:
    assert ask(daemon.port, "/", method).status == 405
