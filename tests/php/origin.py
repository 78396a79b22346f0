"""PHP's own server as an origin."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import program
from tests.journeys.conftest import until
from tests.ports import free_port

ROUTER = Path(__file__).with_name("router.php")


def post(port: int, content_type: str, body: bytes, target: str = "/") -> dict[str, str]:
    """What the origin says of a POST; `{}` where it was refused on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        fields = {"Content-Type": content_type} if content_type else {}
        connection.request("POST", target, body, fields)
        answer = connection.getresponse()
        found = answer.read()
    return dict(json.loads(found)) if answer.status == 200 else {}


@contextlib.contextmanager
def php() -> Iterator[int]:
    """The port of a running PHP; skips where there is none."""
    command = [program("php"), "-d", "display_errors=0", "-d", "log_errors=0", "-d", "max_input_vars=2000"]
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "-S", f"127.0.0.1:{port}", str(ROUTER)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            assert until(lambda: answers(port))
            yield port
        finally:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    try:
        return post(port, "", b"") != {}
    except OSError:
        return False
