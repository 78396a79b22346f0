"""The admin listener, the probes' listener and `control.sock` of a wired daemon.

Imported when the proxy listener answers already: aiohttp's server takes a while to import.
"""

from __future__ import annotations

import contextlib
import secrets

from passoproxy.compose.instance import Wired
from passoproxy.compose.listeners import Bound
from passoproxy.compose.pipeline import limits_of
from passoproxy.config.load import Loaded
from passoproxy.host.control_server import ControlSite
from passoproxy.server.acceptor import Acceptor
from passoproxy.server.admin.app import admin_application, control_application, probe_application
from passoproxy.server.admin.auth import AdminAccess
from passoproxy.server.admin.runner import AdminRunner


async def serve(wired: Wired, bound: Bound, control: ControlSite, stack: contextlib.AsyncExitStack) -> None:
    """Takes connections from the sockets of `bound` and from `control`, until `stack` ends."""
    watch = wired.telemetry.live.watch
    admin = admin_application(
        wired.control,
        _access(wired.loaded),
        wired.pages,
        wired.exposition,
        watch,
        wired.observer,
        wired.clock.wall,
        lambda url: wired.telemetry.recent.redactor.target(url),
    )
    probes = probe_application(wired.control, wired.exposition, wired.observer)
    for app, sockets in ((admin, bound.admin), (probes, bound.probes)):
        if sockets:
            runner = AdminRunner(app, limits_of(wired.loaded.settings), wired.observer)
            wired.admin_runners.append(runner)
            wired.descriptors.tables.append(runner.table)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            for sock in sockets:
                stack.callback(Acceptor(sock, runner.take, wired.descriptors).close)
            stack.callback(bound.forget, sockets)
    await control.start(control_application(wired.control, wired.pages, wired.exposition, watch, wired.observer))


def _access(loaded: Loaded) -> AdminAccess:
    admin, token = loaded.settings.admin, loaded.secrets.admin_token
    return AdminAccess(
        page_secret=secrets.token_bytes(32),
        allowed_hosts=admin.allowed_hosts,
        token=token if token is not None else lambda: None,
        token_name="" if admin.token_file is None else str(admin.token_file),
        public_url=admin.public_url or "",
        redirect_url=loaded.settings.oauth.redirect_url,
    )
