"""`passoproxy quit`: ends the running daemon in order, and waits for its end."""

from __future__ import annotations

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption


def quit(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """End the running daemon, as SIGTERM does, and wait for it.

    Exit 3 if none is running.

    \b
    Example:
      passoproxy quit --state /var/lib/passoproxy
    """
    from passoproxy.cli.client import meant, report

    remote = meant(config, state)
    remote.daemon  # noqa: B018 it can be named only while it lives
    remote.quit()
    report(remote, {"ended": True}, as_json, "the daemon has ended")
