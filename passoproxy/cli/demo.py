"""`passoproxy demo`: sandbox and an authorised proxy in front of it, to try the product with no account."""

from __future__ import annotations

from typing import Annotated

import typer

from passoproxy.cli.options import UnreadConfigOption, seconds_of


def demo(
    config: UnreadConfigOption = None,
    lifetime: Annotated[
        str,
        typer.Option(
            "--lifetime",
            metavar="DURATION",
            help="How long the sandbox's tokens live; the first renewal comes after two fifths of it.",
        ),
    ] = "5m",
    once: Annotated[
        bool, typer.Option("--once", help="End after the sample requests instead of staying until Ctrl-C.")
    ] = False,
) -> int:
    """Start sandbox and proxy on free ports, run sample requests, and stay until Ctrl-C."""
    seconds = seconds_of("--lifetime", lifetime, least=1.0)
    from passoproxy.demo import run

    return run(lifetime=seconds, stay=not once)
