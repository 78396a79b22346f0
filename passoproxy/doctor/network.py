"""The servers outside: reached, trusted, and of the same time. Nothing that is secret is sent."""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from http.client import parse_headers
from typing import cast
from urllib.parse import urlsplit

from passoproxy import __version__
from passoproxy.compose.pipeline import Outward
from passoproxy.core.units import duration
from passoproxy.doctor.checks import Finding, Verdict, Visit, failure, good
from passoproxy.errors import ConfigurationError
from passoproxy.outbound.dial import DialFailed, endpoint_of

SOON = 14 * 86400.0
"""Seconds before a certificate's end from which on it is told."""

OFF, FAR_OFF = 10.0, 300.0
"""Seconds by which clocks may differ: beyond the first it is told, beyond the second tokens and freshness are wrong."""

ANSWER_WITHIN = 10.0


class _Question(asyncio.Protocol):
    """One HEAD request; `answered` has the head that came back, b'' if none did."""

    def __init__(self, request: bytes) -> None:
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.certificate_until: float | None = None
        self.tls = ""
        self._request, self._came = request, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer, spoken = transport.get_extra_info("peercert"), transport.get_extra_info("ssl_object")
        if peer:
            self.certificate_until = ssl.cert_time_to_seconds(peer["notAfter"])
        if spoken is not None:
            self.tls = f", {spoken.version()}"
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if b"\r\n\r\n" in self._came or len(self._came) > 64 * 1024:
            self._end(self._came)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(b"")

    def _end(self, head: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(head)


async def provider(visit: Visit) -> AsyncIterator[Finding]:
    """The token endpoint; nothing where a token is given, or recordings answer."""
    oauth = visit.loaded.settings.oauth
    if visit.recordings is None and oauth.grant != "static" and oauth.token_url:
        async for finding in _server(visit, "provider", oauth.token_url, "oauth.token_url"):
            yield finding


async def origin(visit: Visit) -> AsyncIterator[Finding]:
    """The service that requests are passed on to; nothing while recordings answer."""
    if visit.recordings is not None:
        return
    async for finding in _server(visit, "origin", visit.loaded.settings.upstream.url or "", "upstream.url"):
        yield finding


async def _server(visit: Visit, name: str, url: str, key: str) -> AsyncIterator[Finding]:
    endpoint, outward = endpoint_of(url, key), Outward(visit.loaded, visit.environ)
    path = urlsplit(url).path or "/"
    fields = f"Host: {endpoint.authority}\r\nUser-Agent: passoproxy/{__version__}\r\nConnection: close"
    dialer = outward.dialer(endpoint)
    began = time.monotonic()
    try:
        asked = await dialer.dial(lambda: _Question(f"HEAD {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode()))
    except DialFailed as error:
        yield failure(name, error)
        return
    proxy = outward.proxy_for(endpoint)
    way = f" through the proxy {proxy.host}:{proxy.port}" if proxy is not None else ""
    yield good(name, f"{endpoint.authority} reached in {(time.monotonic() - began) * 1000:.0f} ms{way}{asked.tls}")
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            head = await asked.answered
    except TimeoutError:
        head = b""
    finally:
        asked.transport.abort()
    if asked.certificate_until is not None:
        yield _certificate(f"{name} certificate", asked.certificate_until)
    if not head:
        seen = f"{endpoint.authority} took a connection, and gave no answer within {ANSWER_WITHIN:g} s"
        yield Finding(name, Verdict.FAILED, seen, f"check {key}: is it the right host and port?")
        return
    yield _clock(f"{name} clock", head)


def _certificate(name: str, until: float) -> Finding:
    left = until - time.time()
    seen = f"valid for {duration(left)} more"
    if left < SOON:
        return Finding(name, Verdict.WARNING, seen, "have it renewed: once it has ended, nothing is sent there")
    return good(name, seen)


def _clock(name: str, head: bytes) -> Finding:
    """HTTP has whole seconds."""
    now = time.time()
    fields = parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))
    try:
        off = now - parsedate_to_datetime(fields["Date"]).timestamp() - 0.5
    except (TypeError, ValueError):
        return Finding(name, Verdict.SKIPPED, "the answer has no Date to compare with")
    if abs(off) <= OFF:
        return good(name, "the same as here")
    seen = f"this machine's clock is {duration(abs(off))} {'ahead' if off > 0 else 'behind'}"
    remedy = "set it by NTP: 'timedatectl set-ntp true', or the host's clock for a container"
    return Finding(name, Verdict.FAILED if abs(off) > FAR_OFF else Verdict.WARNING, seen, remedy)


async def store(visit: Visit) -> AsyncIterator[Finding]:
    """The shared store, if there is one."""
    settings = visit.loaded.settings
    if settings.store.url is None:
        return
    from passoproxy.stores.redis_client import RedisLink

    link = RedisLink(settings.store.url, visit.loaded.secrets.store_password, settings.store.ca_file)
    began = time.monotonic()
    try:
        await asyncio.to_thread(link.fields, "passoproxy:doctor")
    finally:
        link.close()
    yield good("store", f"{link.shown} answered in {(time.monotonic() - began) * 1000:.0f} ms")


async def alerts(visit: Visit) -> AsyncIterator[Finding]:
    """The hooks can be called; a test alert is left to `passoproxy alert test`."""
    settings = visit.loaded.settings
    command, webhook = settings.alerts.command, visit.loaded.secrets.alerts_webhook
    if command is None and webhook is None:
        if settings.oauth.grant == "authorization_code":
            seen = "no hook: only the log and the status page say that a person is needed"
            yield Finding(
                "alerts", Verdict.WARNING, seen, "set alerts.command or alerts.webhook, and try 'passoproxy alert test'"
            )
        return
    if command is not None:  # a program that is missing is among the configuration's warnings
        yield good("alerts", f"alerts.command is {command[0]}; try it with 'passoproxy alert test'")
    if webhook is not None:
        try:
            endpoint = endpoint_of(webhook(), "alerts.webhook")
            dialer = Outward(visit.loaded, visit.environ).dialer(endpoint)
            (await dialer.dial(lambda: _Question(b""))).transport.abort()
        except (ConfigurationError, DialFailed) as error:
            yield failure("alerts", error)
        else:
            yield good("alerts", f"alerts.webhook: {endpoint.authority} reached; try it with 'passoproxy alert test'")
