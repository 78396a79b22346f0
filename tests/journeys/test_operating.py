"""The cache operated from a shell, against processes of their own: filling with a pause and a stop in the midst, explaining, soft purges."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.journeys.conftest import Stand, until

COUNTRIES = ["TR", "ZA", "AE", "US", "JP", "TH", "EG", "BR"]
LANGUAGES = ["en", "de", "fr", "es"]


def target(country: str, language: str = "en") -> str:
    return f"/api/v2/content/health/json?lang={language}&countries={country}"


def wanted(folder: Path, targets: list[str]) -> str:
    path = folder / "wanted.txt"
    path.write_text("# what travellers ask for\n" + "\n".join(targets) + "\n")
    return str(path)


def content_requests(stand: Stand) -> list[Any]:
    return [each for each in stand.journal()["requests"] if "/content/" in each["path"]]


def begun(stand: Stand, *options: str) -> None:
    stand.begin(*options)


def test_a_file_is_fetched_with_less_than_max_concurrency_and_through_a_429(stand: Stand) -> None:
    begun(stand, "--latency", "20ms", "--concurrency", "3")  # a fourth one at once would be refused
    targets = [target(country) for country in COUNTRIES]
    file = wanted(stand.folder, targets)
    stand.fault("origin_429:1")
    said = stand.run("cache", "warm", file)
    assert (said.returncode, said.stdout) == (0, f"{len(targets)} fetched, 0 fresh already, 0 failed\n"), said.stderr
    assert len(content_requests(stand)) <= len(targets) + 1
    assert all("hit" in stand.get(each).cache_status for each in targets)
    again = stand.run("cache", "warm", file)
    assert again.stdout == f"0 fetched, {len(targets)} fresh already, 0 failed\n"
    assert len(content_requests(stand)) <= len(targets) + 1


def test_ctrl_c_stops_it_and_a_second_run_goes_on(stand: Stand) -> None:
    begun(stand, "--latency", "300ms")  # all of them take seconds: long enough to be stopped in the midst
    targets = [target(country, language) for country in COUNTRIES[:4] for language in LANGUAGES]
    file = wanted(stand.folder, targets)
    first = stand.start("cache", "warm", file, "--config", str(stand.config))
    assert until(lambda: len(content_requests(stand)) >= 4)
    first.send(signal.SIGINT)
    assert first.wait(60) == 130
    assert "Run it again to go on" in first.said
    second = stand.run("cache", "warm", file)
    assert second.returncode == 0, second.stderr
    fetched, fresh = int(second.stdout.split()[0]), int(second.stdout.split()[2])
    assert fetched + fresh == len(targets)
    assert fresh >= 1
    # what was under way at the stop was stored all the same, or is asked for once more
    assert len(content_requests(stand)) <= len(targets) + 3


def test_an_operator_s_day(stand: Stand) -> None:
    begun(stand)
    at = ("--config", str(stand.config))
    assert stand.get(target("TR")).status == 200
    explained = stand.run("explain", "GET", target("TR"), *at)
    assert explained.stdout.startswith("hit")
    before = len(content_requests(stand))
    assert stand.run("explain", "GET", target("ZA"), *at).stdout.startswith("miss")
    assert len(content_requests(stand)) == before
    assert stand.run("cache", "purge", "--tag", "content-health", "--soft", *at).stdout == "1 entry made stale\n"
    assert stand.stop_daemon() == 0
    stopped = stand.run("explain", "GET", target("TR"), *at)
    assert (stopped.returncode, stopped.stdout.split()[0]) == (0, "hit"), stopped.stderr
    assert "a soft purge ended its freshness" in stopped.stdout
    stand.fault("origin_5xx")
    stand.start_daemon(ready=True)
    assert "detail=STALE_REVALIDATING" in stand.get(target("TR")).cache_status
    status = stand.run("status", *at)
    assert "change probe" in status.stdout
    assert stand.run("cache", "warm", wanted(stand.folder, [target("TR")]), *at).returncode == 1
