"""The pages around the status page: the ways in, questions, and results of an authorisation. Each takes plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passoproxy.server.admin.html import document, e, form, sentence, size


def token_page(then: str, wrong: bool = False) -> str:
    """Asks for the admin token, once; `then` is where to go on."""
    fault = '<div class="note bad" role="alert">That is not the token of admin.token_file.</div>' if wrong else ""
    return _small(
        "Admin token",
        f"""{fault}<p>This daemon asks for the token of <span class="mono">admin.token_file</span> before it shows or does anything.</p>
<form method="post" action="/page/token"><input type="hidden" name="then" value="{e(then)}">
<label for="token">Token</label><div class="field"><input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button class="primary">Continue</button></div></form>""",
    )


def session_page(command: str, *, spent: bool = False) -> str:
    """Says how a browser gets a page session; `spent`: it came by a link that is good no more."""
    fault = (
        "This link was used before, or is older than ten minutes."
        if spent
        else "This browser may not change anything here."
    )
    return _small(
        "A page session is needed",
        f"""<div class="note" role="status">{fault}</div>
<p>Run this where passoproxy runs, as its user or root. It opens the status page so that it may change things:</p>
<p><code>{e(command)}</code></p>
<div class="actions"><a class="button primary" href="/">Status page</a></div>""",
        wide=True,
    )


def purge_page(status: Mapping[str, Any], page_token: str) -> str:
    """Asks what of the cache is to go, and says what that means now."""
    cache, token, origin = (status.get(name) or {} for name in ("cache", "token", "origin"))
    entries = cache.get("entries", 0)
    stored = f"{entries:,} stored {'answer' if entries == 1 else 'answers'}, {size(cache.get('bytes', 0))}"
    return _small(
        "Empty the cache?",
        f"""<p>{stored}.</p>{_loss(token, origin)}
{_choice("stale", page_token, "Mark all as stale", "primary", _STALE)}{_choice("all", page_token, "Empty the cache", "danger", _GONE)}
<div class="actions"><a class="button" href="/">Leave it as it is</a></div>""",
        wide=True,
    )


_STALE = "Each is asked for anew at its next use. Where the API or the pair is away, it still serves as far as its route allows."
_GONE = "Each is gone at once, and cannot be brought back."


def _loss(token: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Why what goes now does not come back, or what it costs."""
    if token.get("access") != "valid":
        why = "There is no usable access token: nothing can be fetched now, and stored answers are all that clients get. Without them they get errors."
    elif token.get("chain") == "dead":
        why = (
            "The pair can no longer be renewed: what is emptied can be fetched again only while the access token lasts."
        )
    elif origin.get("state") == "failing":
        why = "The API does not answer at present: what is emptied cannot be fetched again until it does."
    else:
        return "<p>What goes is fetched from the API again when it is asked for.</p>"
    return f'<div class="note bad" role="alert">{why}</div>'


def _choice(what: str, page_token: str, words: str, style: str, meaning: str) -> str:
    inner = f'<input type="hidden" name="what" value="{what}"><button class="{style}">{words}</button>'
    return f'<div class="choice">{form("/page/purge", page_token, inner)}<p>{meaning}</p></div>'


def going_on_page(title: str, said: str, address: str) -> str:
    """Leads on to `address`, for a browser that does not go there by itself."""
    return _small(
        title,
        f"""<div class="note good" role="status">{e(said)}</div>
<div class="actions"><a class="button primary" href="{e(address)}">Go on</a></div>""",
    )


def confirmation_page(address: str) -> str:
    """Asks whether a login that another site began is meant; `address` goes on with it."""
    return _small(
        "Authorise passoproxy?",
        f"""<p>Another site sent you here to authorise passoproxy with its provider. Go on only if you meant to:
the account that you approve with will be used for every request from then on.</p>
<div class="actions"><a class="button primary" href="{e(address)}">Go on</a><a class="button" href="/">Status page</a></div>""",
    )


def elsewhere_page(url: str, page_token: str) -> str:
    """Shows the provider's address for a person at another machine, and the field for what comes back."""
    return _small(
        "Authorise on another machine",
        f"""<p>Open this address where the account's owner is signed in, and approve:</p>
<label for="address">Address</label><input id="address" class="mono" readonly value="{e(url)}">
<p></p><p>The browser there then ends at an address that may not load. Copy it whole, and paste it here within ten minutes:</p>
{_paste_form(page_token)}""",
        wide=True,
    )


def message_page(title: str, text: str, *, good: bool, login: str = "Try again") -> str:
    """How something ended; `text` is one sentence with what to do. Where it is not good, `login` begins a login: its button, '' for none."""
    again = "" if good or not login else f'<a class="button" href="/oauth/start">{e(login)}</a>'
    return _small(
        title,
        f"""<div class="note {"good" if good else "bad"}" role="status">{e(sentence(text))}</div>
<div class="actions"><a class="button primary" href="/">Status page</a>{again}</div>""",
    )


def paste_field(page_token: str) -> str:
    """The field for a redirected URL."""
    return f"""<details class="card"><summary>Approved on another machine?</summary>
<p>Without a browser on this machine, <a href="/oauth/start?elsewhere=1">get the address</a> and open it elsewhere. After approving,
the browser there ends at an address that does not load. Paste it here:</p>
{_paste_form(page_token)}</details>"""


def _paste_form(page_token: str) -> str:
    return form(
        "/oauth/paste",
        page_token,
        '<label for="url">Redirected address</label><div class="field"><input id="url" name="url" class="mono" required autocomplete="off"'
        ' placeholder="http://127.0.0.1:8611/oauth/callback?code=…&amp;state=…"><button class="primary">Complete</button></div>',
    )


def _small(title: str, inner: str, *, wide: bool = False) -> str:
    style = "narrow wider" if wide else "narrow"
    return document(
        f"passoproxy: {title}",
        f'<main class="{style}"><div class="card"><img src="/assets/icon.svg" alt=""><h1>{e(title)}</h1>{inner}</div></main>',
    )
