"""The status page and the small pages: which blocks of `pages.html` are shown for which values. Reads nothing and decides nothing.

A status document may lack any part: what is not known is not shown. All numbers are the server's, so the page needs no script to be right. What it
says first is the business of `faces`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log

from passoproxy.core.origin import in_words
from passoproxy.core.units import duration, size
from passoproxy.server.admin.faces import NO_PERSON, Face, Part, face_of, part_of
from passoproxy.server.admin.html import NOTHING, Html, bars, document, fill, join, moment, phrase, rows, sentence, took

_MOODS = {
    "hit": "good", "stale": "warn", "error": "bad", "warning": "warn",
    "answering": "good", "failing": "bad", "away": "bad", "cooling_down": "warn",
}  # fmt: skip
_WINDOWS = (
    ("stale_if_error", "API away"),
    ("stale_if_unauthorized", "pair dead"),
    ("stale_while_revalidate", "while renewed"),
)
_REFRESHED = {
    "refresh": "renewed", "client_credentials": "renewed", "login": "a login", "import": "an import", "seed": "from the seed file",
    "static": "the static token", "unsent": "not sent", "answered": "an error that passes", "lost": "the answer was lost",
    "refused": "refused", "misconfigured": "the client is not accepted",
}  # fmt: skip
Columns = Sequence[tuple[str, str]]
"""Of each its heading, and its class: `wide`, `right`, `rare` (left out on a telephone) or ''."""
_ROUTE_COLUMNS: Columns = (
    ("Route", "wide"), ("Requests", "right"), ("Hit ratio", "right"), ("p50", "right"), ("p99", "right"), ("Stored", "right"), ("May serve stale", "wide"),
)  # fmt: skip
_FAST = 0.0002
"""Seconds below which latencies are drawn as if they were equal."""


def status_page(status: Part, page_token: str, now: float, notice: str = "", way_in: str = "") -> Html:
    """The whole page. `now` is epoch seconds; `notice` is a sentence about what was just done.

    `page_token` is '' for a browser that may change nothing: it is shown `way_in`, the command that opens the page with a session.
    """
    face, by_person = face_of(status, now), part_of(status, "token").get("grant") not in NO_PERSON
    requests, origin = part_of(status, "requests"), part_of(status, "origin")
    errors = [each for each in status.get("recent_errors") or [] if not each.get("listener")]
    own = [each for each in status.get("recent_errors") or [] if each.get("listener")]
    body = fill(
        "status",
        as_of=moment(now, now),
        notice=_if(notice, "notice", text=notice),
        face=face.name,
        headline=face.headline,
        told=join(fill("line", text=text) for text in face.told),
        also=_if(face.also, "also", text="; ".join(face.also)),
        actions=_if(face.button[0], "actions", inner=_button(*face.button, "primary", page_token)),
        way_in=_if(not page_token, "way_in", command=way_in),
        warnings=_warnings([each for each in status.get("warnings") or [] if not _is_told(each, face)], now),
        charts=_charts(part_of(status, "last_hour"), requests),
        errors=_if(errors, "errors", inner=_errors(errors, now, "errors-title")),
        routes=_routes(status),
        cache_rows=_cache(part_of(status, "cache")),
        purge=_if(part_of(status, "cache").get("entries"), "actions", inner=_button("purge", "Empty the cache …", "", page_token)),
        origin_url=origin.get("url") or "",
        origin_rows=_origin(origin, requests, now),
        most_used=_table("most-used", "top-title", (("Times", "right"), ("Request", "wide")), map(_used, status.get("most_used") or ()), "Nothing yet."),
        refreshes=_table(
            "refreshes", "pair-title", (("When", ""), ("What came of it", "wide"), ("Took", "right")),
            (_refresh(each, now) for each in (status.get("refreshes") or [])[:12]), "Nothing since the start.",
        ),
        pair_actions=_pairs_actions(status, face, page_token),
        requests=_table(
            "stream", "requests-title",
            (("Time", "rare"), ("Method", ""), ("Target", "wide"), ("Route", "rare"), ("Status", ""), ("Cache", ""), ("Took", "right")),
            (_request(seen, now) for seen in (requests.get("recent") or [])[:12]), "",
        ),
        paste=fill("paste", form=fill("paste_form", page_token=page_token)) if by_person and page_token else NOTHING,
        footer=join(fill("footer_part", text=text) for text in _footer(status)),
        admin_errors=_if(own, "admin_errors", count=sum(each.get("count", 1) for each in own), inner=_errors(own, now, "foot")),
    )  # fmt: skip
    plain = face.headline.plain()
    title = {"bad": f"(!) {plain}", "warn": f"! {plain}"}.get(face.mood, plain)
    return document(f"{title} · passoproxy", body, face.mood, fill("again_later"))


# ---- what a person can do --------------------------------------------------------------------------------------------


def _pairs_actions(status: Part, face: Face, page_token: str) -> Html:
    """What can be done with the pair beside what mends it."""
    token, chain = part_of(status, "token"), part_of(status, "token").get("chain", "none")
    has_pair, by_person = chain != "none" or token.get("access", "none") != "none", token.get("grant") not in NO_PERSON
    is_ours = token.get("handed_over_at") is None and token.get("grant") != "static"
    offered = {
        "refresh": ("Refresh now", is_ours and chain in ("healthy", "retrying", "unknown")),
        "authorise": ("Authorise again" if has_pair else "Authorise", by_person),
        "logout": ("Log out …", has_pair and token.get("grant") != "static"),
    }
    shown = [(name, text) for name, (text, is_open) in offered.items() if is_open and name != face.button[0]]
    return _if(shown, "actions", inner=join(_button(*each, "", page_token) for each in shown))


def _button(action: str, text: str, style: str, page_token: str) -> Html:
    """Without a session it leads to how to get one."""
    path = "/oauth/start" if action == "authorise" else f"/page/{action}"
    is_form = action == "refresh" and page_token  # what asks first is led to by a link
    return fill(
        "button" if is_form else "link",
        id=action,
        action=path,
        text=text,
        style=style,
        **({"page_token": page_token} if is_form else {}),
    )


# ---- figures ---------------------------------------------------------------------------------------------------------


def _charts(hour: Part, requests: Part) -> Html:
    minutes, ratio, slow = part_of(hour, "minutes"), hour.get("hit_ratio"), hour.get("p99_seconds")
    names = ("requests", "hit_ratio", "p50_seconds", "p99_seconds")
    asked, ratios, p50, p99 = (minutes.get(name) or [] for name in names)
    most, slowest, none = _top(asked), _top(p99), Html("–")
    figures = {"count": _count(hour.get("requests")) or "0", "rate": f"{requests.get('per_second') or 0:.1f}"}
    number = phrase("{count} <small>{rate} a second now</small>", **figures)
    shown = [("Requests", number, f"at most {most:,.0f} in a minute", _bars(asked, most))]
    number = none if ratio is None else phrase("{share} <small>from the cache</small>", share=f"{100 * ratio:.1f} %")
    shown += [("Hit ratio", number, "of what can be stored, by minute", _bars(ratios, 1.0))]
    latencies = {} if slow is None else {"p50": took(hour.get("p50_seconds") or 0.0), "p99": took(slow)}
    number = phrase("{p50} <small>p50</small> {p99} <small>p99</small>", **latencies) if latencies else none
    drawn = join(
        _bars([_height(each, slowest) for each in values], 1.0, kind)
        for values, kind in ((p99, "part"), (p50, "whole"))
    )
    shown += [
        (
            "Latency",
            number,
            f"median and 99th percentile by minute, at most {took(slowest)}, on a logarithmic scale",
            drawn,
        )
    ]
    return join(
        fill("chart", title=title, number=number, label=label, drawn=drawn) for title, number, label, drawn in shown
    )


def _bars(values: Sequence[float | None], top: float, kind: str = "whole") -> Html:
    return fill("bars", kind=kind, path=bars(values, top))


def _height(seconds: float | None, slowest: float) -> float | None:
    """The share of the chart's height: a hit of a millisecond is to be seen beside an answer of a second."""
    return None if seconds is None else log(1 + seconds / _FAST) / log(1 + slowest / _FAST)


def _top(values: Iterable[float | None]) -> float:
    return max((value for value in values if value), default=0) or 1


def _routes(status: Part) -> Html:
    """A row for each route that was used in the last hour or has something stored; the others are folded away."""
    figures = {each["route"]: each for each in part_of(status, "last_hour").get("routes") or []}
    policies = {each["name"]: each for each in status.get("routes") or []}
    names = sorted(
        dict.fromkeys((*policies, *figures)), key=lambda name: -(part_of(figures, name).get("requests") or 0)
    )
    used = [name for name in names if name in figures or policies[name].get("entries")]
    idle = [name for name in names if name not in used]

    def table(kind: str, names: list[str], label: str) -> Html:
        shown = (_route(name, part_of(policies, name), part_of(figures, name)) for name in names)
        return _table(kind, label, _ROUTE_COLUMNS, shown, "No request yet, and nothing stored.")

    return join(
        (
            table("routes", used, "routes-title"),
            _if(idle, "idle_routes", count=len(idle), inner=table("routes idle", idle, "idle")),
        )
    )


def _route(name: str, policy: Part, figures: Part) -> list[object]:
    windows = [f"{words} {duration(policy[key])}" for key, words in _WINDOWS if policy.get(key)]
    ratio, entries = figures.get("hit_ratio"), policy.get("entries")
    label = (
        phrase('{name} <span class="mono">{match}</span>', name=name, match=policy.get("match") or "")
        if name
        else "no route: never stored"
    )
    latency = [took(value) if (value := figures.get(key)) is not None else "" for key in ("p50_seconds", "p99_seconds")]
    return [
        label,
        _count(figures.get("requests")),
        "" if ratio is None else f"{100 * ratio:.1f} %",
        *latency,
        _count(entries),
        " · ".join(windows),
    ]


def _cache(cache: Part) -> Html:
    limit = cache.get("max_bytes")
    return rows(
        {
            "Entries": f"{cache.get('entries', 0):,}",
            "Stored": size(cache.get("bytes", 0)) + (f" of {size(limit)}" if limit else ""),
            "In memory": size(cache["memory_bytes"]) if cache.get("memory_bytes") else "",
            "Evicted": _count(cache.get("evictions")),
        }
    )


def _origin(origin: Part, requests: Part, now: float) -> Html:
    state, asked, lasted = (
        str(origin.get("state", "silent")),
        origin.get("last_answer_at"),
        origin.get("last_duration_seconds"),
    )
    return rows(
        {
            "Address": str(origin.get("url") or ""),
            "State": fill("word", mood=_mood(state), text=in_words(state, asked=bool(origin.get("answers")))),
            "Last answer": phrase(
                "{status}, {at}", status=origin.get("last_status"), at=moment(asked, now, form="second")
            )
            if asked
            else "",
            "It took": "" if lasted is None else took(lasted),
            "Answers": f"{origin.get('answers', 0):,}",
            "Failures": _count(origin.get("failures")),
            "Last failure": str(origin.get("last_failure") or ""),
            "Under way": _count(origin.get("in_flight")),
            "Refused here": _count(requests.get("refused")),
            "Places": f"{places['held']} of {places['limit']}, shared by {places['instances']}"
            if (places := part_of(origin, "places"))
            else "",
            "Daily budget": f"{budget['used']:,} of {budget['limit']:,}"
            if (budget := part_of(origin, "daily_budget"))
            else "",
        }
    )


# ---- tables ----------------------------------------------------------------------------------------------------------


def _table(kind: str, label: str, columns: Columns, shown: Iterable[Sequence[object]], empty: str) -> Html:
    """`label` is the id of its heading; `empty` is said in the place of a table without rows, unless it is ''."""
    lines = [
        fill(
            "table_row",
            cells=join(fill("cell", kind=style, text=cell) for cell, (_, style) in zip(cells, columns, strict=True)),
        )
        for cells in shown
    ]
    if not lines and empty:
        return fill("empty", text=empty)
    heads = join(fill("head", kind=style, text=text) for text, style in columns)
    return fill("table", kind=kind, label=label, heads=heads, rows=join(lines))


def _request(seen: Part, now: float) -> list[object]:
    status, target = seen["status"], seen["target"]
    return [
        moment(seen["at"], now, form="second"),
        seen["method"],
        fill("why_link", request=seen["request_id"], target=target) if seen.get("request_id") else target,
        seen.get("route") or "",
        fill("word", mood="bad" if status >= 500 else "warn" if status >= 400 else "", text=status),
        fill("word", mood=_mood(seen["cache"]), text=seen["cache"]),
        took(seen["duration_seconds"]),
    ]


def _used(used: Part) -> list[object]:
    return [f"{used['requests']:,}", f"{used['method']} {used['target']}"]


def _refresh(told: Part, now: float) -> list[object]:
    word, lasted = _REFRESHED.get(told["outcome"], told["outcome"]), told.get("duration_seconds")
    came = fill("word", mood="good" if told["renewed"] else "warn", text=word)
    detail = phrase("{came}: {detail}", came=came, detail=told["detail"]) if told["detail"] else came
    return [moment(told["at"], now, form="second"), detail, "" if lasted is None else took(lasted)]


def _errors(told: list[Part], now: float, label: str) -> Html:
    columns = (("Last", ""), ("Times", "right"), ("What", "wide"))
    return _table(
        "errors" if label != "foot" else "own-errors",
        label,
        columns,
        (_error(each, now) for each in told[:12]),
        "None.",
    )


def _error(seen: Part, now: float) -> list[object]:
    count = seen.get("count", 1)
    first = moment(seen["first_at"], now, form="second") if count > 1 else NOTHING
    said = {
        "level": fill("word", mood=_mood(seen["level"]), text=seen["level"]),
        "what": seen["what"],
        "target": seen["target"],
        "since": phrase(' <span class="when">since {at}</span>', at=first) if first else NOTHING,
    }
    return [moment(seen["at"], now, form="second"), f"{count:,} ×", phrase("{level} {what} {target}{since}", **said)]


def _is_told(warning: Part | str, face: Face) -> bool:
    return isinstance(warning, Mapping) and warning.get("code") == face.name


def _warnings(told: Sequence[Part | str], now: float) -> Html:
    def shown(each: Part | str) -> Html:
        if not isinstance(each, Mapping):
            return fill("warning", when=NOTHING, text=sentence(each))
        at = each.get("at")
        when = NOTHING if at is None else fill("when", text=moment(at, now))
        return fill("warning", when=when, text=sentence(each["detail"]))

    return _if(told, "warnings", rows=join(map(shown, told)))


def _footer(status: Part) -> list[str]:
    uptime, workers, listeners = (status.get(name) for name in ("uptime_seconds", "workers", "listeners"))
    gateway = part_of(status, "gateway")
    parts = [
        f"passoproxy {status.get('version', '')}",
        "" if uptime is None else f"up for {duration(uptime)}",
        f"{len(workers)} workers" if workers else "",
        f"listening on {', '.join(map(str, listeners))}" if listeners else "",
        str(status.get("config") or ""),
        f"recording into {gateway.get('directory')}" if gateway.get("mode") == "record" else "",
    ]
    return [part for part in parts if part]


def _if(condition: object, block: str, **values: object) -> Html:
    return fill(block, **values) if condition else NOTHING


def _count(number: int | None) -> str:
    return f"{number:,}" if number else ""


def _mood(word: object) -> str:
    return _MOODS.get(str(word), "")


# ---- the small pages -------------------------------------------------------------------------------------------------


def _small(title: str, inner: Html, *, wide: bool = False) -> Html:
    return document(f"{title} · passoproxy", fill("small", title=title, inner=inner, style="wider" if wide else ""))


def token_page(then: str, wrong: bool = False) -> Html:
    """Asks for the admin token, once; `then` is where to go on."""
    fault = _if(wrong, "problem", text="That is not the token of admin.token_file.")
    return _small("Admin token", fill("token", fault=fault, then=then))


def session_page(command: str, *, spent: bool = False) -> Html:
    """Says how a browser gets a page session; `spent`: the link that it came by is not good any more."""
    used = "This link was used before, or is older than ten minutes."
    fault = used if spent else "This browser may not change anything here."
    return _small("A page session is needed", fill("session", fault=fault, command=command), wide=True)


def _stored(cache: Part) -> str:
    entries = cache.get("entries", 0)
    return f"{entries:,} stored {'answer' if entries == 1 else 'answers'}"


def purge_page(status: Part, page_token: str) -> Html:
    """Asks what of the cache is to go, and says what that means now."""
    cache, token, origin = (part_of(status, name) for name in ("cache", "token", "origin"))
    loss = ""
    if cache.get("offline"):
        loss = "The API is not asked (cache.offline): stored answers are all that clients get, and what is emptied stays away."
    elif token.get("access") != "valid":
        loss = (
            "There is no usable access token: nothing can be fetched now, and stored answers are all that clients get. "
            "Without them they get errors."
        )
    elif token.get("chain") == "dead":
        loss = (
            "The pair can no longer be renewed: what is emptied can be fetched again only while the access token lasts."
        )
    elif origin.get("state") in ("failing", "away"):
        loss = "The API does not answer at present: what is emptied cannot be fetched again until it does."
    stored = f"{_stored(cache)}, {size(cache.get('bytes', 0))}"
    told = fill("problem", text=loss) if loss else fill("no_loss")
    return _small("Empty the cache?", fill("empty_cache", stored=stored, loss=told, page_token=page_token), wide=True)


def logout_page(status: Part, page_token: str) -> Html:
    """Asks whether the pair is to go, and says what that means now."""
    cache, token = part_of(status, "cache"), part_of(status, "token")
    then, after = "Clients get 503 for everything", "passoproxy has to be authorised anew"
    if token.get("grant") == "client_credentials":
        then, after = "Clients wait for another token", "another one is asked for at once"
    elif token.get("access") == "valid":
        then = "Clients get 503 at once"
    loss = f"{then}; {_stored(cache)} {'goes' if cache.get('entries') == 1 else 'go'}."
    return _small("Log out?", fill("log_out", loss=loss, after=after, page_token=page_token), wide=True)


def why_page(found: Part | None) -> Html:
    """Why a request was answered as it was: the explanation of the same request now; None if it is not remembered."""
    if found is None:
        text = "This request is not remembered any more. 'passoproxy explain' tells of any other."
        return _small("Why?", fill("why_page", verdict="Forgotten", reasons=NOTHING, note=text), wide=True)
    note = "As a request without fields would be answered now: those of the client, and a body, are not kept. 'passoproxy explain' takes both."
    reasons = join(fill("reason", text=sentence(each)) for each in found.get("reasons") or ())
    verdict = f"{found.get('method', '')} {found.get('target', '')}: {found.get('outcome', '')}"
    return _small("Why?", fill("why_page", verdict=verdict, reasons=reasons, note=note), wide=True)


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
