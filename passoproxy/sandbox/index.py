"""The first page: what this is, how to log in, what can be asked, and which faults are armed."""

from html import escape
from urllib.parse import urlencode

from aiohttp import web

from passoproxy.sandbox.faults import FAULTS, FaultSet
from passoproxy.sandbox.look import page
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.pointing import configuration_lines

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
