"""The face of the status page: what it says first, in which colour, and the one button that mends it. A function of a status document and a moment.

One row of `STATES` a state: the first that holds is the face, and the others that hold and are no good news are named below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from passoproxy.core.units import duration
from passoproxy.server.admin.html import NOTHING, Html, moment, phrase, sentence
from passoproxy.values import dataclass

Part = Mapping[str, Any]
NO_PERSON = ("client_credentials", "static")
STARTING = 10.0
"""What held so many seconds after the start may have held before."""


@dataclass(frozen=True, slots=True)
class Face:
    """`mood` is good, calm, warn or bad. `button` is what the primary button does ('' for none) and its text; `also` names what else is wrong."""

    name: str
    mood: str
    headline: Html
    told: tuple[Html, ...]
    button: tuple[str, str]
    also: tuple[str, ...]


class View:
    """A status document at `now`, as the rows ask it."""

    def __init__(self, status: Part, now: float) -> None:
        self.status, self.now = status, now
        self.token, self.origin, self.cache = (part_of(status, name) for name in ("token", "origin", "cache"))
        self.access, self.chain = self.token.get("access", "none"), self.token.get("chain", "none")
        self.by_person = self.token.get("grant") not in NO_PERSON
        self.is_static = self.token.get("grant") == "static"
        self.is_over = self.is_static and (self.token.get("access_until") or now + 1) <= now
        self.follows = self.token.get("role") == "following"
        login = self.token.get("login_until")
        self.logs_in = bool(login and login > now and self.chain != "healthy")
        self.gateway = part_of(status, "gateway")

    def at(self, moment_: float | None, joined: bool = False) -> Html:
        """A moment; '' for none."""
        return NOTHING if moment_ is None else moment(moment_, self.now, joined)

    def needs_person(self) -> bool:
        """Whether no refresh brings another access token."""
        is_bare = self.chain == "none" and self.access == "expired"
        is_late = self.chain == "retrying" and self.token.get("runway_seconds") == 0
        return self.by_person and (self.chain == "dead" or is_bare or is_late)

    def warned(self, code: str) -> str:
        """The text of a warning that stands."""
        told = (each for each in self.status.get("warnings") or [] if isinstance(each, Mapping))
        return next((str(each["detail"]) for each in told if each.get("code") == code), "")

    def window(self, name: str) -> str:
        """The longest that a route lets stored answers serve, in words; '' if none does."""
        longest = max((route.get(name) or 0 for route in self.status.get("routes") or []), default=0)
        return duration(longest) if longest else ""


Told = Callable[[View], Html]

# ---- sentences -------------------------------------------------------------------------------------------------------


def part_of(status: Part, name: str) -> Part:
    """A member that is an object; an empty one if it is missing."""
    part = status.get(name)
    return part if isinstance(part, Mapping) else {}


def _reason(view: View) -> Html:
    """What is wrong with the pair, and since when."""
    return _since(view, "chain", str(view.token.get("reason") or view.status.get("reason") or ""))


def _since(view: View, name: str, said: str) -> Html:
    at, start, said = part_of(view.status, "since").get(name), view.status.get("started_at") or 0.0, said.rstrip(".")
    if at is None or not said:
        return phrase("{said}.", said=sentence(said)) if said else NOTHING
    or_before = " or before" if at - start < STARTING else ""
    return phrase("Since {at}{or_before}: {said}.", at=view.at(at), or_before=or_before, said=said)


def _stored(view: View, window: str) -> str:
    """Which stored answers clients get; '' for none."""
    longest = view.window(window) if view.cache.get("entries") else ""
    return longest and f"stored answers (by route, up to {longest} after they went stale)"


def _served(view: View) -> Html:
    """Until when clients are served, and by what, while the pair is not renewed."""
    until, stored = (
        view.token.get("served_until") or view.token.get("access_until"),
        _stored(view, "stale_if_unauthorized"),
    )
    if view.access != "valid":
        rest = (
            "Clients get {stored}, and 503 for what is not stored."
            if stored
            else "Until that is mended, clients get 503."
        )
        return phrase(rest, stored=stored)
    if until is None:
        return phrase("Clients are served as usual until the API refuses the access token.")
    then = f"then they get {stored}, and 503 for what is not stored" if stored else "then they get 503"
    return phrase("Clients are served as usual until {until}; {then}.", until=view.at(until), then=then)


def _deadline(view: View) -> Html:
    by = part_of(view.status, "alert").get("deadline")
    if by is None or by <= view.now:
        return NOTHING
    return phrase("If no renewal succeeds, a person is needed by {by}.", by=view.at(by))


def _last_error(view: View) -> Html:
    error = str(view.token.get("last_error") or "").rstrip(".")
    return phrase("{error}.", error=sentence(error)) if error else NOTHING


def _without_origin(template: str) -> Told:
    """What clients get meanwhile; `{stored}` in the sentence is which stored answers."""

    def told(view: View) -> Html:
        return phrase(template, stored=_stored(view, "stale_if_error") or "stored answers while these are fresh")

    return told


def _origin_told(view: View) -> Html:
    return _since(view, "origin", str(view.origin.get("away") or view.origin.get("last_failure") or "no answer"))


def _last_answer(view: View) -> Html:
    at = view.origin.get("last_answer_at")
    return phrase("It answered last {at}. ", at=view.at(at, True)) if at else NOTHING


def _remedy(view: View) -> Html:
    """The remedy, without the link to this page, which is open already."""
    remedy = str(view.token.get("remedy") or "").replace(f" or open {view.token.get('link')}", "")
    return phrase("{remedy}.", remedy=sentence(remedy).rstrip(".")) if remedy else NOTHING


def runway(view: View) -> Html:
    """The quiet line beside a good face."""
    left = view.token.get("runway_seconds")
    if left is None:
        if view.is_static:
            until = view.token.get("access_until")
            ends = phrase(" It ends {at}: put another one there before.", at=view.at(until, True)) if until else ""
            return Html(f"It is used as it is in <code>oauth.static_token_file</code>, and never renewed.{ends}")
        if not view.by_person:
            return phrase("No person is ever needed with this grant.")
        return phrase("The provider tells no lifetime: the pair is refreshed hourly, and served until it is refused.")
    return phrase(
        "Runway {left}: without a renewal a person is needed {by}.",
        left=duration(left),
        by=view.at(view.now + left, True),
    )


def _next(view: View, otherwise: str, then: str = "next") -> Html:
    due = view.token.get("next_refresh_at")
    if due is None:
        return Html(otherwise)
    return phrase(
        "{otherwise}, {then} {at}", otherwise=otherwise, then=then, at=view.at(due, True) if due > view.now else "now"
    )


# ---- the table -------------------------------------------------------------------------------------------------------

AUTHORISE, AGAIN, ANEW, TRY = (
    ("authorise", "Authorise"),
    ("authorise", "Authorise again"),
    ("authorise", "Begin it anew"),
    ("refresh", "Try now"),
)
NO_BUTTON = ("", "")


def _say(text: str) -> Told:
    return lambda view: Html(text)


@dataclass(frozen=True, slots=True)
class State:
    """A row: `holds`, and what is said then. `brief` names it below another state's face, unless that one is `about` the same."""

    name: str
    about: str
    mood: str
    holds: Callable[[View], bool]
    headline: Told
    told: tuple[Told, ...]
    button: tuple[str, str] = NO_BUTTON
    brief: str = ""


STATES = (
    State("starting", "all", "calm", lambda v: v.status.get("reason") == "starting", _say("Starting"), ()),
    State("stopping", "all", "calm", lambda v: v.status.get("reason") == "draining", _say("Stopping"), (_say("What is under way is finished first."),)),
    State(
        "replaying", "all", "calm", lambda v: v.gateway.get("mode") == "replay", _say("Answers from recordings"),
        (lambda v: phrase("All answers come from the recordings in {folder} ({count}). Neither the API nor an account is used.",
                          count=v.gateway.get("recordings"), folder=v.gateway.get("directory")),
         lambda v: phrase("{fault}", fault=next(iter(v.gateway.get("invalid") or ()), ""))),
    ),
    State(
        "empty", "origin", "bad", lambda v: bool(v.cache.get("offline")) and not v.cache.get("entries"), _say("Offline, and nothing is stored"),
        (_say("Every request gets 504: <code>cache.offline</code> has the API not asked. Set it to false, or fill the cache before."),),
    ),
    State(
        "offline", "origin", "calm", lambda v: bool(v.cache.get("offline")), _say("Offline"),
        (_say("Only stored answers are served, however old they are; the API is not asked. That is what <code>cache.offline</code> wants."),),
    ),
    State(
        "login", "pair", "calm", lambda v: v.logs_in, _say("A login is under way"),
        (lambda v: phrase("Finish it in the browser in which it was begun, by {by}.", by=v.at(v.token["login_until"])), _served),
        ANEW,
    ),
    State(
        "dead", "pair", "bad", View.needs_person, _say("A person is needed"),
        (_reason, _served, _say("To mend it, authorise again in a browser, signed in with the service’s account: all goes on by itself then.")),
        AGAIN, "the pair can no longer be renewed",
    ),
    State(
        "handed_over", "pair", "warn", lambda v: v.token.get("handed_over_at") is not None, _say("The pair was handed over"), (_reason, _remedy, _served),
        AUTHORISE, "the pair was handed over",
    ),
    State(
        "alone", "pair", "warn", lambda v: v.follows and bool(v.token.get("alone")), _say("The pair’s owner is not heard"),
        (_reason, _last_error, _remedy, _served),
        NO_BUTTON, "the process that owns the pair is not heard",
    ),
    State(
        "untold", "pair", "warn", lambda v: v.follows and v.access == v.chain == "none" and not v.token.get("link"), _say("Nothing is known of the pair"),
        (_reason, _remedy, _served), NO_BUTTON, "nothing is known of the pair",
    ),
    State(
        "lost", "pair", "bad", lambda v: v.access == v.chain == "none" and v.by_person and bool(v.token.get("last_error")) and not v.follows,
        _say("There is no usable pair"), (_reason, _served), AUTHORISE, "there is no usable pair",
    ),
    State(
        "never", "pair", "calm", lambda v: v.access == v.chain == "none" and v.by_person, _say("Not authorised yet"),
        (lambda v: _reason(v) if v.token.get("kept") or v.follows else NOTHING, lambda v: _remedy(v) if v.token.get("kept") else NOTHING,
         _say("Authorise passoproxy once, in a browser: it renews the pair by itself from then on."), _served),
        AUTHORISE, "nobody has authorised passoproxy yet",
    ),
    State(
        "no_token", "pair", "bad", lambda v: v.access != "valid" and not v.by_person, _say("No access token"), (_reason, _remedy, _served), TRY,
        "there is no usable access token",
    ),
    State(
        "over", "pair", "bad", lambda v: v.is_over, _say("The static token has ended"),
        (lambda v: phrase("It ended {at}. Put another one into <code>oauth.static_token_file</code>: it is read within half a minute.",
                          at=v.at(v.token["access_until"], True)),), NO_BUTTON, "the static token has ended",
    ),
    State(
        "origin_away", "origin", "bad", lambda v: v.origin.get("state") == "away", _say("The API does not answer"),
        (_origin_told, lambda v: Html(_last_answer(v) + "It is asked again by itself; <code>passoproxy doctor</code> tells which step to it fails."),
         _without_origin("Clients get {stored}, and an error (502, 503 or 504) for the rest.")), NO_BUTTON, "the API does not answer",
    ),
    State(
        "unknown", "pair", "warn", lambda v: v.chain == "unknown", _say("A refresh’s answer was lost"), (_reason, _served, _deadline), AGAIN,
        "a refresh’s answer was lost",
    ),
    State(
        "retrying", "pair", "warn", lambda v: v.chain == "retrying", lambda v: _next(v, "The last refresh failed", "tried again"),
        (_reason, lambda v: NOTHING if v.by_person else _remedy(v), _served, _deadline), TRY, "the last refresh failed",
    ),
    State(
        "overdue", "pair", "warn", lambda v: v.chain == "healthy" and part_of(v.status, "alert").get("level", "none") != "none",
        _say("The renewal is overdue"), (runway, _served), TRY, "the renewal is overdue",
    ),
    State(
        "renewing", "pair", "calm", lambda v: v.chain == "healthy" and v.access != "valid", _say("The access token has ended"),
        (_say("A new one is asked for now."), _served), TRY,
    ),
    State(
        "unsaved", "pair", "warn", lambda v: not v.token.get("saved", True), _say("The pair is in memory only"),
        (lambda v: phrase("Its folder cannot be written: a restart now would cost {what}.", what="the login" if v.by_person else "a new token"), _remedy),
        NO_BUTTON, "the pair is in memory only",
    ),
    State(
        "unrenewable", "pair", "warn", lambda v: v.chain == "none" and v.access == "valid" and v.by_person, _say("Nothing renews this token"),
        (_reason, _served), AUTHORISE, "nothing renews the access token",
    ),
    State(
        "origin_failing", "origin", "warn", lambda v: v.origin.get("state") == "failing", _say("The API fails"),
        (_origin_told, _say("In the last five minutes no answer came, or at least half were faults."),
         _without_origin("Where it fails, clients get {stored}, and the fault itself for the rest.")), NO_BUTTON, "the API fails",
    ),
    State(
        "cooling_down", "origin", "warn", lambda v: v.origin.get("state") == "cooling_down", _say("The API asked for a pause"),
        (lambda v: phrase("It answered 429, and is not asked until {until}.", until=v.at(v.origin.get("cool_down_until")) or "the pause is over"),
         _without_origin("Clients get {stored}; other requests wait for the end of the pause if it is near, and get 429 if it is not.")),
        NO_BUTTON, "the API asked for a pause",
    ),
    State(
        "store_away", "store", "warn", lambda v: bool(v.warned("store_away") or v.cache.get("fault")), _say("The store is away"),
        (lambda v: phrase("{said}.", said=sentence(v.warned("store_away") or v.cache["fault"]).rstrip(".")),
         lambda v: _served(v) if v.warned("store_away") else Html("Clients are served as usual; what cannot be stored is asked for again."),
         lambda v: runway(v) if v.warned("store_away") else NOTHING), NO_BUTTON, "the store is away",
    ),
    State(
        "following", "pair", "good", lambda v: v.follows, _say("Another process renews the pair"),
        (_say("This one follows it, and serves with its token."), runway),
    ),
    State("static", "pair", "good", lambda v: v.is_static, _say("Uses a static token"), (_last_error, runway)),
    State("healthy", "pair", "good", lambda v: True, lambda v: _next(v, "Renews itself"), (runway,)),
)  # fmt: skip


def face_of(status: Part, now: float) -> Face:
    """The face at `now` (epoch seconds). A status document may lack any part."""
    view = View(status, now)
    first, *others = [state for state in STATES if state.holds(view)]
    is_pair_too = first.about != "pair" and any(state.about == "pair" and state.brief for state in others)
    told = (*first.told, *((_deadline,) if is_pair_too and first.about != "all" else ()))
    is_felt = first.about == "pair" and view.access != "valid"  # by clients, now
    is_bad = first.mood == "warn" and (is_felt or part_of(status, "alert").get("level") == "page")
    return Face(
        first.name,
        "bad" if is_bad else first.mood,
        first.headline(view),
        tuple(line for tell in told if (line := tell(view))),
        NO_BUTTON if view.is_static else first.button,
        tuple(state.brief for state in others if state.brief and first.about not in (state.about, "all")),
    )
