"""The status page: a daemon's status document rendered as HTML. Reads nothing and decides nothing; other pages are in `small_pages`.

The document may lack any part: what is not known is not shown. All numbers are the server's, so the page needs no script to be right.

The status page's handlers: showing it, letting a browser in, and its buttons. Guards on the buttons stand in `admin`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from passoproxy.core.origin import in_words
from passoproxy.core.units import duration
from passoproxy.errors import PassoproxyError, PersonNeeded
from passoproxy.server.admin import small_pages
from passoproxy.server.admin.api import form_of
from passoproxy.server.admin.auth import Guard
from passoproxy.server.admin.errors import CrossSite
from passoproxy.server.admin.html import (
    bar,
    clock_time,
    countdown,
    date_and_time,
    document,
    e,
    form,
    html,
    pairs,
    pill,
    sentence,
    size,
    sparkline,
    table,
    took,
    word,
)
from passoproxy.server.admin.interface import Steering
from passoproxy.server.admin.small_pages import paste_field

Part = Mapping[str, Any]

_MOODS = {
    "ready": "good", "degraded": "warn", "unready": "bad",
    "valid": "good", "expired": "bad",
    "healthy": "good", "retrying": "warn", "unknown": "warn", "dead": "bad",
    "answering": "good", "failing": "bad", "away": "bad", "cooling_down": "warn",
    "log": "warn", "notify": "warn", "page": "bad",
    "hit": "good", "stale": "warn", "error": "bad",
}  # fmt: skip
_NO_PERSON = ("client_credentials", "static")
_SHORT = 0.35
"""The share of its life below which a runway is drawn as short."""


def status_page(status: Part, page_token: str, now: float, notice: str = "", way_in: str = "") -> str:
    """The whole page. `now` is epoch seconds; `notice` is a sentence about what was just done.

    `page_token` is '' for a browser that may change nothing: it is told `way_in`, the command that lets it.
    """
    token = _part(status, "token")
    by_person = token.get("grant") not in _NO_PERSON
    body = f"""<div class="frame">
<header><img src="/assets/icon.svg" alt=""><h1>passoproxy</h1><span class="grow"></span>
<span class="when">{e(clock_time(now))} UTC</span>{pill(str(status.get("state", "unknown")), _mood(status.get("state")))}</header>
<div class="note bad" id="offline" role="status">passoproxy does not answer. The figures below are old; they return by themselves.</div>
<main><div id="live">
{f'<div class="note good" role="status">{e(notice)}</div>' if notice else ""}
{_warnings(status)}
{_hero(status, token, page_token, way_in, now)}
<div class="grid">{_cache(status, bool(page_token))}{_traffic(_part(status, "requests"))}{_origin(_part(status, "origin"), now)}</div>
{_requests(_part(status, "requests"))}
{_errors(status)}
</div>
{paste_field(page_token) if by_person and page_token else ""}
</main>
{_footer(status)}
</div>"""
    return document(f"passoproxy: {status.get('state', 'status')}", body)


# ---- the runway ------------------------------------------------------------------------------------------------------


def _hero(status: Part, token: Part, page_token: str, way_in: str, now: float) -> str:
    number, until, share = _runway(token, now)
    access, chain = token.get("access", "none"), token.get("chain", "none")
    return f"""<section class="card hero" aria-labelledby="runway-title"><h2 id="runway-title">Runway: time until a person is needed</h2>
{number}<p class="until">{until}</p>{bar(share, _runway_mood(token, share)) if share is not None else ""}
<div class="machines"><div>Access token {pill(str(access), _mood(access))}</div><div>Refresh chain {pill(str(chain), _mood(chain))}</div>
{_next_refresh(token, now)}{_alert(_part(status, "alert"))}</div>{_why(status, token, bool(page_token))}
{_actions(token, page_token) if page_token else _way_in(way_in)}</section>"""


def _alert(alert: Part) -> str:
    """The level, and by when somebody has to come; nothing in health."""
    level, by = str(alert.get("level") or "none"), alert.get("deadline")
    if level == "none":
        return ""
    needed = f" <span>A person is needed by {e(date_and_time(by))}</span>" if by is not None else ""
    return f'<div id="alert">Alert {pill(level, _mood(level))}{needed}</div>'


def _way_in(command: str) -> str:
    return f'<p class="why way-in">To authorise or change something here, run <code>{e(command)}</code> where passoproxy runs, as its user or root.</p>'


def _why(status: Part, token: Part, may_change: bool) -> str:
    """Reason and remedy; loud only where something is wrong."""
    reason = e(sentence(token.get("reason") or status.get("reason")))
    lines = [
        f"<b>{reason}</b>" if reason and token.get("chain") in ("retrying", "unknown", "dead") else reason,
        "" if token.get("saved", True) else "<b>The pair is held in memory only: its folder cannot be written.</b>",
        _follows(token),
        e(sentence(_remedy(token, may_change))),
    ]
    return "".join(f'<p class="why">{line}</p>' for line in lines if line)


def _follows(token: Part) -> str:
    if token.get("role") != "following":
        return ""
    if token.get("alone"):
        return "Another process holds the pair, and has not been heard for a while; nobody renews it meanwhile."
    return "Another process holds the pair and renews it; this one follows."


def _remedy(token: Part, may_change: bool) -> str:
    """What to do, for somebody who has this page open already."""
    here = ", or authorise here" if may_change else ""
    return str(token.get("remedy") or "").replace(f" or open {token.get('link')}", here)


def _runway(token: Part, now: float) -> tuple[str, str, float | None]:
    """The number, the line below it, and how much of it is left (None: no bar)."""
    left = token.get("runway_seconds")
    served = token.get("served_until") or token.get("access_until")
    if token.get("access", "none") == "none" and token.get("chain", "none") == "none":
        return (
            _words("Not authorised yet", ""),
            "passoproxy holds no pair: authorise it once, and it renews the pair by itself.",
            None,
        )
    if left is None:
        if token.get("grant") in _NO_PERSON:
            return _words("No person needed", ""), "This grant renews, or is renewed, without anybody.", None
        return (
            _words("Unknown", "warn"),
            "The provider tells no lifetime: the pair is refreshed hourly and served until it is refused.",
            None,
        )
    obtained = token.get("obtained_at")
    whole = now + left - obtained if obtained is not None else 0.0
    share = left / whole if whole > 0 else 0.0
    mood = _runway_mood(token, share)
    if token.get("chain") == "dead":
        rest = (
            f"The access token still serves for {countdown(served - now)}."
            if served and served > now
            else "Only stored answers are served."
        )
        return _words("A person is needed", "bad"), rest, 0.0
    return f'<p class="runway {mood}">{countdown(left)}</p>', f"until {e(date_and_time(now + left))}", share


def _words(text: str, mood: str) -> str:
    return f'<p class="runway words {mood}">{e(text)}</p>'


def _runway_mood(token: Part, share: float | None) -> str:
    if token.get("chain") == "dead":
        return "bad"
    return "warn" if share is not None and share < _SHORT and token.get("chain") != "healthy" else ""


def _next_refresh(token: Part, now: float) -> str:
    due = token.get("next_refresh_at")
    if due is None or token.get("chain", "none") in ("none", "dead"):
        return ""
    return f"<div><span>Next refresh {'in ' + countdown(due - now) if due > now else 'now'}</span></div>"


def _actions(token: Part, page_token: str) -> str:
    able = token.get("chain", "none") in ("healthy", "retrying", "unknown") and token.get("handed_over_at") is None
    refresh = form("/page/refresh", page_token, '<button id="refresh">Refresh now</button>') if able else ""
    if token.get("grant") in _NO_PERSON:
        return f'<div class="actions">{refresh}</div>' if refresh else ""
    style, text = ("button", "Authorise again") if able else ("button primary", "Authorise")
    return f'<div class="actions"><a id="authorise" class="{style}" href="/oauth/start">{text}</a>{refresh}</div>'


# ---- the cards -------------------------------------------------------------------------------------------------------


def _cache(status: Part, may_change: bool) -> str:
    cache = _part(status, "cache")
    ratio = _part(status, "requests").get("hit_ratio")
    limit = cache.get("max_bytes")
    stored = f"{size(cache.get('bytes', 0))}{f' of {size(limit)}' if limit else ''}"
    figure = f"{100 * ratio:.1f} % <small>hits</small>" if ratio is not None else "– <small>no requests yet</small>"
    rows = [
        ("Entries", f"{cache.get('entries', 0):,}"),
        ("Stored", e(stored)),
        ("Evicted", f"{cache.get('evictions', 0):,}"),
    ]
    purge = '<a id="purge" class="button" href="/page/purge">Empty the cache …</a>'
    actions = f'<div class="actions">{purge}</div>' if may_change and cache.get("entries") else ""
    return _card("Cache", f'<div class="figure">{figure}</div>{pairs(rows)}{actions}')


def _traffic(requests: Part) -> str:
    words = requests.get("by_cache") or {}
    rows = [(name, f"{words[name]:,}") for name in ("hit", "stale", "miss", "pass", "error") if words.get(name)]
    if requests.get("refused"):
        rows.append(("refused", f"{requests['refused']:,}"))
    figure = f'<div class="figure">{requests.get("per_second", 0):.1f} <small>requests a second</small></div>'
    return _card("Traffic", figure + sparkline(requests.get("per_second_lately") or []) + pairs(rows))


def _origin(origin: Part, now: float) -> str:
    state = str(origin.get("state", "silent"))
    said = in_words(state, asked=bool(origin.get("answers")))
    lasted, at = origin.get("last_duration_seconds"), origin.get("last_answer_at")
    rows = [
        ("Last answer", e(f"{origin.get('last_status')}, {duration(now - at)} ago") if at else ""),
        ("It took", e(took(lasted)) if lasted is not None else ""),
        ("Answers", f"{origin.get('answers', 0):,}"),
        ("Failures", f"{origin['failures']:,}" if origin.get("failures") else ""),
    ]
    address = f'<p class="mono address">{e(origin["url"])}</p>' if origin.get("url") else ""
    failure = origin.get("last_failure")
    why = f'<p class="failure"><span>Last failure</span> {e(failure)}</p>' if failure else ""
    return _card("Origin", f"<div>{pill(said, _mood(state))}</div>{address}{pairs(rows)}{why}")


def _requests(requests: Part) -> str:
    rows = [
        (
            e(clock_time(seen["at"])),
            e(seen["method"]),
            e(seen["target"]),
            word(seen["status"], "bad" if seen["status"] >= 500 else "warn" if seen["status"] >= 400 else ""),
            word(seen["cache"], _mood(seen["cache"])),
            e(took(seen["duration_seconds"])),
        )
        for seen in (requests.get("recent") or [])[:12]
    ]
    heads = [
        ("Time", "rare"),
        ("Method", ""),
        ("Target", "wide target"),
        ("Status", ""),
        ("Cache", ""),
        ("Took", "right"),
    ]
    inner = table(heads, rows) if rows else '<p class="empty">Nobody has asked yet.</p>'
    return _card("Last requests", inner)


def _errors(status: Part) -> str:
    rows = [
        (
            e(clock_time(seen["at"])),
            word(seen["level"], "bad" if seen["level"] == "error" else "warn"),
            e(f"{seen['what']} {seen['target']}"),
        )
        for seen in (status.get("recent_errors") or [])[:8]
    ]
    inner = table([("Time", ""), ("", ""), ("What", "wide")], rows) if rows else '<p class="empty">None.</p>'
    return _card("Recent errors", inner)


def _warnings(status: Part) -> str:
    return "".join(f'<div class="note">{_warning(told)}</div>' for told in status.get("warnings") or [])


def _warning(told: Part | str) -> str:
    if not isinstance(told, Mapping):
        return e(sentence(told))
    at = told.get("at")
    when = f'<span class="when">{e(date_and_time(at))}</span> ' if at is not None else ""
    return f"{when}{e(sentence(told['detail']))}"


def _footer(status: Part) -> str:
    parts = [f"passoproxy {status.get('version', '')}"]
    if status.get("uptime_seconds") is not None:
        parts.append(f"up for {duration(status['uptime_seconds'])}")
    if status.get("workers"):
        parts.append(f"{len(status['workers'])} workers")
    if status.get("listeners"):
        parts.append("listening on " + ", ".join(map(str, status["listeners"])))
    if status.get("config"):
        parts.append(str(status["config"]))
    return "<footer>" + "".join(f"<span>{e(part)}</span>" for part in parts) + "</footer>"


def _card(title: str, inner: str) -> str:
    return f'<section class="card"><h2>{e(title)}</h2>{inner}</section>'


def _part(status: Part, name: str) -> Part:
    part = status.get(name)
    return part if isinstance(part, Mapping) else {}


def _mood(word: object) -> str:
    return _MOODS.get(str(word), "")


_NOTICES = {
    "refreshed": "The pair was refreshed.",
    "softened": "All that is stored is stale now.",
    "purged": "The cache was emptied.",
}

_LOGINS = ("/oauth/start", "/oauth/start?elsewhere=1")
"""Where somebody may have been going who was asked for the admin token, apart from the status page."""


class Site:
    """The status page and its forms."""

    def __init__(self, daemon: Steering, guard: Guard, wall: Callable[[], float]) -> None:
        self._daemon, self._guard, self._wall = daemon, guard, wall

    async def status(self, request: web.Request) -> web.Response:
        if not self._guard.is_open_to(request):
            return html(small_pages.token_page("/"))
        notice = _NOTICES.get(request.query.get("done", ""), "")
        token = self._guard.page_token(request)
        way_in = "" if token else self._guard.sessions.command()
        return html(status_page(self._daemon.status(), token, self._wall(), notice, way_in))

    async def begin_session(self, request: web.Request) -> web.Response:
        """Lets the browser in that opens a link of `passoproxy page`."""
        if "prefetch" in request.headers.get("Sec-Purpose", ""):
            return web.Response(status=503)  # a browser that only looks ahead would use the link up
        # The page is led to by a navigation of its own: after a redirect from another site a browser would keep the new cookie back.
        answer = html(small_pages.going_on_page("Status page", "This browser may change things here now.", "/"))
        answer.headers["Refresh"] = "0; url=/"
        if not self._guard.begin_session(request, answer):
            return self._guard.way_in(spent=True)
        return answer

    async def take_token(self, request: web.Request) -> web.Response:
        """Takes the admin token from the page's form. The token itself vouches for who sends it; a browser has to come from here."""
        self._guard.check_same_site(request)
        if not self._guard.is_same_origin(request):
            raise CrossSite("the admin token is entered on the status page; elsewhere send it as Authorization: Bearer")
        form = await form_of(request)
        then = form.get("then", "") if form.get("then") in _LOGINS else "/"
        if not self._guard.is_token(form.get("token", "")):
            return html(small_pages.token_page(then, wrong=True), 401)
        if then == "/":
            answer = web.Response(status=303, headers={"Location": then})
        else:
            # A browser would judge the redirects of a form's answer by our form-action, and block the one to the provider.
            answer = html(small_pages.going_on_page("Admin token", "That is the token.", then))
            answer.headers["Refresh"] = f"0; url={then}"
        self._guard.remember(request, answer)
        return answer

    async def refresh(self, request: web.Request) -> web.Response:
        return await self._done(self._daemon.refresh(), "refreshed", "Not refreshed")

    async def ask_purge(self, request: web.Request) -> web.Response:
        """Asks what is meant, and says what it means now."""
        token = self._guard.page_token(request)
        if not token:
            return self._guard.way_in()
        return html(small_pages.purge_page(self._daemon.status(), token))

    async def purge(self, request: web.Request) -> web.Response:
        """Does what the person chose there."""
        match (await form_of(request)).get("what"):
            case "stale":
                return await self._done(self._daemon.purge({"all": True, "soft": True}), "softened", "Not done")
            case "all":
                return await self._done(self._daemon.purge({"all": True}), "purged", "Not emptied")
            case _:
                return await self.ask_purge(request)

    async def _done(self, work: Awaitable[object], word: str, failed: str) -> web.Response:
        try:
            await work
        except PassoproxyError as fault:
            login = "Authorise" if isinstance(fault, PersonNeeded) else ""
            return html(small_pages.message_page(failed, str(fault), good=False, login=login), 502)
        return web.Response(status=303, headers={"Location": f"/?done={word}"})
