"""A sandbox behind pytest-aiohttp's client, with time that the test moves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient
from yarl import URL

from passoproxy.sandbox.app import Sandbox
from passoproxy.sandbox.options import SandboxOptions
from tests.fakes import FakeClock

CALLBACK = "http://127.0.0.1:8611/oauth/callback"
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


class Waits:
    """Stands for sleeping: remembers how long, and lets go at once, or when the test opens the gate."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.fails_with: Exception | None = None

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.waiting.set()
        if self.fails_with is not None:
            raise self.fails_with
        if self.gate is not None:
            await self.gate.wait()


@dataclass
class Answer:
    """A response that was read to its end."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Form(HTMLParser):
    """The fields and buttons of the page's form."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action, self.method = "", ""
        self.fields: dict[str, str] = {}
        self.decisions: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self.action, self.method = found.get("action") or "", found.get("method") or ""
        elif tag == "input":
            self.fields[found.get("name") or ""] = found.get("value") or ""
        elif tag == "button" and found.get("name") == "decision":
            self.decisions.append(found.get("value") or "")


@dataclass
class Stand:
    """A sandbox, its clock, and a client."""

    sandbox: Sandbox
    client: TestClient[web.Request, web.Application]
    clock: FakeClock
    waits: Waits
    token: str = field(default="", repr=False)

    async def ask(self, path: str, method: str = "GET", **more: Any) -> Answer:
        url = self.sandbox.base_url + path if path.startswith("/") else path
        more.setdefault("allow_redirects", False)
        async with self.client.session.request(method, URL(url, encoded=True), **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def api(self, path: str, method: str = "GET", **more: Any) -> Answer:
        """A request to the origin with a valid token."""
        if not self.token:
            self.token = str(self.sandbox.issue_pair()["access_token"])
        headers = {"Authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        return await self.ask(f"/api/v2{path}", method, headers=headers, **more)

    async def page(self, prefix: str = "", **changes: str | None) -> Answer:
        """Opens the authorization page."""
        asked: dict[str, str | None] = {
            "client_id": "demo",
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "*",
            "state": "st&te",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        sent = {name: value for name, value in (asked | changes).items() if value is not None}
        return await self.ask(f"{prefix}/oauth/authorize", params=sent)

    async def decide(self, page: Answer, decision: str = "approve", **more: str) -> Answer:
        form = Form(page.text)
        return await self.ask(form.action, "POST", data={**form.fields, "decision": decision, **more})

    async def code(self, **changes: str | None) -> str:
        """A code, as a person gets it by approving."""
        back = await self.decide(await self.page(**changes))
        assert back.status == 302, back
        return parse_qs(urlsplit(back.headers["Location"]).query)["code"][0]

    async def exchange(self, code: str, **changes: str | None) -> Answer:
        return await self.grant(
            grant_type="authorization_code",
            code=code,
            **{"redirect_uri": CALLBACK, "code_verifier": VERIFIER, **changes},
        )

    async def pair(self) -> dict[str, Any]:
        """A pair by the whole flow."""
        answer = await self.exchange(await self.code())
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    async def grant(self, *, path: str = "/oauth/token", **fields: str | None) -> Answer:
        """A token request with a JSON body and credentials in it."""
        sent: dict[str, str | None] = {"client_id": "demo", "client_secret": "demo", **fields}
        return await self.ask(path, "POST", json={name: value for name, value in sent.items() if value is not None})

    async def refresh(self, token: str, **more: str | None) -> Answer:
        return await self.grant(grant_type="refresh_token", refresh_token=token, **more)

    def last(self) -> Any:
        """The journal's newest entry."""
        return self.sandbox.journal.requests()[-1]

    def tokens(self) -> list[dict[str, Any]]:
        """The journal's tokens."""
        return [token.describe() for token in self.sandbox.journal.tokens()]

    def record(self, hash_: str) -> dict[str, Any]:
        """A token of the journal."""
        return next(each for each in self.tokens() if each["hash"] == hash_)


Started = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def started(aiohttp_client: AiohttpClient) -> AsyncIterator[Started]:
    """Makes sandboxes with the options that the test needs."""
    running: list[Stand] = []

    async def start(**options: Any) -> Stand:
        clock, waits = FakeClock(), Waits()
        sandbox = Sandbox(replace(SandboxOptions(port=0), **options), clock=clock.wall, sleep=waits)
        client = await aiohttp_client(sandbox.application)
        sandbox.base_url = str(client.make_url("")).rstrip("/")
        running.append(Stand(sandbox, client, clock, waits))
        return running[-1]

    yield start
    for stand in running:
        if stand.waits.gate is not None:
            stand.waits.gate.set()


@pytest.fixture
async def stand(started: Started) -> Stand:
    """A sandbox with ordinary options."""
    return await started()


def secrets_in(text: str) -> list[str]:
    """What looks like a token in clear."""
    return re.findall(r"eyJ[\w-]{10,}|def[0-9a-f]{40,}", text)
