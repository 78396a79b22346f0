"""The first page."""

import re

from tests.sandbox.conftest import Stand, Started


async def test_it_tells_how_to_log_in_and_its_links_lead_somewhere(stand: Stand) -> None:
    answer = await stand.ask("/")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<script" not in answer.text
    assert f"{stand.sandbox.base_url}/oauth/token" in answer.text
    links = re.findall(r'href="(/[^"]*)"', answer.text)
    assert len(links) >= 4
    for link in links:
        assert (await stand.ask(link.replace("&amp;", "&"))).status == 200, link


async def test_it_shows_armed_faults(started: Started) -> None:
    stand = await started(faults=("refresh_lost:3", "origin_slow"))
    page = (await stand.ask("/")).text
    assert "armed, 3 left" in page
    assert "armed, until switched off" in page


async def test_a_secret_of_ones_own_is_not_shown(started: Started) -> None:
    stand = await started(client_secret="my-own", redirect_uris=("https://app.example/back",))
    page = (await stand.ask("/")).text
    assert "my-own" not in page
    assert "https%3A%2F%2Fapp.example%2Fback" in page


async def test_a_hostile_host_is_escaped(stand: Stand) -> None:
    page = (await stand.ask("/", headers={"Host": '"><i>x'})).text
    assert "<i>x" not in page
