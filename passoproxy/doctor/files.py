"""The configuration's warnings, the folders, and the disks that they are on."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from passoproxy.core.units import counted, size
from passoproxy.doctor.checks import Finding, Verdict, Visit, good, told
from passoproxy.folders import folder_in_use, weak_step
from passoproxy.host.system import volatile

SLOW_SYNC = 0.5
"""Seconds that a synced write may take: each refresh needs a few before its answer is used."""

LEAST_FREE = 64 * 1024 * 1024
"""Bytes that a disk must have left: below that the pair may not be written down."""


async def configuration(visit: Visit) -> AsyncIterator[Finding]:
    """It was read without a fault, or there were no visit; its warnings."""
    loaded = visit.loaded
    running = visit.status.get("config") if visit.status is not None else None
    own = str(loaded.path.absolute()) if loaded.path is not None else ""
    if visit.status is not None and running != own:
        yield Finding(
            "configuration",
            Verdict.WARNING,
            f"the running daemon was started with {running or 'no file'}, and this is {own or 'no file'}",
            "name the same file with --config, or start the daemon with this one",
        )
    else:
        yield good("configuration", f"{own or 'defaults and environment'}: no faults")
    for warning in loaded.warnings:
        yield told("configuration", Verdict.WARNING, str(warning), "change it, unless it is meant so")


async def folders(visit: Visit) -> AsyncIterator[Finding]:
    """State and cache folder: there, ours, closed to other users, and reached by a way that nobody else can change."""
    for key, folder in _folders(visit):
        name = key.replace(".directory", " folder")
        try:
            found = folder.stat()
        except FileNotFoundError:
            yield _missing(name, key, folder)
            continue
        except OSError as error:
            yield Finding(
                name, Verdict.FAILED, f"{folder}: {error.strerror}", f"set {key} to a folder that can be used"
            )
            continue
        yield _judged(visit, name, key, folder, found)
        holds_pair = key == "state.directory" and visit.loaded.settings.oauth.grant == "authorization_code"
        if holds_pair and (why := volatile(folder)):
            seen = f"{folder} {why}: the pair is gone with a restart"
            yield Finding(name, Verdict.WARNING, seen, "give it a durable folder, such as a mounted volume")


def _folders(visit: Visit) -> Iterator[tuple[str, Path]]:
    settings = visit.loaded.settings
    yield "state.directory", folder_in_use(settings.state.folder)
    if not settings.store.url:
        yield "cache.directory", folder_in_use(settings.cache.folder)


def _missing(name: str, key: str, folder: Path) -> Finding:
    above = next(each for each in folder.absolute().parents if each.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return good(name, f"{folder} is made at the first start")
    return Finding(
        name,
        Verdict.FAILED,
        f"{folder} is not there, and this user may not make it in {above}",
        f"make it for the user that runs passoproxy, or set {key} to another folder",
    )


def _judged(visit: Visit, name: str, key: str, folder: Path, found: os.stat_result) -> Finding:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        return Finding(name, Verdict.FAILED, f"{folder} is no folder", f"set {key} to a folder, or remove the file")
    if found.st_uid != visit.user:
        if 0 != visit.user == os.geteuid() and os.access(folder, os.W_OK | os.X_OK):
            return good(
                name, f"{folder} belongs to user id {found.st_uid}: a folder of this user's is made in it at the start"
            )
        seen = f"{folder} belongs to user id {found.st_uid}, and passoproxy would run as {visit.user}"
        return Finding(
            name,
            Verdict.FAILED,
            seen,
            f"run passoproxy as its owner; or, to give it away: chown -R {visit.user} {folder}",
        )
    if mode & 0o077 and not mode & stat.S_ISVTX:
        seen = f"{folder} has mode {mode:04o}: other users may look into it"
        return Finding(name, Verdict.WARNING, seen, f"run: chmod 700 {folder}; the next start does it too")
    try:
        weak = weak_step(folder, visit.user)
    except OSError as error:
        return Finding(
            name, Verdict.FAILED, f"{folder}: {error.strerror}", f"set {key} to a folder of passoproxy's own"
        )
    if weak:
        seen = f"{folder}: {weak}, who could exchange the folders in it"
        return Finding(name, Verdict.WARNING, seen, f"set {key} to a place that only root or this user may change")
    return good(name, f"{folder}, mode {mode:04o}, user id {found.st_uid}")


async def disks(visit: Visit) -> AsyncIterator[Finding]:
    """Each folder's disk takes a synced write, soon, and has room."""
    for key, folder in _folders(visit):
        if _is_folder(folder):
            yield await asyncio.to_thread(_written, f"disk of {key}", folder)


def _is_folder(path: Path) -> bool:
    """False also if this user may not know; the folder's own finding says so."""
    return os.path.isdir(path)


def _written(name: str, folder: Path) -> Finding:
    path, began = folder / f".doctor-{os.getpid()}", time.monotonic()
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(file, bytes(4096))
            os.fsync(file)
        finally:
            os.close(file)
            path.unlink()
    except OSError as error:
        remedy = "make room, or make the folder writable for the user that runs passoproxy"
        return Finding(name, Verdict.FAILED, f"{folder}: nothing can be written ({error.strerror})", remedy)
    took, free = time.monotonic() - began, shutil.disk_usage(folder).free
    seen = f"a synced write took {took * 1000:.0f} ms; {size(free)} free"
    if free < LEAST_FREE:
        return Finding(name, Verdict.WARNING, seen, "make room: a pair that cannot be written lives in memory only")
    if took > SLOW_SYNC:
        return Finding(name, Verdict.WARNING, seen, "use a faster disk: each refresh waits for several such writes")
    return good(name, seen)


async def recordings(visit: Visit) -> AsyncIterator[Finding]:
    """What answers in the origin's place, if recordings do."""
    if (folder := visit.recordings) is None:
        return
    from passoproxy.gateway.folder import Folder

    found = Folder(folder)
    await asyncio.to_thread(found.look)
    yield good(
        "recordings",
        f"answers come from {folder}, which has {counted(found.count, 'recording')}; nothing is sent to the origin",
    )
    for fault in found.faults:
        yield told("recordings", Verdict.WARNING, f"{folder}/{fault}")
