"""`passoproxy sandbox`: the simulated provider and origin."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

from passoproxy.cli.options import UnreadConfigOption, flag, option, seconds_of
from passoproxy.cli.output import say
from passoproxy.errors import ServiceUnreachable, UsageFailure

if TYPE_CHECKING:
    from passoproxy.sandbox.options import SandboxOptions


def sandbox(
    listen: Annotated[
        str, option("--listen", "HOST:PORT", "Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:8620",
    lifetime: Annotated[str, option("--lifetime", "DURATION", "How long access and refresh token live.")] = "1h",
    client_id: Annotated[str, option("--client-id", "ID", "The only client it knows.")] = "demo",
    client_secret: Annotated[str, option("--client-secret", "SECRET", "That client's secret.")] = "demo",  # noqa: S107 an invented one
    latency: Annotated[str, option("--latency", "DURATION", "Added before every answer.")] = "0ms",
    punish_reuse: Annotated[
        bool, flag("--punish-reuse", "Presenting a spent refresh token revokes the whole chain.")
    ] = False,
    revoke_old: Annotated[bool, flag("--revoke-old", "The old access token ends at rotation.")] = False,
    fault: Annotated[
        list[str] | None,
        option(
            "--fault", "NAME[:N]", "A fault from the start on, N times; repeatable. Without a value: lists the faults."
        ),
    ] = None,
    allow_replays: Annotated[
        int, option("--allow-replays", "N", "How often a spent refresh token works again.", min=0)
    ] = 0,
    quota: Annotated[
        int | None, option("--quota", "N", "Requests to the origin in 24 hours before 429.", min=0)
    ] = None,
    concurrency: Annotated[int, option("--concurrency", "N", "Requests at once before 429; 0: no limit.", min=0)] = 0,
    config: UnreadConfigOption = None,
) -> int:
    """Run a simulated provider and origin.

    At start it prints the configuration lines for a daemon that uses it.

    \b
    Example:
      passoproxy sandbox --lifetime 5m --fault refresh_lost:1
    """
    from passoproxy.sandbox.options import SandboxOptions

    host, port = _address(listen)
    try:
        options = SandboxOptions(
            host=host,
            port=port,
            lifetime=seconds_of("--lifetime", lifetime, least=1.0),
            client_id=client_id,
            client_secret=client_secret,
            latency=seconds_of("--latency", latency),
            punish_reuse=punish_reuse,
            revoke_old=revoke_old,
            faults=tuple(fault or ()),
            allow_replays=allow_replays,
            quota=quota,
            concurrency=concurrency,
        )
    except ValueError as error:
        raise UsageFailure(str(error)) from error
    import asyncio

    return asyncio.run(_serve(options))


def names() -> list[str]:
    """Every fault that `--fault` can name."""
    from passoproxy.sandbox.faults import FAULTS

    return list(FAULTS)


async def _serve(options: SandboxOptions) -> int:
    import asyncio

    from passoproxy.sandbox.app import Sandbox, configuration_lines

    running = Sandbox(options)
    try:
        base = await running.start()
    except OSError as error:
        # the event loop words it with the address as Python writes it; below 0 are the resolver's own numbers
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ServiceUnreachable(
            f"{options.host}:{options.port}: cannot listen there ({why}); choose another --listen"
        ) from error
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):  # before the line below: its reader may end this process at once
        loop.add_signal_handler(each, ended.set)
    say(f"The sandbox answers at {base} (Ctrl-C ends it). Point a daemon at it with these lines in its config.yaml:\n")
    say(configuration_lines(base, options))
    sys.stdout.flush()  # a pipe would have it at the end only
    try:
        await ended.wait()
    finally:
        await running.close()
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    valid = port.isascii() and port.isdigit() and int(port) <= 65535
    if not host.strip("[]") or not valid or host.startswith("[") != host.endswith("]"):
        raise UsageFailure(f"--listen {text!r} is no HOST:PORT, such as 127.0.0.1:8620")
    return host.strip("[]"), int(port)
