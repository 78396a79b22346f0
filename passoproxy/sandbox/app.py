"""The sandbox's own controls under `/__sandbox/`: faults, changes, and the journal.

The configuration lines that point a daemon at a sandbox.

The first page: what this is, how to log in, what can be asked, and which faults are armed.

The sandbox put together: one application with provider and origin, and a handle that starts and stops it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from email.utils import formatdate
from html import escape
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from passoproxy.sandbox.data.catalogue import countries
from passoproxy.sandbox.faults import FAULTS, FaultSet
from passoproxy.sandbox.html import page
from passoproxy.sandbox.journal import Journal, Noted, Recording
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.origin import api
from passoproxy.sandbox.origin.changes import Changes
from passoproxy.sandbox.origin.guard import Guard
from passoproxy.sandbox.origin.responses import Answers
from passoproxy.sandbox.provider.authorize import ACCOUNTS, AuthorizationEndpoint, is_loopback
from passoproxy.sandbox.provider.grants import Grants
from passoproxy.sandbox.provider.token_endpoint import TokenEndpoint

_PART = 500


class _Unusable(Exception):
    """A control request that cannot be carried out; its text says why."""


class Control:
    """Switches and looks at a running sandbox."""

    def __init__(self, faults: FaultSet, changes: Changes, journal: Journal) -> None:
        self._faults, self._changes, self._journal = faults, changes, journal

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/__sandbox/faults", self.show_faults),
            web.post("/__sandbox/faults", self.arm),
            web.post("/__sandbox/changes", self.change),
            web.get("/__sandbox/journal", self.show_journal),
            web.delete("/__sandbox/journal", self.clear_journal),
        ]

    async def show_faults(self, request: web.Request) -> web.StreamResponse:
        """What is armed, how often it will still strike (null: until switched off), how often it did; and all names."""
        return _json({"faults": [asdict(fault) for fault in self._faults.armed()], "known": FAULTS})

    async def arm(self, request: web.Request) -> web.StreamResponse:
        """`{"faults": ["NAME:N", …]}` replaces the whole set."""
        try:
            texts = _words(await _members(request, {"faults"}), "faults")
            self._faults.arm(texts)
        except (_Unusable, ValueError) as refused:
            return _json({"error": str(refused)}, 400)
        return await self.show_faults(request)

    async def change(self, request: web.Request) -> web.StreamResponse:
        """`{"countries": ["TR"], "important": true}` changes what is said about destinations."""
        try:
            members = await _members(request, {"countries", "important"})
            codes = [code.upper() for code in _words(members, "countries")]
            important = members.get("important", True)
            if not isinstance(important, bool):
                raise _Unusable("important must be true or false")
            for code in codes:
                if code not in countries():
                    raise _Unusable(f"no such country: {code!r}; known are {', '.join(countries())}")
        except _Unusable as refused:
            return _json({"error": str(refused)}, 400)
        self._changes.mark(codes, important=important)
        return _json({"countries": codes, "important": important})

    async def show_journal(self, request: web.Request) -> web.StreamResponse:
        """Requests from index `since` on, every token, and the index to go on from."""
        since = request.query.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            return _json({"error": "since must be a whole number from 0"}, 400)
        requests, following = self._journal.requests(int(since)), self._journal.next_index
        answer = web.StreamResponse(headers={"Cache-Control": "no-store", "Content-Type": "application/json"})
        await answer.prepare(request)
        await answer.write(b'{"requests": [')
        await _write(answer, requests)
        await answer.write(b'], "tokens": [')
        await _write(answer, self._journal.tokens())
        await answer.write(f'], "next": {following}}}'.encode())
        return answer

    async def clear_journal(self, request: web.Request) -> web.StreamResponse:
        self._journal.clear()
        return web.Response(status=204)


async def _write(answer: web.StreamResponse, items: Sequence[Noted]) -> None:
    """Writes the items of a JSON list in parts: a long journal is larger than what should be sent, or held, at once."""
    for start in range(0, len(items), _PART):
        part = json.dumps([item.describe() for item in items[start : start + _PART]])[1:-1]
        await answer.write(f"{', ' if start else ''}{part}".encode())


async def _members(request: web.Request, known: set[str]) -> dict[str, object]:
    try:
        members = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise _Unusable("the body must be JSON") from None
    if not isinstance(members, dict):
        raise _Unusable("the body must be a JSON object")
    for name in members:
        if name not in known:
            raise _Unusable(f"unknown member {name!r}; known are {', '.join(sorted(known))}")
    return members


def _words(members: dict[str, object], name: str) -> list[str]:
    value = members.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Unusable(f"{name} must be a list of strings")
    return value


def _json(members: dict[str, object], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, text=json.dumps(members), content_type="application/json", headers=headers)


def configuration_lines(base_url: str, options: SandboxOptions, *, secret: str | None = None) -> str:
    """YAML that can be put into a daemon's configuration as it is; `secret` shows another one than the real."""
    upstream: dict[str, object] = {"url": base_url}
    if not is_loopback(urlsplit(base_url).hostname or ""):
        upstream["allow_http"] = True
    oauth: dict[str, object] = {
        "authorization_url": f"{base_url}/oauth/authorize",
        "token_url": f"{base_url}/oauth/token",
        "revocation_url": f"{base_url}/oauth/revoke",
        "client_id": options.client_id,
        "client_secret": options.client_secret if secret is None else secret,
    }
    return "\n".join(["upstream:", *_lines(upstream), "oauth:", *_lines(oauth)]) + "\n"


def _lines(section: dict[str, object]) -> list[str]:
    """A JSON string is a YAML string, whatever is in it; plain ones are shown without quotes."""
    return [f"  {name}: {_shown(value)}" for name, value in section.items()]


def _shown(value: object) -> str:
    if isinstance(value, str) and value.startswith("http://") and not set(value) & set(" #\"'\\"):
        return value
    return json.dumps(value)


_SAMPLES = (
    ("Conditions", "/api/v2/content/all/html?lang=en&countries=TR&nat=DE"),
    ("Entry", "/api/v2/content/entry/json?lang=en&countries=ZA&nat=DE"),
    ("Visa", "/api/v2/content/visa/text?lang=en&countries=IN&nat=DE"),
    ("Transit visa", "/api/v2/content/transit_visa/text?lang=en&countries=US&nat=TR"),
    ("Health", "/api/v2/content/health/json?lang=en&countries=KE"),
    ("As PDF", "/api/v2/content/all/pdf?lang=de&countries=TH&nat=CH"),
    ("Countries", "/api/v2/countries?limit=10&page=2"),
    ("News", "/api/v2/infosystem/general?lang=en"),
    ("Changes", "/api/v2/information/updates?request_ids=…"),
)
_FREE = ("/api/v2/countries",)


class Index:
    """Serves `GET /`."""

    def __init__(self, options: SandboxOptions, faults: FaultSet) -> None:
        self._options, self._faults = options, faults

    async def show(self, request: web.Request) -> web.StreamResponse:
        base = f"{request.scheme}://{request.host}"
        body = "\n".join((_head(), _log_in(base, self._options), _samples(base), self._faults_card(base), _rest()))
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'",
        }
        return web.Response(text=page("passoproxy sandbox", body), content_type="text/html", headers=headers)

    def _faults_card(self, base: str) -> str:
        armed = {fault.name: fault for fault in self._faults.armed()}
        rows = "".join(
            f'<tr><td class="nowrap"><code>{name}</code></td><td>{escape(text)}</td><td class="nowrap">'
            + (f'<span class="tag">armed, {_left(armed[name].left)}</span>' if name in armed else "")
            + "</td></tr>"
            for name, text in FAULTS.items()
        )
        command = (
            f"curl -X POST {escape(base)}/__sandbox/faults -H 'Content-Type: application/json' "
            '-d \'{"faults": ["refresh_lost:1"]}\''
        )
        return (
            '<div class="card"><h2>Faults</h2><p>Switch them at run time; each call replaces the whole set, and '
            f"<code>NAME:N</code> strikes N times.</p><pre>{command}</pre><table>{rows}</table></div>"
        )


def _left(count: int | None) -> str:
    return "until switched off" if count is None else f"{count} left"


def _head() -> str:
    return (
        '<div class="head"><div class="badge">P</div><div><h1>passoproxy sandbox</h1>'
        '<p class="soft">A simulated authorization server and data service to develop against. All data are invented: '
        "not for travel decisions.</p></div></div>"
    )


def _log_in(base: str, options: SandboxOptions) -> str:
    query = {
        "client_id": options.client_id,
        "redirect_uri": options.redirect_uris[0] if options.redirect_uris else "http://127.0.0.1:8611/oauth/callback",
        "response_type": "code",
        "scope": "*",
        "state": "sample",
    }
    # The secret is shown only where it is the published default: the page has no login of its own.
    secret = options.client_secret if options.client_secret == "demo" else "your-client-secret"  # noqa: S105
    shown = configuration_lines(base, options, secret=secret)
    token = f"curl {base}/oauth/token -d grant_type=client_credentials -d client_id={options.client_id} -d client_secret={secret}"
    return (
        f'<div class="card"><h2>Log in</h2><p>Point a daemon here with these lines, then run '
        f"<code>passoproxy login</code>:</p><pre>{escape(shown)}</pre>"
        f'<p>Or look at the <a href="/oauth/authorize?{escape(urlencode(query))}">approval page</a> yourself, or take a '
        f"token for a script:</p><pre>{escape(token)}</pre></div>"
    )


def _samples(base: str) -> str:
    rows = "".join(f"<tr><td class=nowrap>{name}</td><td>{_sample(path)}</td></tr>" for name, path in _SAMPLES)
    return (
        '<div class="card"><h2>Ask</h2><p>With <code>Authorization: Bearer …</code>, except for countries, nationalities, '
        f"languages, health and version. Every <code>/content</code> path takes GET and POST.</p><table>{rows}</table></div>"
    )


def _sample(path: str) -> str:
    text = f"<code>{escape(path)}</code>"
    return f'<a href="{escape(path)}">{text}</a>' if path.startswith(_FREE) else text


def _rest() -> str:
    return (
        '<div class="card"><h2>Look behind</h2><table>'
        '<tr><td class="nowrap"><a href="/__sandbox/journal"><code>/__sandbox/journal</code></a></td><td>every request '
        "and every token, credentials hashed; <code>?since=N</code> goes on from there, DELETE clears</td></tr>"
        '<tr><td class="nowrap"><a href="/__sandbox/faults"><code>/__sandbox/faults</code></a></td><td>what is armed</td></tr>'
        '<tr><td class="nowrap"><code>/__sandbox/changes</code></td><td>POST <code>{"countries": ["TR"]}</code>: the rules '
        "change, and earlier answers get <code>has_important_changes</code></td></tr></table></div>"
    )


__all__ = ["CHANGES", "FAULTS", "GRANTS", "JOURNAL", "Sandbox", "build", "configuration_lines"]

MAX_BODY_BYTES = 1024 * 1024

JOURNAL = web.AppKey("journal", Journal)
ARMED = web.AppKey("faults", FaultSet)
GRANTS = web.AppKey("grants", Grants)
CHANGES = web.AppKey("changes", Changes)

Sleep = Callable[[float], Awaitable[object]]


def build(
    options: SandboxOptions, *, clock: Callable[[], float] = time.time, sleep: Sleep = asyncio.sleep
) -> web.Application:
    """The application; `clock` (epoch seconds) and `sleep` let a test or a drill have its own time."""
    journal, faults, changes = Journal(options.journal_size, clock), FaultSet(options.faults), Changes(clock)
    grants, answers = Grants(options, clock, journal), Answers(validators=options.validators)
    guard = Guard(options, grants, faults, answers, clock, sleep)
    application = web.Application(
        middlewares=[Recording(journal, options.latency, sleep).around], client_max_size=MAX_BODY_BYTES
    )
    application.add_routes(_provider(options, grants, faults, clock, sleep))
    application.add_routes(api.routes(options, clock, answers, guard, changes))
    application.add_routes(Control(faults, changes, journal).routes())
    application.router.add_get("/", Index(options, faults).show)
    application[JOURNAL], application[ARMED] = journal, faults
    application[GRANTS], application[CHANGES] = grants, changes
    application.on_response_prepare.append(_dated(clock))
    return application


def _provider(
    options: SandboxOptions, grants: Grants, faults: FaultSet, clock: Callable[[], float], sleep: Sleep
) -> list[web.RouteDef]:
    """The provider's routes, also under the language prefixes of older clients."""
    authorization = AuthorizationEndpoint(options, grants, clock)
    endpoint = TokenEndpoint(options, grants, faults, clock, sleep)
    found: list[web.RouteDef] = []
    for prefix in ("", "/en", "/de"):
        found += [
            web.get(f"{prefix}/oauth/authorize", authorization.show, allow_head=False),
            web.post(f"{prefix}/oauth/authorize", authorization.decide),
            web.post(f"{prefix}/oauth/token", endpoint.token),
            web.post(f"{prefix}/oauth/token/refresh", endpoint.token),
            web.post(f"{prefix}/oauth/revoke", endpoint.revoke),
        ]
    return found


def _dated(clock: Callable[[], float]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Dates answers by the sandbox's own clock, which may not be the machine's."""

    async def date(_: web.Request, answer: web.StreamResponse) -> None:
        answer.headers["Date"] = formatdate(clock(), usegmt=True)
        answer.headers["Server"] = "sandbox"

    return date


class Sandbox:
    """A sandbox that can be started and stopped within a running event loop."""

    def __init__(
        self, options: SandboxOptions, *, clock: Callable[[], float] = time.time, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.options = options
        self.application = build(options, clock=clock, sleep=sleep)
        self.base_url = ""
        self._runner: web.AppRunner | None = None

    @property
    def journal(self) -> Journal:
        return self.application[JOURNAL]

    @property
    def faults(self) -> FaultSet:
        return self.application[ARMED]

    @property
    def changes(self) -> Changes:
        return self.application[CHANGES]

    async def start(self) -> str:
        """Listens, and gives the base URL; an address that cannot be bound raises OSError."""
        # Short, since a request that a fault keeps waiting would hold up the end for nothing.
        runner = web.AppRunner(self.application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.host, self.options.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.base_url = _base_url(self.options.host, runner.addresses[0][1])
        return self.base_url

    async def close(self) -> None:
        """Stops listening and ends what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def issue_pair(self, subject: str = ACCOUNTS[0], scope: str = "*") -> dict[str, object]:
        """A fresh pair as the token endpoint would answer it, as if a person had approved it just now."""
        issued = self.application[GRANTS].approve(subject, scope, issuer=self.base_url)
        return {
            "token_type": "Bearer",
            "expires_in": int(issued.lifetime),
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token,
        }


def _base_url(host: str, port: int) -> str:
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
