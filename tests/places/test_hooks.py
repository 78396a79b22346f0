"""The ready hooks of deploy/hooks: each gets what the daemon sends, by the daemon's own way, with a stand-in for the program or service behind it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_string
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from passoproxy.core.oauth.snapshot import UNTOLD
from passoproxy.errors import AlertUndelivered
from passoproxy.telemetry.alerts import CommandHook, alert
from tests.conftest import program

FOLDER = Path("deploy/hooks").absolute()
BEGAN = 1_700_000_000.0
DEAD = replace(
    UNTOLD,
    chain="dead",
    access="valid",
    reason="the provider refuses the refresh token <&>",
    runway_seconds=0.0,
    access_until=BEGAN + 3600,
    remedy="run 'passoproxy login'",
    link="http://127.0.0.1:8611/",
)
SECRET = "T0KEN-planted"


def message(level: str, event: str | None = None) -> bytes:
    reason = "the pair is safe\r\nX-Forged: yes" if level == "recovered" else ""
    return alert(level, DEAD, "here", "1", BEGAN, event, reason)


@pytest.fixture
def called(tmp_path: Path) -> Path:
    """A folder of stand-ins for programs, each of which leaves its arguments and its input beside it."""
    for name in ("sendmail", "msmtp", "systemd-cat"):
        path = tmp_path / name
        path.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/{name}.arguments\ncat >> {tmp_path}/{name}.input\n'
        )
        path.chmod(0o700)
    return tmp_path


async def bring(folder: Path, document: bytes, name: str, *arguments: str, **environ: str) -> str:
    path = f"{folder}:{os.environ['PATH']}"
    return await CommandHook([str(FOLDER / name), *arguments], environ={"PATH": path, **environ}).deliver(document)


class Service(ThreadingHTTPServer):
    """Keeps the JSON that it is sent; answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 202
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(server.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/{SECRET}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


async def test_mail(called: Path) -> None:
    for level in ("page", "recovered", "test"):
        await bring(called, message(level), "mail.py", "ops@example.com", "dev@example.com")
    first, second, third = (called / "sendmail.input").read_text().split("To: ")[1:]
    mail = message_from_string(f"To: {first}")
    assert mail["To"] == "ops@example.com, dev@example.com"
    assert mail["Subject"] == "passoproxy on here: page: the provider refuses the refresh token <&>"
    assert re.search(r"^remedy: +run 'passoproxy login'$", str(mail.get_payload()), re.MULTILINE)
    again = message_from_string(f"To: {second}")
    assert (again["References"], again["X-Forged"]) == (mail["References"], None)  # one thread
    assert message_from_string(f"To: {third}")["References"] is None
    words = {"SENDMAIL": "msmtp -t", "MAIL_FROM": "passoproxy@example.com"}
    await bring(called, message("event", "login"), "mail.py", "ops@example.com", **words)
    assert (called / "msmtp.arguments").read_text() == "-t\n"
    assert "From: passoproxy@example.com\n" in (called / "msmtp.input").read_text()


async def test_mail_that_is_not_taken_is_a_failed_alert(called: Path) -> None:
    for mta, said in (
        ("false", "ended with 1"),
        ("/nowhere/mta -t", r"/nowhere/mta cannot be started .* set \$SENDMAIL"),
    ):
        with pytest.raises(AlertUndelivered, match=said):
            await bring(called, message("page"), "mail.py", "ops@example.com", SENDMAIL=mta)


async def test_slack(called: Path, service: Service) -> None:
    key = called / "url"
    key.write_text(f"{service.url}\n")
    assert await bring(called, message("page"), "slack.py", str(key)) == "ended with 0; it said: posted"
    text = service.got[0]["text"]
    assert text.splitlines() == [
        ":rotating_light: *passoproxy on here: page*",
        "the provider refuses the refresh token &lt;&amp;&gt;",
        "What to do: run 'passoproxy login'",
        "A person is needed by 2023-11-14T23:13:20Z.",
        "http://127.0.0.1:8611/",
    ]
    await bring(called, message("event", "login"), "slack.py", str(key))
    assert "*passoproxy on here: login*" in service.got[1]["text"]
    service.status = 500
    with pytest.raises(AlertUndelivered, match="Slack answered 500") as failed:
        await bring(called, message("page"), "slack.py", str(key))
    assert SECRET not in str(failed.value)
    key.write_text(f"nonsense-{SECRET}")
    with pytest.raises(AlertUndelivered, match="cannot be reached") as failed:
        await bring(called, message("page"), "slack.py", str(key))
    assert SECRET not in str(failed.value)


async def test_pagerduty_has_one_incident_from_the_first_level_to_the_recovery(called: Path, service: Service) -> None:
    key = called / "key"
    key.write_text(f"{SECRET}\n")
    for level in ("notify", "page", "recovered"):
        await bring(called, message(level), "pagerduty.py", str(key), "shop", PAGERDUTY_URL=service.url)
    assert [(each["event_action"], each["dedup_key"]) for each in service.got] == [
        *[("trigger", "shop 2023-11-14T22:13:20Z")] * 2,
        ("resolve", "shop 2023-11-14T22:13:20Z"),
    ]
    assert [each["payload"]["severity"] for each in service.got[:2]] == ["warning", "critical"]
    page = service.got[1]
    assert (page["routing_key"], page["payload"]["source"]) == (SECRET, "here")
    assert page["payload"]["summary"].startswith("shop: the provider refuses the refresh token")
    assert page["links"] == [{"href": "http://127.0.0.1:8611/", "text": "status page"}]
    await bring(called, message("test"), "pagerduty.py", str(key), PAGERDUTY_URL=service.url)
    assert [each["event_action"] for each in service.got[3:]] == ["trigger", "resolve"]
    service.status = 429
    with pytest.raises(AlertUndelivered, match="PagerDuty answered 429"):
        await bring(called, message("page"), "pagerduty.py", str(key), PAGERDUTY_URL=service.url)


async def test_journal(called: Path) -> None:
    left = called / "alert.json"
    for level, event in (("notify", None), ("recovered", None), ("event", "dead"), ("event", "refresh")):
        await bring(called, message(level, event), "journal.sh", str(left))
    assert not left.exists()
    await bring(called, message("page"), "journal.sh", str(left))
    assert left.read_bytes() == message("page")
    priorities = [line.rpartition(" ")[2] for line in (called / "systemd-cat.arguments").read_text().splitlines()]
    assert priorities == ["warning", "info", "warning", "info", "crit"]
    assert (called / "systemd-cat.input").read_bytes().endswith(message("page"))


def test_the_shell_is_plain() -> None:
    done = subprocess.run([program("shellcheck"), *map(str, FOLDER.glob("*.sh"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_systemd_finds_no_fault() -> None:
    units = [str(each) for each in sorted(FOLDER.glob("*.path")) + sorted(FOLDER.glob("*.service"))]
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "passoproxy" in line]) == (0, [])


def test_the_page_names_each_of_them_with_a_command_that_is_one() -> None:
    page = (FOLDER / "README.md").read_text()
    rows = re.findall(r"^\| \[([\w.]+)\]\(\1\) \| `([^`]+)`", page, re.MULTILINE)
    assert [name for name, _ in rows] == ["mail.py", "slack.py", "pagerduty.py", "journal.sh"]
    for name, command in rows:
        assert Path(yaml.safe_load(command)[0]).name == name
        assert os.access(FOLDER / name, os.X_OK)
    assert shlex.split('/usr/local/lib/passoproxy/slack.py "$CREDENTIALS_DIRECTORY/slack_url"')[0] in page
