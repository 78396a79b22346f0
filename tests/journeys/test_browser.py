"""The status page in a real Chromium: its policy lets its own styles and script work, and the link of `passoproxy page` opens a session."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import program
from tests.journeys.conftest import Stand

PATIENCE = 90  # seconds that a browser may take on a busy machine


def opened(url: str, folder: Path) -> tuple[str, list[str]]:
    """The page after some ten seconds of the browser's time, in which it fetched itself anew; and what its console said."""
    command = [
        *("timeout", "-k", "5", str(PATIENCE), program("chromium"), "--headless", "--no-sandbox", "--disable-gpu"),
        "--disable-dev-shm-usage",  # it is small in containers
        *(f"--user-data-dir={folder}", "--enable-logging=stderr", "--virtual-time-budget=11000", "--dump-dom", url),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE + 10)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.needs_ci
def test_the_page_in_a_browser(stand: Stand) -> None:
    stand.begin()
    link = stand.run("page", "--print").stdout.strip()

    for url, has_session in ((stand.admin, False), (link, True)):
        page, console = opened(url, stand.folder / f"browser-{has_session}")
        assert not console
        assert 'id="live"' in page
        assert not re.search(r"<body[^>]*gone", page), "the page could not fetch itself"
        assert bool(re.search(r'name="page_token" value="\S+"', page)) is has_session
