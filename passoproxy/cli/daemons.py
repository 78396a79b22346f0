"""Which daemon a command speaks to, and how it is named to people (contract §2)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from passoproxy.cli.client import Handle, Local, Remote
from passoproxy.cli.options import load
from passoproxy.cli.output import note
from passoproxy.errors import AccessDenied, CommandFailure, ConfigurationError, NotRunning, UsageFailure
from passoproxy.folders import weak_step

if TYPE_CHECKING:
    from passoproxy.config.load import Loaded

_GIVEN = ("default", "environment STATE_DIRECTORY", "environment XDG_STATE_HOME")
"""Where the state folder comes from where nobody configured it."""


def handle(config: Path | None, state: Path | None) -> Remote | Local:
    """The running daemon's handle, or one on its folders where none runs; only that one needs the secrets. Raises as `running` does."""
    try:
        return running(config, state)
    except NotRunning:
        return Local(own(config, state))


def own(config: Path | None, state: Path | None) -> Loaded:
    """The configuration for work on a stopped daemon's folders. Raises ConfigurationError, and AccessDenied where they are another user's."""
    loaded = load(config, state=state)
    folder = loaded.settings.state.folder
    with suppress(OSError):
        # An ordinary user has a folder of his own in there; root's would be beside the one that the daemon has.
        if os.geteuid() == 0 and (owner := os.stat(folder).st_uid) != 0 and (folder / "lock").exists():
            raise AccessDenied(f"{folder}: belongs to user {owner}, whose daemon is not running", user=owner)
    return loaded


def say_who(handle: Handle) -> None:
    """Names, on standard error, the daemon or the folders that a command has changed."""
    if handle.daemon.get("pid") is None:
        note(f"passoproxy: no daemon is running; worked on the {handle.in_words}")
    else:
        note(f"passoproxy: done by the daemon with {handle.in_words}")


def running(config: Path | None, state: Path | None) -> Remote:
    """The one daemon that is meant: that of the folder `state`, of the configuration's folder, or the one that runs where a daemon may.

    Raises NotRunning, UsageFailure where two run and none is named, AccessDenied where it cannot be told whether one runs, and
    ConfigurationError.
    """
    from passoproxy.config.sources import state_folders

    if state is not None:
        return _the_one([state.absolute()])
    loaded = _loaded(config)
    if loaded is None or loaded.sources.get("state.directory", "default") in _GIVEN:
        return _the_one(state_folders(os.environ))
    try:
        return _the_one([loaded.settings.state.folder])
    except NotRunning:
        # its environment may have put the same configuration's daemon elsewhere
        with suppress(CommandFailure):
            if loaded.path is not None:
                return _the_one(state_folders(os.environ), loaded.path)
        raise


def _loaded(config: Path | None) -> Loaded | None:
    """The configuration; None where there is no file, and the environment alone makes none."""
    from passoproxy.config.load import chosen_file

    try:
        return load(config, secrets=False)
    except ConfigurationError:
        if chosen_file(config, os.environ, Path.cwd()) is not None:
            raise
        return None


def _the_one(folders: list[Path], path: Path | None = None) -> Remote:
    """That of these folders, and of the configuration `path` where that is given."""
    denied = list[AccessDenied]()
    found = _alive(folders, denied)
    if path is not None:
        found = [each for each in found if each.daemon["config"] == str(path.absolute())]
    if len(found) > 1:
        named = "; ".join(f"--state {each.daemon['state_directory']} ({each.in_words})" for each in found)
        raise UsageFailure(f"{len(found)} daemons are running; name one: {named}")
    if found:
        return found[0]
    if denied:
        raise denied[0]
    raise NotRunning(
        f"no daemon is running on {' or '.join(map(str, folders))}; start one with 'passoproxy serve', or name its folder with --state"
    )


def _alive(folders: Iterable[Path], denied: list[AccessDenied]) -> list[Remote]:
    """The daemons that run on them; what cannot be told of one goes to `denied`."""
    found, seen = list[Remote](), set[tuple[int, int]]()
    for folder in folders:
        try:
            there = os.stat(folder)
            weak_step(folder, there.st_uid)  # a link of another user leads nowhere
            if (there.st_dev, there.st_ino) in seen:
                continue
            seen.add((there.st_dev, there.st_ino))
            remote = Remote(folder)
            remote.daemon  # noqa: B018 the first word between us: is anybody there?
            found.append(remote)
        except (FileNotFoundError, NotADirectoryError, NotRunning):
            pass
        except PermissionError as fault:
            user = 0 if fault.errno == errno.EACCES else None
            denied.append(AccessDenied(f"{folder}: {fault.strerror}", user=user, state=folder))
        except AccessDenied as fault:
            denied.append(fault)
    return found
