"""`passoproxy page`: the status page, opened by a link that allows changes."""

from __future__ import annotations

import sys
from typing import Annotated

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, flag
from passoproxy.cli.output import note, say, say_json


def page(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    only_print: Annotated[bool, flag("--print", "Print the link instead of opening a browser.")] = False,
) -> None:
    """Open the status page by a link that allows changes.

    The link works once, within ten minutes.

    \b
    Example:
      passoproxy page --print
    """
    from passoproxy.cli.browser import opened
    from passoproxy.cli.client import meant

    remote = meant(config, state)
    link = remote.ask("POST", "/api/page", {})
    if as_json:
        say_json({**link, "daemon": remote.daemon})
        return
    opening = None if only_print else opened(link["url"])
    if opening is not None:
        note(
            "The status page was opened in a browser. If it shows nothing, open this address yourself, within ten minutes:"
        )
    elif not only_print:
        note("Open this address in a browser, within ten minutes; it is good once:")
    say(link["url"])
    if link["socket"]:
        note(
            f"passoproxy: the page is on the socket {link['socket']} alone: put the address that leads your browser there"
            " in the place of http://localhost, or set admin.public_url"
        )
    if opening is not None:
        sys.stdout.flush()
        opening.wait()
