"""`passoproxy serve`: the daemon in the foreground."""

from __future__ import annotations

import sys

from passoproxy.cli.options import ConfigOption, load
from passoproxy.cli.output import note
from passoproxy.errors import ConfigurationError, Fault


def serve(config: ConfigOption = None) -> int:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    \b
    Example:
      passoproxy serve --config /etc/passoproxy/config.yaml
    """
    if sys.platform == "win32":
        remedy = "run it in WSL2, in a container, or on a Linux host"
        raise ConfigurationError(Fault("", "", "passoproxy does not run on native Windows", remedy))
    from passoproxy.daemon import run
    from passoproxy.host.system import forbid_dumps

    forbid_dumps()
    return run(load(config), note if sys.stderr.isatty() else None)
