"""The status page and the small pages: which blocks of `pages.html` are shown for which values. Reads nothing and decides nothing.

A status document may lack any part: what is not known is not shown. All numbers are the server's, so the page needs no script to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passoproxy.core.origin import in_words
from passoproxy.core.units import duration, size
from passoproxy.server.admin.html import (
    NOTHING,
    Html,
    clock_time,
    countdown,
    date_and_time,
    document,
    fill,
    join,
    rows,
    sentence,
    took,
)

Part = Mapping[str, Any]

_MOODS = {
    "ready": "good", "degraded": "warn", "unready": "bad",
    "valid": "good", "expired": "bad",
    "healthy": "good", "retrying": "warn", "unknown": "warn", "dead": "bad",
    "answering": "good", "failing": "bad", "away": "bad", "cooling_down": "warn",
    "log": "warn", "notify": "warn", "page": "bad",
    "hit": "good", "stale": "warn", "error": "bad", "warning": "warn",
}  # fmt: skip
_NO_PERSON = ("client_credentials", "static")
_SHORT = 0.35
"""The share of its life below which a runway is drawn as short."""


def status_page(status: Part, page_token: str, now: float, notice: str = "", way_in: str = "") -> Html:
    """The whole page. `now` is epoch seconds; `notice` is a sentence about what was just done.

    `page_token` is '' for a browser that may change nothing: it is shown `way_in`, the command that opens the page with a session.
    """
    token, cache, requests, origin = (_part(status, name) for name in ("token", "cache", "requests", "origin"))
    state, by_person = str(status.get("state", "unknown")), token.get("grant") not in _NO_PERSON
    runway, runway_style, until, share, mood = _runway(token, now)
    if _part(status, "gateway").get("mode") == "replay":
        runway, until = "Replaying", f"{sentence(str(status.get('reason', '')))}: no account, no network."
    ratio, limit = requests.get("hit_ratio"), cache.get("max_bytes")
    counts, lately = requests.get("by_cache") or {}, requests.get("per_second_lately") or []
    asked, lasted = origin.get("last_answer_at"), origin.get("last_duration_seconds")
    body = fill(
        "status",
        time=clock_time(now),
        state=_pill(state),
        notice=_if(notice, "notice", text=notice),
        warnings=join(_warning(each) for each in status.get("warnings") or []),
        runway=runway,
        runway_style=runway_style,
        until=until,
        bar=NOTHING if share is None else _bar(share, mood),
        access=_pill(token.get("access", "none")),
        chain=_pill(token.get("chain", "none")),
        next_refresh=_next_refresh(token, now),
        alert=_alert(_part(status, "alert")),
        why=_why(status, token, bool(page_token)),
        actions=_actions(token, page_token) if page_token else fill("way_in", command=way_in),
        hit_ratio=fill("figure", number="–", what="no requests yet")
        if ratio is None
        else fill("figure", number=f"{100 * ratio:.1f} %", what="hits"),
        cache_rows=rows(
            {
                "Entries": f"{cache.get('entries', 0):,}",
                "Stored": size(cache.get("bytes", 0)) + (f" of {size(limit)}" if limit else ""),
                "Evicted": f"{cache.get('evictions', 0):,}",
            }
        ),
        purge=_if(page_token and cache.get("entries"), "purge"),
        per_second=f"{requests.get('per_second', 0):.1f}",
        spark=_spark(lately),
        spark_width=max(1, len(lately)) * 4,
        traffic_rows=rows(
            {word: _count(counts.get(word)) for word in ("hit", "stale", "miss", "pass", "error")}
            | {"refused": _count(requests.get("refused"))}
        ),
        origin_state=_pill(str(origin.get("state", "silent")), in_words(str(origin.get("state", "silent")), asked=bool(origin.get("answers")))),
        origin_url=_if(origin.get("url"), "origin_url", url=origin.get("url")),
        origin_rows=rows(
            {
                "Last answer": f"{origin.get('last_status')}, {duration(now - asked)} ago" if asked else "",
                "It took": "" if lasted is None else took(lasted),
                "Answers": f"{origin.get('answers', 0):,}",
                "Failures": _count(origin.get("failures")),
            }
        ),
        origin_failure=_if(origin.get("last_failure"), "origin_failure", text=origin.get("last_failure")),
        requests=_table("requests", "No request yet.", [_request(seen) for seen in (requests.get("recent") or [])[:12]]),
        errors=_table("errors", "None.", [_error(seen) for seen in (status.get("recent_errors") or [])[:8]]),
        paste=fill("paste", form=fill("paste_form", page_token=page_token)) if by_person and page_token else NOTHING,
        footer=join(fill("footer_part", text=text) for text in _footer(status)),
    )  # fmt: skip
    return document(str(status.get("state", "status")), body)


# ---- the runway ------------------------------------------------------------------------------------------------------


def _runway(token: Part, now: float) -> tuple[Html | str, str, Html | str, float | None, str]:
    """The number and its style, the line below it, how much of it is left (None: no bar), and the bar's mood."""
    left, chain = token.get("runway_seconds"), token.get("chain", "none")
    if token.get("access", "none") == chain == "none":
        until = "passoproxy holds no pair: authorise it once, and it renews the pair by itself."
        return "Not authorised yet", "words", until, None, ""
    if left is None and token.get("grant") in _NO_PERSON:
        return "No person needed", "words", "This grant needs no person for a new token.", None, ""
    if left is None:
        until = "The provider tells no lifetime: the pair is refreshed hourly and served until it is refused."
        return "Unknown", "words warn", until, None, ""
    if chain == "dead":
        served = token.get("served_until") or token.get("access_until")
        rest = Html(f"The access token still serves for {countdown(served - now)}.") if served and served > now else ""
        return "A person is needed", "words bad", rest or "Only stored answers are served.", 0.0, "bad"
    obtained = token.get("obtained_at")
    whole = now + left - obtained if obtained is not None else 0.0
    share = left / whole if whole > 0 else 0.0
    mood = "warn" if share < _SHORT and chain != "healthy" else ""
    return countdown(left), mood, f"until {date_and_time(now + left)}", share, mood


def _bar(share: float, mood: str) -> Html:
    return fill("bar", mood=mood, width=f"{100 * min(1.0, max(0.0, share)):.1f}")


def _alert(alert: Part) -> Html:
    """The level, and by when a person is needed; nothing in health."""
    level, by = str(alert.get("level") or "none"), alert.get("deadline")
    if level == "none":
        return NOTHING
    needed = NOTHING if by is None else fill("needed", by=date_and_time(by))
    return fill("alert", level=_pill(level), needed=needed)


def _why(status: Part, token: Part, may_change: bool) -> Html:
    """Reason and remedy; loud only if something is wrong."""
    reason = sentence(token.get("reason") or status.get("reason"))
    is_loud = reason and token.get("chain") in ("retrying", "unknown", "dead")
    follows = ""
    if token.get("role") == "following":
        follows = "Another process holds the pair and renews it; this one follows."
        if token.get("alone"):
            follows = (
                "Another process holds the pair, and has not been heard for a while; the pair is not renewed meanwhile."
            )
    # The remedy's link leads to this page, which is open already.
    remedy = str(token.get("remedy") or "").replace(
        f" or open {token.get('link')}", ", or authorise here" if may_change else ""
    )
    unsaved = "" if token.get("saved", True) else "The pair is held in memory only: its folder cannot be written."
    lines = (
        fill("loud", text=reason) if is_loud else reason,
        _if(unsaved, "loud", text=unsaved),
        follows,
        sentence(remedy),
    )
    return join(fill("why", text=line) for line in lines if line)


def _next_refresh(token: Part, now: float) -> Html:
    due = token.get("next_refresh_at")
    if due is None or token.get("chain", "none") in ("none", "dead"):
        return NOTHING
    return fill("next_refresh", when=Html(f"in {countdown(due - now)}") if due > now else "now")


def _actions(token: Part, page_token: str) -> Html:
    able = token.get("chain", "none") in ("healthy", "retrying", "unknown") and token.get("handed_over_at") is None
    inner = _if(able, "refresh", page_token=page_token)
    if token.get("grant") not in _NO_PERSON:
        style, text = ("button", "Authorise again") if able else ("button primary", "Authorise")
        inner = join((fill("authorise", style=style, text=text), inner))
    return _if(inner, "actions", inner=inner)


# ---- the cards -------------------------------------------------------------------------------------------------------


def _spark(values: list[float]) -> Html:
    """Columns side by side, the highest as high as the picture."""
    top = max(values, default=0) or 1
    heights = [(place, 34 * value / top) for place, value in enumerate(values) if value]
    return join(
        fill("spark_column", x=place * 4, y=f"{36 - high:.1f}", height=f"{high:.1f}") for place, high in heights
    )


def _table(block: str, empty: str, shown: list[Html]) -> Html:
    return fill(block, rows=join(shown)) if shown else fill("empty", text=empty)


def _request(seen: Part) -> Html:
    status = seen["status"]
    return fill(
        "request",
        time=clock_time(seen["at"]),
        method=seen["method"],
        target=seen["target"],
        status=fill("word", mood="bad" if status >= 500 else "warn" if status >= 400 else "", text=status),
        cache=fill("word", mood=_mood(seen["cache"]), text=seen["cache"]),
        took=took(seen["duration_seconds"]),
    )


def _error(seen: Part) -> Html:
    level = fill("word", mood=_mood(seen["level"]), text=seen["level"])
    return fill("error", time=clock_time(seen["at"]), level=level, what=seen["what"], target=seen["target"])


def _warning(told: Part | str) -> Html:
    if not isinstance(told, Mapping):
        return fill("warning", when=NOTHING, text=sentence(told))
    at = told.get("at")
    when = NOTHING if at is None else fill("when", text=date_and_time(at))
    return fill("warning", when=when, text=sentence(told["detail"]))


def _footer(status: Part) -> list[str]:
    uptime, workers, listeners = (status.get(name) for name in ("uptime_seconds", "workers", "listeners"))
    parts = [
        f"passoproxy {status.get('version', '')}",
        "" if uptime is None else f"up for {duration(uptime)}",
        f"{len(workers)} workers" if workers else "",
        f"listening on {', '.join(map(str, listeners))}" if listeners else "",
        str(status.get("config") or ""),
    ]
    return [part for part in parts if part]


def _pill(state: object, text: str = "") -> Html:
    """A word in a capsule, coloured by its state."""
    return fill("pill", mood=_mood(state), text=text or state)


def _if(condition: object, block: str, **values: object) -> Html:
    return fill(block, **values) if condition else NOTHING


def _count(number: int | None) -> str:
    return f"{number:,}" if number else ""


def _part(status: Part, name: str) -> Part:
    part = status.get(name)
    return part if isinstance(part, Mapping) else {}


def _mood(word: object) -> str:
    return _MOODS.get(str(word), "")


# ---- the small pages -------------------------------------------------------------------------------------------------


def _small(title: str, inner: Html, *, wide: bool = False) -> Html:
    return document(title, fill("small", title=title, inner=inner, style="wider" if wide else ""))


def token_page(then: str, wrong: bool = False) -> Html:
    """Asks for the admin token, once; `then` is where to go on."""
    fault = _if(wrong, "problem", text="That is not the token of admin.token_file.")
    return _small("Admin token", fill("token", fault=fault, then=then))


def session_page(command: str, *, spent: bool = False) -> Html:
    """Says how a browser gets a page session; `spent`: the link that it came by is not good any more."""
    used = "This link was used before, or is older than ten minutes."
    fault = used if spent else "This browser may not change anything here."
    return _small("A page session is needed", fill("session", fault=fault, command=command), wide=True)


def purge_page(status: Part, page_token: str) -> Html:
    """Asks what of the cache is to go, and says what that means now."""
    cache, token, origin = (_part(status, name) for name in ("cache", "token", "origin"))
    entries, loss = cache.get("entries", 0), ""
    if token.get("access") != "valid":
        loss = (
            "There is no usable access token: nothing can be fetched now, and stored answers are all that clients get. "
            "Without them they get errors."
        )
    elif token.get("chain") == "dead":
        loss = (
            "The pair can no longer be renewed: what is emptied can be fetched again only while the access token lasts."
        )
    elif origin.get("state") == "failing":
        loss = "The API does not answer at present: what is emptied cannot be fetched again until it does."
    stored = f"{entries:,} stored {'answer' if entries == 1 else 'answers'}, {size(cache.get('bytes', 0))}"
    told = fill("problem", text=loss) if loss else fill("no_loss")
    return _small("Empty the cache?", fill("empty_cache", stored=stored, loss=told, page_token=page_token), wide=True)


def going_on_page(title: str, said: str, address: str) -> Html:
    """Leads on to `address`, for a browser that does not go there by itself."""
    return _small(title, fill("go_on", said=fill("notice", text=said), address=address))


def confirmation_page(address: str) -> Html:
    """Asks whether a login that another site began is meant; `address` goes on with it."""
    return _small("Authorise passoproxy?", fill("confirmation", address=address))


def elsewhere_page(url: str, page_token: str) -> Html:
    """Shows the provider's address for a person at another machine, and the field for what comes back."""
    inner = fill("elsewhere", url=url, form=fill("paste_form", page_token=page_token))
    return _small("Authorise on another machine", inner, wide=True)


def message_page(title: str, text: str, *, good: bool, login: str = "Try again") -> Html:
    """How something ended; `text` is one sentence with what to do. Unless it is good, `login` is the text of a button that begins a login."""
    again = _if(login and not good, "again", text=login)
    return _small(title, fill("message", mood="good" if good else "bad", text=sentence(text), again=again))
