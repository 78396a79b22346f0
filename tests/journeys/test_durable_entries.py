"""What was answered two seconds ago is on disk (contract §7): a daemon that is killed then has it after its restart."""

from __future__ import annotations

import signal
import time

from tests.journeys.conftest import Stand

HEALTH = "/api/v2/content/health/json?lang=en&countries=ZA"
SECONDS = 2.0


def test_an_entry_outlives_a_kill_two_seconds_later(stand: Stand) -> None:
    stand.begin()
    answered = stand.get(HEALTH)
    time.sleep(SECONDS)
    stand.stop_daemon(signal.SIGKILL)
    stand.start_daemon()
    again = stand.get(HEALTH)
    assert again.cache_status.startswith("passoproxy; hit")
    assert again.body == answered.body
