"""Requirements as the origin answers them: pairs, languages, filters, extras, destinations."""

from typing import Any

from tests.sandbox.conftest import Stand


async def records(stand: Stand, path: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await stand.api(path, **more)).json["records"]
    return found


async def test_a_record_for_each_pair_in_the_order_asked(stand: Stand) -> None:
    found = await records(stand, "/content/all/text?lang=en&countries=ZA,XX,TR&nat=AT,DE")
    assert [(each["destination"], each["nationality"]) for each in found] == [
        ("ZA", "AT"),
        ("ZA", "DE"),
        ("TR", "AT"),
        ("TR", "DE"),
    ]
    sections = {"overview", "entry", "visa", "transit_visa", "health", "final_provisions"}
    assert set(found[0]) == {"destination", "destination_type", "nationality", "title"} | sections
    assert found[0]["title"] == "South Africa / Austria"
    assert set(found[0]["entry"]) == {"language", "title", "content", "updated_at"}
    assert set(found[0]["overview"]) == {"language", "title", "content"}
    assert "not for travel decisions" in found[0]["final_provisions"]["content"]


async def test_pairs_differ_and_say_the_same_every_time(stand: Stand) -> None:
    path = "/content/visa/text?lang=en&countries=US,TR,IN,DE&nat=DE,IN,US"
    found = await records(stand, path)
    assert len({each["content"] for each in found}) > 8
    assert found == await records(stand, path)


async def test_languages(stand: Stand) -> None:
    for asked, language, title in (
        ("&lang=de", "DE", "Einreise"),
        ("&lang=en", "EN", "Entry"),
        ("&lang=fr", "FR", "Entrée"),
        ("&lang=es", "ES", "Entrada"),
        ("&lang=EN", "EN", "Entry"),
        ("", "DE", "Einreise"),
        ("&lang=it", "EN", "Entry"),
    ):
        (record,) = await records(stand, f"/content/entry/html?countries=TR&nat=DE{asked}")
        assert (record["language"], record["title"], record["content"][:3]) == (language, title, "<p>")


async def test_html_and_text_forms(stand: Stand) -> None:
    html = (await records(stand, "/content/all/html?lang=en&countries=TR&nat=DE"))[0]
    text = (await records(stand, "/content/all/text?lang=en&countries=TR&nat=DE"))[0]
    assert html["overview"]["content"].startswith("<ul><li>")
    assert "<" not in text["overview"]["content"] + text["entry"]["content"]


async def test_too_many_pairs_are_refused(stand: Stand) -> None:
    codes = ",".join(f"{a}{b}" for a in "ABCDE" for b in "ABCDEFGHIJK")
    for path in ("content/all/text", "information/search"):
        answer = await stand.api(f"/{path}?countries={codes}&nat=DE,AT")
        assert answer.status == 422
        assert "100 pairs" in answer.json["message"]


async def test_filters_leave_records_out(stand: Stand) -> None:
    body: dict[str, Any] = {"language": "en", "destinations": ["TR", "ZA"], "nationalities": ["DE"]}
    cards = {"filters": {"documents": {"id_card": {"entry_allowed": True}}}}
    for form in ("json", "html", "text"):
        found = await records(stand, f"/content/entry/{form}", method="POST", json=body | cards)
        assert [each["destination"] for each in found] == ["TR"]
    none = await stand.api("/content/visa/json", "POST", json=body | {"filters": {"required": {"status": "maybe"}}})
    assert none.status == 204
    assert (await stand.api("/content/visa/json", "POST", json=body | {"filters": []})).status == 422


async def test_transit_destinations(stand: Stand) -> None:
    body = {"destinations": [{"destination": "AE", "type": "transit"}], "nationalities": ["DE"]}
    (record,) = await records(stand, "/content/all/text", method="POST", json=body)
    assert record["destination_type"] == "transit"


async def test_health_and_country_need_no_nationality(stand: Stand) -> None:
    assert (await records(stand, "/content/health/json?lang=en&countries=KE"))[0]["nationality"] == "DE"
    (country,) = await records(stand, "/content/country/html?lang=en&countries=KE,XX")
    assert (country["country"], country["title"]) == ("KE", "Kenya")
    assert set(country["topics"]) == {"geography", "climate", "currency", "communication", "customs", "safety"}


async def test_extras_change_the_answer(stand: Stand) -> None:
    plain = "/content/all/html?lang=en&countries=US&nat=DE"
    extra = f"{plain}&return_regions=1&states=CA,NY&zip_code=12683&zip_location=Berlin&cruise_compass_cruise_id=7&show_country_info=1"
    before, after = (await records(stand, plain))[0], (await records(stand, f"{extra}&target-device=mobile"))[0]
    assert (after["states"], after["zip_code"], after["zip_location"], after["cruise_compass_cruise_id"]) == (
        ["CA", "NY"],
        "12683",
        "Berlin",
        "7",
    )
    assert after["regions"][0]["code"] == "US-1"
    assert after["country_info"]["country"] == "US"
    assert after["entry"]["content"] == f'<div class="mobile">{before["entry"]["content"]}</div>'


async def test_a_trip_makes_a_link_that_opens(stand: Stand) -> None:
    body = {
        "language": "en",
        "destinations": [{"destination": "TR", "type": "travel"}],
        "nationalities": ["DE"],
        "trip": {"name": "Sample <trip>", "start_date": "2026-09-01", "end_date": "2026-09-10", "reference": "REF-1"},
        "subscribe": [{"email_address": "traveller@sandbox.example"}],
    }
    for path in ("/content/all/html", "/content/all/text", "/information/search"):
        link = (await stand.api(path, "POST", json=body)).json["trip_url"]
        page = await stand.ask(link.replace("/links/en", "/links/de"))
        assert (page.status, "Sample &lt;trip&gt;" in page.text, "Türkei / Deutschland" in page.text) == (
            200,
            True,
            True,
        )
    assert "trip_url" not in (await stand.api("/content/all/html", "POST", json=body | {"trip": None})).json
    assert (await stand.ask("/links/en?tid=NONE")).status == 404


async def test_what_the_account_and_operators_add(stand: Stand) -> None:
    path = "/content/all/html?lang=en&countries=TR&nat=DE"
    answer = (await stand.api(f"{path}&tour_operators=sunx,none")).json
    (section,) = answer["individual_content"]["sections"]
    assert (section["name"], section["content"][:3]) == ("Hint", "<p>")
    good, unknown = answer["tour_operators"]
    assert (good["code"], good["success"], len(good["contents"])) == ("SUNX", True, 1)
    assert (unknown["success"], unknown["error"]) == (False, "not_found")
    assert "individual_content" not in (await stand.api(path.replace("TR", "ZA"))).json


async def test_destinations_by_filters(stand: Stand) -> None:
    async def codes(body: dict[str, Any], query: str = "lang=en&nationalities=DE") -> list[str]:
        answer = (await stand.api(f"/destinations?{query}", "POST", json=body)).json
        return [record["code"] for record in answer["destinations"]]

    everything = await codes({})
    assert len(everything) >= 40
    assert everything == sorted(everything)
    by_card = await codes({"entry": {"documents": {"id_card": {"entry_allowed": True}}}})
    assert "TR" in by_card
    assert "US" not in by_card
    no_visa = await codes({"visa": {"required": {"status": "not_required"}}})
    assert no_visa
    assert set(no_visa) < set(everything)
    assert set(await codes({"visa": {"required": {"status": "not_required"}}}, "nationalities=DE,IN")) < set(no_visa)
    assert await codes({"health": {"status": "unknown"}}) == []
    assert await codes({}, "sort_order=desc") == everything[::-1]
    named = (
        await stand.api(
            "/destinations?lang=en&sort_by=name", "POST", json={"fields": {"travel_advisory": {"type": True}}}
        )
    ).json
    assert named["destinations"][0] == {"code": "AR", "name": "Argentina", "travel_advisory": {"type": "inactive"}}
