"""The sandbox's pages: templates in `data/pages/`, one style sheet inside each page, no scripts, nothing loaded from elsewhere."""

from functools import cache
from html import escape
from importlib import resources
from string import Template

from aiohttp import web


@cache
def _template(name: str) -> Template:
    return Template(resources.files("passoproxy.sandbox.data").joinpath("pages", name).read_text("utf-8"))


def fill(name: str, **values: str) -> str:
    """A template with its values, which must be escaped already."""
    return _template(name).substitute(values)


def page(title: str, body: str, *, language: str = "en", narrow: bool = False) -> str:
    """A whole HTML document around `body`, which must be escaped already."""
    kind = ' class="narrow"' if narrow else ""
    return fill("page.html", language=escape(language), title=escape(title), kind=kind, body=body)


def answer(document: str, status: int = 200, **headers: str) -> web.Response:
    """A page as a response; `headers` are names with underscores."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(status=status, text=document, content_type="text/html", headers=fields)
