"""`passoproxy demo`: sandbox and an authorised proxy in front of it, to try the product with no account."""

from __future__ import annotations

from typing import Annotated

from passoproxy.cli.options import UnreadConfigOption, flag, option, seconds_of


def demo(
    config: UnreadConfigOption = None,
    lifetime: Annotated[
        str,
        option(
            "--lifetime",
            "DURATION",
            "How long the sandbox's tokens live. They are renewed after two fifths of it.",
        ),
    ] = "5m",
    once: Annotated[bool, flag("--once", "End after the sample requests instead of staying until Ctrl-C.")] = False,
) -> int:
    """Start sandbox and proxy together: no account is needed.

    Sends sample requests, shows the answers, and stays until Ctrl-C.

    \b
    Example:
      passoproxy demo --once
    """
    seconds = seconds_of("--lifetime", lifetime, least=1.0)
    from passoproxy.demo import run

    return run(lifetime=seconds, stay=not once)
