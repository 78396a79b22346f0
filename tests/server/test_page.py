"""The status page in every state, and the small pages: what must be said, and what must not be possible."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from passoproxy.server.admin import page as pages
from passoproxy.server.admin.faces import STATES, face_of
from passoproxy.server.admin.html import ASSETS, Html, asset, bars, moment, took
from passoproxy.server.admin.page import status_page
from tests.server.fake_daemon import NOW, healthy, without_pair
from tests.server.page_states import DOCUMENTS, RETRYING, STORE_AWAY


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pages show the machine's own time."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


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


FACES = {
    "starting": ("calm", ["Starting"], ""),
    "stopping": ("calm", ["What is under way is finished first."], ""),
    "replaying": ("calm", ["All answers come from the recordings in /srv/recordings (12). Neither the API nor an account is used."], ""),
    "empty": ("bad", ["Every request gets 504: cache.offline has the API not asked."], ""),
    "offline": ("calm", ["Only stored answers are served, however old they are"], ""),
    "login": ("calm", ["Finish it in the browser in which it was begun, by 22:23 UTC."], "authorise"),
    "dead": (
        "bad",
        [
            "A person is needed",
            "authorise again in a browser, signed in with the service’s account",
            "Since 21:23 UTC: the provider refuses the refresh token: invalid_grant.",
            "Clients are served as usual until Wed 15 Nov, 00:13 UTC; then they get stored answers"
            " (by route, up to 1 d after they went stale), and 503 for what is not stored.",
        ],
        "authorise",
    ),
    "handed_over": ("warn", ["handed over by 'token export'", "Import or log in."], "authorise"),
    "alone": ("warn", ["The pair’s owner is not heard", "control.sock: gone."], ""),
    "untold": ("bad", ["the pair's owner has not told anything yet.", "Clients get stored answers"], ""),
    "lost": ("bad", ["There is no usable pair", "pair.json is damaged.", "Clients get stored answers"], "authorise"),
    "never": ("calm", ["Not authorised yet", "renews the pair by itself from then on"], "authorise"),
    "no_token": ("bad", ["the provider answered 503", "Clients get stored answers"], "refresh"),
    "over": ("bad", ["The static token has ended", "It ended at 22:12 UTC.", "oauth.static_token_file"], ""),
    "origin_away": (
        "bad",
        [
            "Since 22:04 UTC: connection refused three times in a row.",
            "It answered last at 22:13 UTC. It is asked again by itself; passoproxy doctor tells which step to it fails.",
            "Clients get stored answers (by route, up to 7 d after they went stale), and an error (502, 503 or 504) for the rest.",
        ],
        "",
    ),
    "unknown": ("warn", ["Since 04:26 UTC or before: a refresh was sent", "a person is needed by Fri 24 Nov, 04:26 UTC"], "authorise"),
    "retrying": ("warn", ["The last refresh failed, tried again at 22:17 UTC", "a person is needed by Mon 20 Nov, 17:06 UTC"], "refresh"),
    "overdue": ("bad", ["The renewal is overdue", "Runway 2 h", "Clients are served as usual until"], "refresh"),
    "renewing": ("calm", ["The access token has ended", "A new one is asked for now.", "Clients get stored answers"], "refresh"),
    "unsaved": ("warn", ["a restart now would cost the login", "Make room or permissions in state.directory"], ""),
    "unrenewable": ("warn", ["Nothing renews this token", "there is no refresh token"], "authorise"),
    "origin_failing": ("warn", ["Since 22:04 UTC: answered 503.", "at least half were faults", "Where it fails, clients get stored answers"], ""),
    "cooling_down": ("warn", ["It answered 429, and is not asked until 22:14 UTC.", "and get 429 if it is not"], ""),
    "store_away": ("warn", ["store.url redis://cache is away", "served as usual until Fri 24 Nov", "Runway 9 d 6 h"], ""),
    "following": ("good", ["Another process renews the pair"], ""),
    "static": ("good", ["never renewed. It ends on Fri 24 Nov at 04:26 UTC: put another one there before."], ""),
    "healthy": ("good", ["Renews itself, next on Sun 19 Nov at 13:20 UTC",
        "Runway 9 d 6 h: without a renewal a person is needed on Fri 24 Nov at 04:26 UTC."], ""),
}  # fmt: skip
"""Mood, what is said, and what the button does, by the name of the face."""


@pytest.mark.parametrize("name", FACES)
def test_the_face_of_every_state(name: str) -> None:
    mood, said, button = FACES[name]
    face = face_of(DOCUMENTS[name], NOW)
    assert (face.name, face.mood, face.button[0]) == (name, mood, button)
    text = Html(" ".join((face.headline, *face.told))).plain()
    assert [words for words in said if words not in text] == []


def _without(**token: Any) -> dict[str, Any]:
    document = without_pair()
    return document | {"token": document["token"] | token}


CHAINS = {
    "authorization_code": ("none", "healthy", "retrying", "unknown", "dead"),
    "client_credentials": ("none", "healthy", "retrying"),
    "static": ("none",),
}
BUTTONS = {"authorization_code": {"", "authorise", "refresh"}, "client_credentials": {"", "refresh"}, "static": {""}}


@pytest.mark.parametrize("role", ["owner", "following"])
@pytest.mark.parametrize(("grant", "chain"), [(grant, chain) for grant, chains in CHAINS.items() for chain in chains])
@pytest.mark.parametrize("access", ["none", "valid", "expired"])
def test_no_face_is_good_without_an_access_token_and_its_button_fits_the_grant(
    access: str, chain: str, grant: str, role: str
) -> None:
    face = face_of(healthy(access=access, chain=chain, grant=grant, role=role), NOW)
    assert (face.mood == "good") <= (access == "valid")
    assert face.button[0] in BUTTONS[grant]


@pytest.mark.parametrize(
    ("token", "name", "mood"),
    [
        ({"chain": "none", "access": "expired"}, "dead", "bad"),  # a pair without refresh token has ended
        ({"chain": "retrying", "runway_seconds": 0}, "dead", "bad"),
        ({"chain": "retrying", "access": "expired"}, "retrying", "bad"),
        ({"role": "following", "alone": True, "access": "expired", "chain": "retrying"}, "alone", "bad"),
        ({"grant": "static", "chain": "none", "access": "none"}, "no_token", "bad"),
    ],
)
def test_what_clients_feel_now_is_red(token: dict[str, Any], name: str, mood: str) -> None:
    face = face_of(healthy(**token), NOW)
    assert (face.name, face.mood) == (name, mood)


def test_every_state_has_its_document_and_its_words() -> None:
    assert [state.name for state in STATES] == list(DOCUMENTS) == list(FACES)


@pytest.mark.parametrize(
    ("document", "said", "unsaid"),
    [
        (healthy(runway_seconds=None), "the pair is refreshed hourly, and served until it is refused", "Runway"),
        (healthy(next_refresh_at=NOW - 5), "Renews itself, next now", ""),
        (healthy(next_refresh_at=None), "Renews itself", "next"),
        (healthy(next_refresh_at=1e18, runway_seconds=1e18), "next at a time that no calendar has", ""),
        (healthy(chain="dead", access="expired", served_until=None), "Clients get stored answers (by route, up to 1 d after", "as usual"),
        (without_pair() | {"cache": {}}, "Until that is mended, clients get 503.", ""),
        (healthy(chain="dead", served_until=None, access_until=None), "as usual until the API refuses the access token", ""),
        (healthy(chain="dead") | {"routes": []}, "; then they get 503", "stored answers"),
        (DOCUMENTS["origin_away"] | {"cache": {}}, "stored answers while these are fresh", ""),
        (without_pair() | {"since": {"chain": NOW - 7_195}}, "", "Since"),
        (healthy(chain="dead", reason="revoked") | {"since": {"chain": NOW - 7_195}}, "Since 20:13 UTC or before: revoked.", ""),
        (healthy(chain="dead", reason="revoked") | {"since": {}}, "Revoked.", "Since"),
        (_without(role="following", link="http://127.0.0.1/"), "Not authorised yet", "Another process"),
        (_without(role="following", reason="state.directory is served by another", remedy="give this one another"), "Give this one another.", "Authorise"),
        (_without(kept="the pair of c", remedy="set oauth.client_id back"), "Set oauth.client_id back.", ""),
        (healthy(grant="static", chain="none", access_until=None, runway_seconds=None), "never renewed.", "ends"),
        (healthy(grant="client_credentials", **RETRYING | {"remedy": "check oauth.client_id", "runway_seconds": None}), "Check oauth.client_id.", "login"),
        (healthy() | {"cache": {"fault": "the cache’s store cannot be used"}}, "what cannot be stored is asked for again", "Runway"),
        (healthy(grant="static", chain="none", last_error="the static token is empty"), "The static token is empty.", ""),
        (healthy(saved=False, grant="client_credentials"), "would cost a new token", "login"),
    ],
)  # fmt: skip
def test_what_a_face_says_depends_on_what_is_known(document: dict[str, Any], said: str, unsaid: str) -> None:
    face = face_of(document, NOW)
    text = Html(" ".join((face.headline, *face.told))).plain()
    assert said in text
    assert not unsaid or unsaid not in text


def test_what_else_is_wrong_is_named_once_and_a_paging_alert_is_red() -> None:
    worst = DOCUMENTS["dead"] | {"origin": {"state": "away"}, "warnings": [STORE_AWAY]}
    assert face_of(worst, NOW).also == ("the API does not answer", "the store is away")
    assert "Also: the API does not answer; the store is away." in read(worst).text
    assert face_of(DOCUMENTS["replaying"], NOW).also == ()
    both = DOCUMENTS["retrying"] | {"origin": {"state": "away"}}
    assert "a person is needed by Mon 20 Nov" in face_of(both, NOW).told[-1].plain()
    paged = DOCUMENTS["retrying"] | {"alert": {"level": "page", "deadline": NOW + 60}}
    assert face_of(paged, NOW).mood == "bad"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_trouble_changes_title_icon_and_colour_and_the_page_stays_small(name: str) -> None:
    page = status_page(DOCUMENTS[name], "T", NOW)
    mood, *_ = FACES[name]
    title, icon = re.findall(r"<title>(.*?)</title>", page)[0], re.findall(r'rel="icon" href="/assets/(.*?)"', page)[0]
    assert title.startswith({"bad": "(!) ", "warn": "! "}.get(mood, title[:2]))
    assert icon == {"bad": "icon-bad.svg", "warn": "icon-warn.svg"}.get(mood, "icon.svg")
    assert f'<body class="{mood}">' in page
    assert len(page.encode()) + sum(len(asset(each)) for each in ASSETS) < 100_000


def test_the_primary_button_is_a_form_only_where_it_needs_no_question() -> None:
    """Without a session every button leads to how to get one."""
    retrying, dead = DOCUMENTS["retrying"], DOCUMENTS["dead"]
    assert '<button id="refresh" class="primary">Try now</button>' in status_page(retrying, "T", NOW)
    assert '<a id="refresh" class="button primary" href="/page/refresh">Try now</a>' in status_page(retrying, "", NOW)
    assert '<a id="authorise" class="button primary" href="/oauth/start">Authorise again</a>' in status_page(
        dead, "T", NOW
    )
    looking = Reader(status_page(dead, "", NOW, way_in="passoproxy page --state /s"))
    assert "passoproxy page --state /s" in looking.text
    assert [tag for tag, _ in looking.tags if tag == "form"] == []


@pytest.mark.parametrize(
    ("document", "offered"),
    [
        (healthy(), ["purge", "refresh", "authorise", "logout"]),
        (healthy(grant="static", chain="none"), ["purge"]),
        (healthy(grant="client_credentials"), ["purge", "refresh", "logout"]),
        (DOCUMENTS["handed_over"], ["authorise", "purge", "logout"]),
        (DOCUMENTS["dead"], ["authorise", "purge", "logout"]),
        (without_pair() | {"cache": {}}, ["authorise"]),
    ],
)
def test_what_can_be_done_now(document: dict[str, Any], offered: list[str]) -> None:
    ids = [attributes.get("id") for tag, attributes in read(document).tags if tag in ("a", "button")]
    assert [each for each in ids if each in ("refresh", "authorise", "logout", "purge")] == offered


def test_everything_else_is_on_the_page() -> None:
    text = read(healthy(), "The cache was emptied.").text
    for words in (
        "1,234", "45.8 MiB of 1.0 GiB", "12.4 a second now", "92.5 %", "0.4 ms p50 310 ms p99",
        "https://api.passolution.eu", "200, 22:13:16", "183 ms", "Refused here 3",
        "17 ×", "since 21:52:20", "API away 1 d · pair dead 1 d · while renewed 5 min", "no route: never stored", "1 more without a request", "37,106 95.1 %",
        "renewed 210 ms", "an error that passes : the provider answered 503 10.0 s", "900 GET /api/v2/content/all/html?lang=de",
        "/api/v2/content/all/html?lang=***", "connection reset /api/v2/<b>", "passoproxy 0.1.0", "up for 2 h", "127.0.0.1:8610, [::1]:8610",
        "/etc/passoproxy/config.yaml", "The cache was emptied.", "Empty the cache",
    ):  # fmt: skip
        assert words in text


def test_the_apis_address_is_shown_on_a_telephone_too() -> None:
    """Its header has no room for it."""
    page = read(healthy()).text
    assert page.count("https://api.passolution.eu") == 2


def test_an_origin_that_was_not_asked_and_the_workers() -> None:
    text = read(healthy() | {"origin": {"url": "http://origin", "state": "silent"}, "workers": [11, 12, 13]}).text
    assert "not asked yet" in text
    assert "silent" not in text
    assert "3 workers" in text
    assert "workers" not in read(healthy() | {"workers": []}).text
    assert "recording into /srv/r" in read(healthy() | {"gateway": {"mode": "record", "directory": "/srv/r"}}).text


def test_warnings_stand_on_top() -> None:
    text = read(
        healthy()
        | {"warnings": [{"code": "c", "detail": "state is on tmpfs", "at": NOW}, {"detail": "no time"}, "plain words"]}
    ).text
    assert "State is on tmpfs 22:13 UTC" in text
    assert (
        text.index("Renews")
        < text.index("State is on tmpfs")
        < text.index("No time")
        < text.index("Plain words")
        < text.index("Requests")
    )


@pytest.mark.parametrize("document", [{}, {"token": None}, {"token": {}, "cache": {}, "requests": {}, "origin": {}}])
def test_a_document_may_lack_any_part(document: dict[str, Any]) -> None:
    text = read(document).text
    assert "Not authorised yet" in text
    assert "Empty the cache" not in text


@pytest.mark.parametrize("name", ["dead", "origin_away", "cooling_down", "login", "replaying"])
def test_a_document_may_lack_any_member(name: str) -> None:
    document = DOCUMENTS[name]
    for part, members in document.items():
        status_page({**document, part: None}, "T", NOW)
        for member in members if isinstance(members, dict) else ():
            status_page(
                {**document, part: {each: value for each, value in members.items() if each != member}}, "T", NOW
            )


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
        pages.logout_page(healthy(), HOSTILE),
        pages.why_page({"reasons": [HOSTILE]}),
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
    assert page.index('id="live"') < page.index("The cache was emptied.") < page.index('id="headline"')
    assert '<noscript><meta http-equiv="refresh" content="30; url=/"></noscript>' in page


def test_a_message_is_a_sentence() -> None:
    text = Reader(pages.message_page("Not authorised", "the login was not granted", good=False)).text
    assert "The login was not granted" in text
    text = Reader(pages.message_page("Not begun", "oauth.grant is static", good=False)).text
    assert "oauth.grant is static" in text


def test_bars_stay_within_their_frames() -> None:
    assert bars([None, 0, 1, 2, 4], 2) == "M8 40v-20.0h3v20.0zM12 40v-40.0h3v40.0zM16 40v-40.0h3v40.0z"
    assert bars([0.001], 1_000) == "M0 40v-1.0h3v1.0z"


def test_errors_of_the_admin_listener_are_not_the_clients() -> None:
    own = {
        "at": NOW,
        "first_at": NOW,
        "count": 3,
        "listener": "admin",
        "level": "warning",
        "what": "refused",
        "target": "",
    }
    page = status_page(healthy() | {"recent_errors": [own]}, "", NOW)
    assert 'id="errors-title"' not in page
    assert "Refused or failed on this admin listener: 3" in Reader(page).text


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (healthy(), "Clients get 503 at once; 1,234 stored answers go."),
        (
            healthy(access="expired") | {"cache": {"entries": 1}},
            "Clients get 503 for everything; 1 stored answer goes.",
        ),
        (
            healthy(grant="client_credentials"),
            "another one is asked for at once. Clients wait for another token; 1,234 stored answers go.",
        ),
    ],
)
def test_logging_out_says_what_it_means_now(document: dict[str, Any], said: str) -> None:
    assert said in Reader(pages.logout_page(document, "T")).text


def test_emptying_the_cache_offline_says_that_nothing_fills_it_again() -> None:
    text = Reader(pages.purge_page(DOCUMENTS["offline"], "T")).text
    assert "what is emptied stays away" in text
    assert "fetched from the API again" not in text


def test_why_a_request_was_answered_so() -> None:
    found = {"method": "GET", "target": "/p", "outcome": "hit", "reasons": ["the stored answer serves", HOSTILE]}
    page = pages.why_page(found)
    assert HOSTILE not in page
    assert "GET /p: hit The stored answer serves" in Reader(page).text
    assert "not remembered any more" in Reader(pages.why_page(None)).text


@pytest.mark.parametrize(
    ("at", "joined", "form", "text"),
    [
        (NOW, False, "minute", "22:13 UTC"),
        (NOW, True, "minute", "at 22:13 UTC"),
        (NOW, False, "second", "22:13:20"),
        (NOW + 86_400, True, "minute", "on Wed 15 Nov at 22:13 UTC"),
        (NOW + 86_400, False, "second", "Wed 15 Nov, 22:13:20"),
        (NOW + 86_400 * 60, False, "minute", "Sat 13 Jan 2024, 22:13 UTC"),
    ],
)
def test_moments_in_local_time(at: float, joined: bool, form: str, text: str) -> None:
    shown = moment(at, NOW, joined, form)
    assert shown.plain() == text
    assert re.search(r'datetime="20\d\d-\d\d-\d\dT\d\d:13:20Z"', shown)
