"""The daemon's own part: its listeners, its token, and one request on the whole way to the origin and back.

If no daemon runs on these folders, one is started for the request, on a free port, and ended: as `serve` would, it may renew the pair.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from passoproxy.compose.pipeline import named_keys
from passoproxy.config.load import Loaded, load
from passoproxy.config.sources import with_values
from passoproxy.config.types import Address, TcpAddress, UnixAddress
from passoproxy.core.access import KEY_FIELD
from passoproxy.daemon import Daemon
from passoproxy.doctor.checks import Data, Finding, Verdict, Visit, good
from passoproxy.errors import Offline
from passoproxy.folders import folder_in_use
from passoproxy.host.system import why_taken

WITHIN = 30.0
"""Seconds for the one request: a refresh and a queue may come first."""

_MOST_READ = 1024 * 1024


async def listeners(visit: Visit) -> AsyncIterator[Finding]:
    """Each is served by our daemon, or free; and who could reach it."""
    settings = visit.loaded.settings
    for key, addresses in (
        ("server.listen", settings.server.listen),
        ("admin.listen", settings.admin.listen),
        ("admin.probe_listen", settings.admin.probe_listen),
    ):
        for address in addresses:
            yield _listener(visit, key, address)


def _listener(visit: Visit, key: str, address: Address) -> Finding:
    reach = "other machines can reach it" if address.beyond_loopback else "this machine only"
    if visit.status is not None:
        served = " ".join(map(str, visit.status.get("listeners") or ()))  # type: ignore[call-overload]
        if str(address) in served or (isinstance(address, TcpAddress) and address.port == 0):
            return good(key, f"{address} is served by the running daemon; {reach}")
        seen = f"{address} is not served by the running daemon, which has {served or 'none'}"
        return Finding(key, Verdict.WARNING, seen, "listeners change with a restart: restart the daemon")
    match address:
        case TcpAddress(host, port):
            if not (why := why_taken(host, port)):
                return good(key, f"{address} is free; {reach}")
            seen = f"{address}: nothing can listen there ({why})"
            return Finding(key, Verdict.FAILED, seen, f"end the program that does ('ss -ltnp'), or change {key}")
        case UnixAddress(path):
            folder = Path(path).parent
            if folder.is_dir() and os.access(folder, os.W_OK):
                return good(key, f"{address}: can be made")
            return Finding(
                key, Verdict.FAILED, f"{address}: {folder} is no folder that this user may write", f"change {key}"
            )
    return Finding(key, Verdict.SKIPPED, f"{address} is passed by the service manager")


async def answers(visit: Visit) -> AsyncIterator[Finding]:
    """The token, and what came back for one request."""
    if visit.status is not None:
        if visit.recordings is None:
            yield _token(visit.status["token"])  # type: ignore[arg-type]
        yield await _asked(visit, visit.status)
        return
    folder = folder_in_use(visit.loaded.settings.state.folder)
    if visit.loaded.settings.oauth.grant == "authorization_code":
        try:
            owner = folder.stat().st_uid
        except FileNotFoundError:
            yield Finding("token", Verdict.FAILED, "nobody has authorised passoproxy yet", "run 'passoproxy login'")
            return
        except OSError as error:
            yield Finding(
                "token", Verdict.SKIPPED, f"{folder}: {error.strerror}", "see the finding of the state folder"
            )
            return
        if owner != os.geteuid():
            seen = f"no daemon runs, and {folder} belongs to user id {owner}"
            yield Finding("token", Verdict.SKIPPED, seen, "start the daemon, or run this as that user")
            return
    if visit.loaded.settings.store.url is not None:
        yield Finding(
            "request", Verdict.SKIPPED, "no daemon runs, and the pair is in the shared store", "start the daemon"
        )
        return
    with tempfile.TemporaryDirectory(prefix="passoproxy-doctor-") as scratch:
        async with Daemon(_beside(visit, Path(scratch))).running() as wired:
            asked = await _asked(visit, wired.control.status())
            if visit.recordings is None:
                yield _token(wired.control.status()["token"])  # type: ignore[arg-type]
            yield asked


def _beside(visit: Visit, scratch: Path) -> Loaded:
    """The configuration for a daemon that is started for one request: it has the pair and nothing else of the real one."""
    values: dict[str, object] = {
        "server.listen": "127.0.0.1:0",
        "server.workers": 1,
        "admin.listen": False,
        "admin.probe_listen": None,
        "cache.directory": str(scratch / "cache"),
        "gateway.record": None,
        "log.level": "error",
        "log.access": False,
    }
    has_pair = visit.loaded.settings.oauth.grant == "authorization_code"
    values["state.directory"] = str(visit.loaded.settings.state.folder if has_pair else scratch / "state")
    return load(visit.loaded.path, with_values(visit.environ, values))


def _token(token: Data) -> Finding:
    access, chain, grant = token["access"], token["chain"], token["grant"]
    seen = f"access token {access}, chain {chain}" if grant == "authorization_code" else f"access token {access}"
    seen += f": {token['reason']}" if token["reason"] else ""
    if access == "valid" and (chain == "healthy" or grant != "authorization_code"):
        return good("token", seen)
    verdict = Verdict.WARNING if access == "valid" and chain in ("retrying", "unknown") else Verdict.FAILED
    return Finding("token", verdict, seen, str(token["remedy"] or "see 'passoproxy token status'"))


# ---- one request -----------------------------------------------------------------------------------------------------

_ABOUT_THE_PATH = frozenset(("path_not_allowed", "method_not_allowed", "not_here"))


async def _asked(visit: Visit, status: Data) -> Finding:
    """What came back for the one request by way of the proxy's listener."""
    proxies = [str(each).removeprefix("proxy ") for each in status["listeners"] if str(each).startswith("proxy ")]  # type: ignore[attr-defined]
    settings = visit.loaded.settings
    if not proxies or settings.server.tls.client_ca_file is not None:
        why = "clients need a certificate" if proxies else "the daemon has no listener for it"
        return Finding("request", Verdict.SKIPPED, why)
    began = time.monotonic()
    try:
        code, fields, body = await asyncio.to_thread(_exchanged, visit, proxies[0])
    except (OSError, http.client.HTTPException) as error:
        seen = f"{proxies[0]} gave no answer ({getattr(error, 'strerror', None) or type(error).__name__})"
        return Finding("request", Verdict.FAILED, seen, "see the daemon's log")
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    seen = f"GET {visit.path}: {code} in {took}, {fields.get('Cache-Status', 'no Cache-Status')}"
    if (own := _problem(body)) is not None and "Proxy-Status" in fields:
        word, detail = own
        if word == Offline.code and visit.recordings is not None:
            seen = f"GET {visit.path}: {detail}"
            return Finding("request", Verdict.WARNING, seen, "name a recorded path with --path")
        verdict = Verdict.WARNING if word in _ABOUT_THE_PATH else Verdict.FAILED
        remedy = (
            "name another path with --path"
            if word in _ABOUT_THE_PATH
            else "see the daemon's log and 'passoproxy status'"
        )
        return Finding("request", verdict, f"GET {visit.path}: {code} {word}: {detail}", remedy)
    if code in (401, 403):
        return Finding(
            "request",
            Verdict.FAILED,
            f"{seen}: the origin does not accept the token",
            "check the account's rights, then log in anew",
        )
    if code >= 500:
        return Finding("request", Verdict.FAILED, seen, "the origin fails: wait, or ask its operator")
    if code >= 400:
        return Finding("request", Verdict.WARNING, seen, "name a path that the origin has with --path")
    return good("request", seen)


def _exchanged(visit: Visit, proxy: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Raises OSError and HTTPException."""
    settings, keys = visit.loaded.settings, visit.loaded.secrets.client_keys
    fields = {"Host": settings.server.allowed_hosts[0], "Cache-Control": "no-cache", "Connection": "close"}
    if keys is not None:
        fields[KEY_FIELD] = named_keys(keys())[0][1]
    connection = _Connection(proxy)
    try:
        connection.request("GET", f"{settings.server.base_path}{visit.path}", headers=fields)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read(_MOST_READ)
    finally:
        connection.close()


def _problem(body: bytes) -> tuple[str, str] | None:
    """Code and detail of a problem document; None for anything else."""
    try:
        found = json.loads(body)
        return str(found["code"]), str(found.get("detail", ""))
    except (ValueError, KeyError, TypeError):
        return None


class _Connection(http.client.HTTPConnection):
    """To a listener of this machine's own daemon, by the name that the daemon gives it. Its certificate is not judged: it may bear a public
    name, and the way does not leave the machine.
    """

    def __init__(self, listener: str) -> None:
        super().__init__("localhost", timeout=WITHIN)
        self._listener = listener

    def connect(self) -> None:
        if self._listener.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(WITHIN)
            self.sock.connect(self._listener.removeprefix("unix:"))
            return
        parts = urlsplit(self._listener)
        at = TcpAddress(parts.hostname or "", parts.port or 0).reached_at
        self.sock = socket.create_connection((at.host, at.port), WITHIN)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
