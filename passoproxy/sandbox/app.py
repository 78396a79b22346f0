"""The sandbox put together: provider, origin, the controls under `/__sandbox/`, the first page; and a handle that starts and stops it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from email.utils import formatdate
from html import escape
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from passoproxy.sandbox import html
from passoproxy.sandbox.data.catalogue import countries
from passoproxy.sandbox.faults import FAULTS, FaultSet
from passoproxy.sandbox.journal import Journal, Noted, recording
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.origin import api
from passoproxy.sandbox.origin.call import Origin
from passoproxy.sandbox.origin.changes import Changes
from passoproxy.sandbox.origin.contents import operators, own
from passoproxy.sandbox.origin.trips import Trips
from passoproxy.sandbox.provider.authorize import ACCOUNTS, AuthorizationEndpoint, is_loopback
from passoproxy.sandbox.provider.grants import Grants
from passoproxy.sandbox.provider.token_endpoint import TokenEndpoint

MAX_BODY_BYTES = 1024 * 1024
Sleep = Callable[[float], Awaitable[object]]


class Sandbox:
    """A sandbox that can be started and stopped within a running event loop.

    `clock` (epoch seconds) and `sleep` let a test or a drill have its own time.
    """

    def __init__(
        self, options: SandboxOptions, *, clock: Callable[[], float] = time.time, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.options = options
        self.base_url = ""
        self.journal, self.faults = Journal(options.journal_size, clock), FaultSet(options.faults)
        self.changes, self.grants = Changes(clock), Grants(options, clock, self.journal)
        self._runner: web.AppRunner | None = None
        origin = Origin(options, clock, self.changes, own(clock), operators(clock), Trips(clock, self.changes))
        authorization = AuthorizationEndpoint(options, self.grants, clock)
        endpoint = TokenEndpoint(options, self.grants, self.faults, clock, sleep)
        self.application = web.Application(
            middlewares=[recording(self.journal, options.latency, sleep)], client_max_size=MAX_BODY_BYTES
        )
        self.application.add_routes(api.routes(origin, self.grants, self.faults, sleep))
        for prefix in ("", "/en", "/de"):  # the language prefixes of older clients
            self.application.add_routes(
                [
                    web.get(f"{prefix}/oauth/authorize", authorization.show, allow_head=False),
                    web.post(f"{prefix}/oauth/authorize", authorization.decide),
                    web.post(f"{prefix}/oauth/token", endpoint.token),
                    web.post(f"{prefix}/oauth/token/refresh", endpoint.token),
                    web.post(f"{prefix}/oauth/revoke", endpoint.revoke),
                ]
            )
        self.application.add_routes(
            [
                web.get("/", self._index),
                web.get("/__sandbox/faults", self._show_faults),
                web.post("/__sandbox/faults", self._arm),
                web.post("/__sandbox/changes", self._change),
                web.get("/__sandbox/journal", self._show_journal),
                web.delete("/__sandbox/journal", self._clear_journal),
            ]
        )

        async def date(_: web.Request, answer: web.StreamResponse) -> None:
            """By the sandbox's own clock, which may not be the machine's."""
            answer.headers["Date"] = formatdate(clock(), usegmt=True)
            answer.headers["Server"] = "sandbox"

        self.application.on_response_prepare.append(date)

    async def start(self) -> str:
        """Listens, and gives the base URL; an address that cannot be bound raises OSError."""
        # Short, since a request that a fault keeps waiting would hold up the end for nothing.
        runner = web.AppRunner(self.application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        host = self.options.host
        try:
            await web.TCPSite(runner, host, self.options.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
            host = "127.0.0.1"
        self.base_url = f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
        return self.base_url

    async def listen(self, listener: socket.socket) -> web.BaseSite:
        """Serves a further address, until the site is stopped or the sandbox closed."""
        assert self._runner is not None
        site = web.SockSite(self._runner, listener)
        await site.start()
        return site

    async def close(self) -> None:
        """Stops listening and ends what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def issue_pair(self, subject: str = ACCOUNTS[0], scope: str = "*") -> dict[str, object]:
        """A fresh pair as the token endpoint would answer it, as if a person had approved it just now."""
        issued = self.grants.approve(subject, scope, issuer=self.base_url)
        return {
            "token_type": "Bearer",
            "expires_in": int(issued.lifetime),
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token,
        }

    # ---- the controls ------------------------------------------------------------------------------------------------

    async def _show_faults(self, request: web.Request) -> web.StreamResponse:
        """What is armed, how often it will still strike (null: until switched off), how often it did; and all names."""
        return _json({"faults": [asdict(fault) for fault in self.faults.armed()], "known": FAULTS})

    async def _arm(self, request: web.Request) -> web.StreamResponse:
        """`{"faults": ["NAME:N", …]}` replaces the whole set."""
        try:
            self.faults.arm(_words(await _members(request, {"faults"}), "faults"))
        except ValueError as refused:
            return _json({"error": str(refused)}, 400)
        return await self._show_faults(request)

    async def _change(self, request: web.Request) -> web.StreamResponse:
        """`{"countries": ["TR"], "important": true}` changes what is said about destinations."""
        try:
            members = await _members(request, {"countries", "important"})
            codes = [code.upper() for code in _words(members, "countries")]
            important = members.get("important", True)
            if not isinstance(important, bool):
                raise ValueError("important must be true or false")
            for code in codes:
                if code not in countries():
                    raise ValueError(f"no such country: {code!r}; known are {', '.join(countries())}")
        except ValueError as refused:
            return _json({"error": str(refused)}, 400)
        self.changes.mark(codes, important=important)
        return _json({"countries": codes, "important": important})

    async def _show_journal(self, request: web.Request) -> web.StreamResponse:
        """Requests from index `since` on, every token, and the index to go on from."""
        since = request.query.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            return _json({"error": "since must be a whole number from 0"}, 400)
        requests, following = self.journal.requests(int(since)), self.journal.next_index
        answer = web.StreamResponse(headers={"Cache-Control": "no-store", "Content-Type": "application/json"})
        await answer.prepare(request)
        await answer.write(b'{"requests": [')
        await _write(answer, requests)
        await answer.write(b'], "tokens": [')
        await _write(answer, self.journal.tokens())
        await answer.write(f'], "next": {following}}}'.encode())
        return answer

    async def _clear_journal(self, request: web.Request) -> web.StreamResponse:
        self.journal.clear()
        return web.Response(status=204)

    # ---- the first page ----------------------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.StreamResponse:
        """What this is, how to log in, what can be asked, and which faults are armed."""
        base, options = f"{request.scheme}://{request.host}", self.options
        query = {
            "client_id": options.client_id,
            "redirect_uri": (*options.redirect_uris, "http://127.0.0.1:8611/oauth/callback")[0],
            "response_type": "code",
            "scope": "*",
            "state": "sample",
        }
        # The secret is shown only if it is the published default: the page has no login of its own.
        secret = options.client_secret if options.client_secret == "demo" else "your-client-secret"  # noqa: S105
        client = f"-d client_id={options.client_id} -d client_secret={secret}"
        left = {
            fault.name: "until switched off" if fault.left is None else f"{fault.left} left"
            for fault in self.faults.armed()
        }
        body = html.fill(
            "index.html",
            base=escape(base),
            configuration=escape(configuration_lines(base, options, secret=secret)),
            query=escape(urlencode(query)),
            token=escape(f"curl {base}/oauth/token -d grant_type=client_credentials {client}"),
            samples="".join(
                f"<tr><td class=nowrap>{name}</td><td>{_sample(path)}</td></tr>" for name, path in _SAMPLES
            ),
            faults="".join(
                f'<tr><td class="nowrap"><code>{name}</code></td><td>{escape(text)}</td><td class="nowrap">'
                + (f'<span class="tag">armed, {left[name]}</span>' if name in left else "")
                + "</td></tr>"
                for name, text in FAULTS.items()
            ),
        )
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
        document = html.page("passoproxy sandbox", body)
        return html.answer(document, Cache_Control="no-store", Content_Security_Policy=policy)


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


def _sample(path: str) -> str:
    text = f"<code>{escape(path)}</code>"
    return f'<a href="{escape(path)}">{text}</a>' if path.startswith("/api/v2/countries") else text


async def _write(answer: web.StreamResponse, items: Sequence[Noted]) -> None:
    """Writes the items of a JSON list in parts: a long journal is larger than what should be sent, or held, at once."""
    for start in range(0, len(items), 500):
        part = json.dumps([item.describe() for item in items[start : start + 500]])[1:-1]
        await answer.write(f"{', ' if start else ''}{part}".encode())


async def _members(request: web.Request, known: set[str]) -> dict[str, object]:
    """The body's members; raises ValueError with the reason if they cannot be used."""
    try:
        members = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise ValueError("the body must be JSON") from None
    if not isinstance(members, dict):
        raise ValueError("the body must be a JSON object")
    for name in members:
        if name not in known:
            raise ValueError(f"unknown member {name!r}; known are {', '.join(sorted(known))}")
    return members


def _words(members: dict[str, object], name: str) -> list[str]:
    value = members.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of strings")
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
    """Every value as JSON, which is YAML too; plain addresses without quotes."""
    return [
        f"  {name}: {value}"
        if isinstance(value, str) and value.startswith("http://") and not set(value) & set(" #\"'\\")
        else f"  {name}: {json.dumps(value)}"
        for name, value in section.items()
    ]
