"""What a person sees at the authorization endpoint, in English and German."""

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import urlsplit

from passoproxy.sandbox.look import page

_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "title": "Authorize {client}",
        "head": "{client} asks for access to your account",
        "account": "Signed in as",
        "back": "Sends you back to",
        "may": "The application will be able to",
        "all": "read and change everything that your account can (scope *)",
        "read": "read entry, visa and health requirements, and travel details",
        "renew": "renew this access by itself until you withdraw it",
        "scope": "use the scope {scope}",
        "approve": "Approve",
        "deny": "Deny",
        "note": "This is a sandbox: nobody's real account is touched, and the data are invented.",
    },
    "de": {
        "title": "{client} freigeben",
        "head": "{client} möchte auf Ihr Konto zugreifen",
        "account": "Angemeldet als",
        "back": "Danach weiter zu",
        "may": "Die Anwendung kann dann",
        "all": "alles lesen und ändern, was Ihr Konto darf (Scope *)",
        "read": "Einreise-, Visa- und Gesundheitsbestimmungen und Reisedetails lesen",
        "renew": "diesen Zugriff selbst erneuern, bis Sie ihn zurückziehen",
        "scope": "den Scope {scope} nutzen",
        "approve": "Zustimmen",
        "deny": "Ablehnen",
        "note": "Dies ist eine Sandbox: kein echtes Konto ist betroffen, und die Daten sind erfunden.",
    },
}


def approval_page(
    *,
    language: str,
    action: str,
    client_id: str,
    accounts: Sequence[str],
    scope: str,
    redirect_uri: str,
    hidden: Mapping[str, str],
) -> str:
    """The page that asks; its form posts `decision` (approve or deny), `account` and the hidden fields to `action`."""
    said = _TEXTS[language]
    fields = "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in hidden.items()
    )
    choices = "".join(f"<option>{escape(account)}</option>" for account in accounts)
    abilities = "".join(f"<li>{escape(text)}</li>" for text in _abilities(said, scope))
    body = f"""<form class="card" method="post" action="{escape(action)}">
{fields}
<div class="head"><div class="badge">{escape(client_id[:1].upper())}</div>
<h1>{escape(said["head"].format(client=client_id))}</h1></div>
<p>{said["may"]}</p>
<ul>{abilities}</ul>
<dl><dt><label for="account">{said["account"]}</label></dt><dd><select id="account" name="account">{choices}</select></dd>
<dt>{said["back"]}</dt><dd><code>{escape(_place(redirect_uri))}</code></dd></dl>
<div class="actions"><button type="submit" name="decision" value="deny">{said["deny"]}</button>
<button class="main" type="submit" name="decision" value="approve">{said["approve"]}</button></div>
<p class="note">{said["note"]}</p>
</form>"""
    return page(said["title"].format(client=client_id), body, language=language, narrow=True)


def error_page(reason: str) -> str:
    """What is shown where nobody may be redirected."""
    body = f"""<div class="card"><div class="head"><div class="badge warn">!</div><h1>This request cannot be authorized</h1></div>
<p>{escape(reason)}</p>
<p class="soft small">You were not sent back to the application, because its address cannot be trusted.</p></div>"""
    return page("Authorization failed", body, narrow=True)


def _abilities(said: Mapping[str, str], scope: str) -> list[str]:
    wide = not scope or "*" in scope.split()
    named = [] if wide else [said["scope"].format(scope=word) for word in scope.split()]
    return [said["all"] if scope and wide else said["read"], *named, said["renew"]]


def _place(redirect_uri: str) -> str:
    parts = urlsplit(redirect_uri)
    return parts.netloc + parts.path
