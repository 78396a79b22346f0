"""Login links: once, and for half a minute."""

from tests.sandbox.conftest import Stand


async def test_a_link_logs_in_once(stand: Stand) -> None:
    answer = (await stand.api("/auth/login/generate_link?page=/trips&username=a%26b@c.example")).json
    assert answer["username"] == "a&b@c.example"
    assert answer["link"]["token"] in answer["link"]["url"]
    assert answer["link"]["url"].startswith(stand.sandbox.base_url)
    opened = await stand.ask(answer["link"]["url"])
    assert (opened.status, "a&amp;b@c.example" in opened.text) == (200, True)
    assert (await stand.ask(answer["link"]["url"])).status == 410


async def test_a_link_is_good_for_30_seconds(stand: Stand) -> None:
    link = (await stand.api("/auth/login/generate_link")).json
    assert link["username"] == "agent@sandbox.example"
    await stand.clock.advance(30)
    assert (await stand.ask(link["link"]["url"])).status == 410


async def test_memory_of_links_is_bounded(stand: Stand) -> None:
    first = (await stand.api("/auth/login/generate_link")).json["link"]["url"]
    for _ in range(1000):
        await stand.api("/auth/login/generate_link")
    assert (await stand.ask(first)).status == 410
