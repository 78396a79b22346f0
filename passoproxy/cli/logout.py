"""`passoproxy logout`: revoke, erase, and end the cache partition."""

from __future__ import annotations

from typing import Annotated

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, flag


def logout(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    keep_cache: Annotated[bool, flag("--keep-cache", "Keep what is stored under this identity.")] = False,
) -> None:
    """Revoke and erase the pair, and end its cache partition.

    A provider without a revocation endpoint is not asked.

    \b
    Example:
      passoproxy logout --keep-cache
    """
    from passoproxy.cli.client import handle, report

    held = handle(config, state)
    body = {"keep_cache": keep_cache}
    done = held.call("POST", "/api/logout", body, lambda control: control.logout(keep_cache), keep=True)
    count = done.get("purged", 0)
    erased = [] if keep_cache else [f"{count} stored {'entry' if count == 1 else 'entries'} of this identity erased"]
    report(held, done, as_json, f"logged out; {done.get('revocation', 'the provider was not asked')}", *erased)
