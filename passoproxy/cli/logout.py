"""`passoproxy logout`: revoke, erase, and end the cache partition."""

from __future__ import annotations

from typing import Annotated

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption
from passoproxy.cli.output import say, say_json


def logout(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    keep_cache: Annotated[bool, typer.Option("--keep-cache", help="Leave what is stored under this identity.")] = False,
) -> None:
    """Revoke the pair at the provider where it has a revocation endpoint, erase it, and end its cache partition."""
    from passoproxy.cli.daemons import handle, say_who

    held = handle(config, state)
    done = held.logout(keep_cache)
    if as_json:
        say_json({**done, "daemon": held.daemon})
        return
    say(f"logged out; {done.get('revocation', 'the provider was not asked')}")
    if not keep_cache:
        count = done.get("purged", 0)
        say(f"{count} stored {'entry' if count == 1 else 'entries'} of this identity erased")
    say_who(held)
