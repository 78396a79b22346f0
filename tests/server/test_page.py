"""The status page in every state, and the small pages: what must be said, and what must not be possible."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from passoproxy.server.admin import page as pages
from passoproxy.server.admin.html import asset, took
from passoproxy.server.admin.page import status_page
from tests.server.fake_daemon import NOW, healthy, without_pair

HOSTILE = "<script>\"&'</script>"


class Reader(HTMLParser):
    """Remembers text, tags and attributes, and complains about tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def read(document: dict[str, Any], notice: str = "") -> Reader:
    return Reader(status_page(document, "PAGETOKEN", NOW, notice))


def token(**more: Any) -> Reader:
    return read(healthy(**more))


@pytest.mark.parametrize(
    ("page", "said", "unsaid"),
    [
        (read(healthy()), ["9 d 6 h", "until Fri 24 Nov 2023", "Next refresh in 4 d 15 h", "Authorise again", "Refresh now", "92.5 %"], ["A person"]),
        (read(without_pair()), ["Not authorised yet", "Authorise", "No pair", "unready"], ["Refresh now", "Next refresh", "Authorise again"]),
        (token(chain="retrying", runway_seconds=3_900.0, reason="no answer"), ["1 h 5 min", "retrying", "No answer"], []),
        (
            token(chain="dead", runway_seconds=0.0, served_until=NOW + 7_200, reason="invalid_grant", remedy="log in"),
            ["A person is needed", "still serves for 2 h", "invalid_grant", "Log in", "Authorise"],
            ["Next refresh", "Refresh now"],
        ),
        (token(chain="dead", runway_seconds=0.0, served_until=NOW - 1), ["A person is needed", "Only stored answers are served"], []),
        (token(chain="dead", runway_seconds=0.0, served_until=None, access_until=None), ["Only stored answers are served"], []),
        (token(runway_seconds=None), ["Unknown", "tells no lifetime"], ["A person"]),
        (token(runway_seconds=None, grant="static", chain="none"), ["No person needed"], ["Authorise", "another machine", "Refresh now"]),
        (token(runway_seconds=None, grant="client_credentials"), ["No person needed", "Refresh now"], ["Authorise", "another machine"]),
        (
            token(chain="dead", runway_seconds=0.0, remedy="run 'passoproxy login' or open http://here/", link="http://here/"),
            ["Run 'passoproxy login', or authorise here"],
            ["http://here/"],
        ),
        (token(role="following"), ["Another process holds the pair and renews it; this one follows."], []),
        (token(role="following", alone=True), ["has not been heard for a while; the pair is not renewed meanwhile"], []),
        (token(role="owner"), [], ["follows"]),
        (token(chain="unknown", handed_over_at=NOW - 9), ["Authorise"], ["Refresh now", "Authorise again"]),
        (token(saved=False), ["held in memory only"], []),
        (token(next_refresh_at=NOW - 5), ["Next refresh now"], []),
        (token(obtained_at=None), ["9 d 6 h"], []),
    ],
)  # fmt: skip
def test_the_runway_in_every_state(page: Reader, said: list[str], unsaid: list[str]) -> None:
    assert [words for words in said if words not in page.text] == []
    assert [words for words in unsaid if words in page.text] == []


def test_a_short_runway_is_drawn_as_one_unless_all_is_well() -> None:
    assert "runway warn" in status_page(healthy(chain="retrying", runway_seconds=1_000.0), "", NOW)
    assert "runway warn" not in status_page(healthy(runway_seconds=1_000.0), "", NOW)
    assert "runway warn" not in status_page(healthy(chain="retrying"), "", NOW)


def test_an_alert_says_by_when_a_person_is_needed() -> None:
    calm = Reader(status_page(healthy() | {"alert": {"level": "none", "deadline": NOW + 60}}, "T", NOW))
    assert "Alert" not in " ".join(calm.words)
    loud = Reader(status_page(healthy() | {"alert": {"level": "notify", "deadline": NOW + 1500}}, "T", NOW))
    said = " ".join(loud.words)
    assert "Alert notify" in said
    assert "A person is needed by Tue 14 Nov 2023, 22:38 UTC" in said
    vague = Reader(status_page(healthy() | {"alert": {"level": "page", "deadline": None}}, "T", NOW))
    assert "A person is needed by" not in " ".join(vague.words)


def test_everything_else_is_on_the_page() -> None:
    text = read(healthy(), "The cache was emptied.").text
    for words in (
        "1,234", "45.8 MiB of 1.0 GiB", "12.4 requests a second", "https://api.passolution.eu", "200, 4 s ago", "183 ms", "refused 3",
        "/api/v2/content/all/html?lang=***", "connection reset /api/v2/<b>", "passoproxy 0.1.0", "up for 2 h", "127.0.0.1:8610, [::1]:8610",
        "/etc/passoproxy/config.yaml", "The cache was emptied.", "Empty the cache",
    ):  # fmt: skip
        assert words in text


def test_an_origin_that_was_not_asked_and_the_workers() -> None:
    text = read(healthy() | {"origin": {"url": "http://origin", "state": "silent"}, "workers": [11, 12, 13]}).text
    assert "not asked yet" in text
    assert "silent" not in text
    assert "3 workers" in text
    assert "workers" not in read(healthy() | {"workers": []}).text


def test_warnings_stand_on_top() -> None:
    text = read(
        healthy()
        | {"warnings": [{"code": "c", "detail": "state is on tmpfs", "at": NOW}, {"detail": "no time"}, "plain words"]}
    ).text
    assert "Tue 14 Nov 2023, 22:13 UTC State is on tmpfs" in text
    assert text.index("State is on tmpfs") < text.index("No time") < text.index("Plain words") < text.index("Runway")


@pytest.mark.parametrize("document", [{}, {"token": None}, {"token": {}, "cache": {}, "requests": {}, "origin": {}}])
def test_a_document_may_lack_any_part(document: dict[str, Any]) -> None:
    text = read(document).text
    assert "Not authorised yet" in text
    assert "No request yet" in text
    assert "Empty the cache" not in text


def hostile(value: Any) -> Any:
    """The same shape with hostile words wherever there is text."""
    match value:
        case dict():
            return {name: hostile(inner) for name, inner in value.items()}
        case list():
            return [hostile(inner) for inner in value]
        case str():
            return HOSTILE
        case _:
            return value


def test_nothing_in_the_document_becomes_markup() -> None:
    page = status_page(hostile(healthy()) | {"warnings": [HOSTILE]}, HOSTILE, NOW, HOSTILE)
    assert HOSTILE not in page
    assert [attributes for tag, attributes in Reader(page).tags if tag == "script"] == [
        {"src": "/assets/page.js", "defer": None}
    ]


@pytest.mark.parametrize(
    "page",
    [
        status_page(healthy(), "t", NOW),
        status_page(without_pair(), "t", NOW),
        pages.token_page("/", wrong=True),
        pages.token_page(HOSTILE),
        pages.going_on_page(HOSTILE, HOSTILE, HOSTILE),
        pages.session_page(HOSTILE, spent=True),
        pages.purge_page(healthy(), HOSTILE),
        status_page(healthy(), "", NOW, way_in=HOSTILE),
        pages.confirmation_page(HOSTILE),
        pages.elsewhere_page(HOSTILE, HOSTILE),
        pages.message_page(HOSTILE, HOSTILE, good=False),
        pages.message_page("Authorised", "Well", good=True),
    ],
)
def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(page: str) -> None:
    reader = Reader(page)
    assert HOSTILE not in page
    assert "<style" not in page
    assert not re.search(r"<script(?! src=\"/assets/page\.js\" defer></script>)", page)
    for _, attributes in reader.tags:
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        for name in ("src", "href", "action"):
            place = attributes.get(name)
            assert place is None or place.startswith(("/", "<script>"))


def test_forms_carry_the_page_token() -> None:
    reader = read(healthy())
    forms = [attributes["action"] for tag, attributes in reader.tags if tag == "form"]
    tokens = [
        attributes["value"]
        for tag, attributes in reader.tags
        if tag == "input" and attributes.get("name") == "page_token"
    ]
    assert forms == ["/page/refresh", "/oauth/paste"]
    assert tokens == ["PAGETOKEN"] * 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 ms"),
        (0.00042, "0.4 ms"),
        (0.00996, "10 ms"),
        (0.1834, "183 ms"),
        (0.9999, "1.0 s"),
        (20.02, "20.0 s"),
    ],
)
def test_how_long_it_took(seconds: float, words: str) -> None:
    assert took(seconds) == words


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_word_can_be_read(scheme: int) -> None:
    """WCAG 2.2 §1.4.3: the contrast of text is 4.5 to 1 or more."""
    sheet = re.findall(r":root \{(.*?)\}", asset("page.css").decode(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", sheet))
    pairs = [(ink, ground) for ink in ("ink", "soft", "faint", "accent") for ground in ("ground", "card")]
    pairs += [(mood, ground) for mood in ("good", "warn", "bad") for ground in (f"{mood}-ground", "card")]
    pairs += [("accent-ink", "accent"), ("soft", "track")]
    for ink, ground in pairs:
        dark, light = sorted((_luminance(colours[ink]), _luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_all_that_changes_is_fetched_anew() -> None:
    """The state's word in the header and the time of the last look too: the script takes these three from a fresh page."""
    named = re.findall(r'"([^"]+)"', re.findall(r"for \(const part of \[(.*)\]\)", asset("page.js").decode())[0])
    assert named == ["header", "#live", "footer"]
    for document in (healthy(), without_pair()):
        tags = read(document).tags
        for name in ("header", "footer"):
            assert [tag for tag, _ in tags].count(name) == 1
        assert [attributes.get("id") for _, attributes in tags].count("live") == 1


def test_what_was_just_done_goes_with_the_next_look() -> None:
    page = status_page(healthy(), "T", NOW, "The cache was emptied.")
    assert page.index('id="live"') < page.index("The cache was emptied.") < page.index("Runway")


def test_a_message_is_a_sentence() -> None:
    text = Reader(pages.message_page("Not authorised", "the login was not granted", good=False)).text
    assert "The login was not granted" in text
    text = Reader(pages.message_page("Not begun", "oauth.grant is static", good=False)).text
    assert "oauth.grant is static" in text


def test_pictures_stay_within_their_frames() -> None:
    def drawn(left: float, obtained: float, lately: list[float]) -> str:
        document = healthy(runway_seconds=left, obtained_at=NOW - obtained)
        document["requests"]["per_second_lately"] = lately
        return status_page(document, "", NOW)

    ahead, behind = drawn(100.0, -50.0, []), drawn(-10.0, 100.0, [0, 1, 2])
    assert 'width="100.0"' in ahead
    assert 'width="0.0"' in behind
    assert (ahead.count("<rect x="), behind.count("<rect x=")) == (0, 2)
