"""What the environment says: PASSOPROXY__SECTION__KEY variables, systemd credentials, and the folders that are given to a service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from passoproxy.config import document
from passoproxy.config.keys import Key, dotted, find, remedy_for_unknown
from passoproxy.config.layers import Layer, secret_pairs
from passoproxy.errors import Fault

PREFIX = "PASSOPROXY__"

SYSTEM_CONFIGURATION = Path("/etc/passoproxy/config.yaml")
"""The configuration of a service."""


@cache
def credential_names() -> Mapping[str, tuple[str, ...]]:
    """Names in $CREDENTIALS_DIRECTORY, and the `_file` key that each stands for: the key's name, with as much before it as makes it the
    only one (`client_secret`, `state_key`, `tls_key`), up to the whole (`oauth_client_secret`)."""
    paths = [*secret_pairs(), ("oauth", "seed"), ("server", "tls", "key")]
    named = [("_".join(path[at:]), (*path[:-1], f"{path[-1]}_file")) for path in paths for at in range(len(path))]
    counts = Counter(name for name, _ in named)
    return {name: key for name, key in named if counts[name] == 1}


def variables(environ: Mapping[str, str]) -> tuple[Layer, list[Fault]]:
    """The layer of PASSOPROXY__ variables, each value read as YAML."""
    layer, faults = Layer(), []
    given = sorted((name for name in environ if name.startswith(PREFIX)), key=lambda name: (name.count("__"), name))
    for name in given:
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        key = find(path)
        where = f"environment {name}"
        if key is None or (path[0] == "routes" and len(path) > 1):
            faults.append(Fault(where, "", "names no key", _nearest_variable(path)))
            continue
        value, flaws = _value(environ[name], key)
        faults += [Fault(where, flaw.key or dotted(path), flaw.problem, flaw.remedy) for flaw in flaws]
        if not flaws:
            _put(layer, path, value, where)
    return layer, faults


def _put(layer: Layer, path: tuple[str, ...], value: Any, where: str) -> None:
    key = find(path)
    if isinstance(value, dict) and key is not None and key.section:
        for name, each in value.items():
            _put(layer, (*path, name), each, where)
    else:
        layer.put(path, value, where)


def _value(text: str, key: Key) -> tuple[Any, list[document.Flaw]]:
    bare = text.strip()
    # a secret with '#' or ': ' in it must not be cut short; quoted, it is YAML like the others
    if key.secret and bare and bare[0] not in "\"'" and bare not in ("null", "~"):
        return bare, []
    found = document.parse(text)
    if found.flaws and not key.section:
        hint = document.Flaw(
            0, "", found.flaws[0].problem, f"put the value into quotes of its own, as in '\"{_example(key)}\"'"
        )
        return None, [hint]
    return found.values, found.flaws


def _example(key: Key) -> str:
    return "[::1]:8610" if "listen" in key.path[-1] else "the value"


def _nearest_variable(path: tuple[str, ...]) -> str:
    if path[0] == "routes":
        return "set the whole list, as YAML, in PASSOPROXY__ROUTES"
    said = remedy_for_unknown(path)
    if said.startswith("did you mean "):
        meant = said.removeprefix("did you mean ").rstrip("?")
        whole = meant if "." in meant or len(path) == 1 else dotted((*path[:-1], meant))
        return f"did you mean {PREFIX}{whole.upper().replace('.', '__')}?"
    return said


def credentials(environ: Mapping[str, str]) -> Layer:
    """The layer of systemd credentials that are named like a key."""
    layer = Layer()
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    for name, path in credential_names().items():
        if folder and not layer.holds(path) and (Path(folder) / name).is_file():
            layer.put(path, str(Path(folder) / name), f"credential {name}")
    return layer


def home(environ: Mapping[str, str]) -> str:
    """The home folder, empty where there is none to speak of."""
    folder = environ.get("HOME", "")
    return folder.rstrip("/") if folder.startswith("/") and folder != "/" else ""


def configuration_files(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    """Where a configuration is looked for when none is named, in order."""
    base = _xdg(environ, "XDG_CONFIG_HOME", ".config")
    return [
        cwd / "config.yaml",
        *([base / "passoproxy" / "config.yaml"] if base else []),
        SYSTEM_CONFIGURATION,
    ]


UNIT_STATE = Path("/var/lib/passoproxy")
"""What systemd/passoproxy.service has for a state folder."""


def state_folders(environ: Mapping[str, str]) -> list[Path]:
    """Where a daemon may have its state when none is configured: the service manager's folder, the unit's, and the user's."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    base = _xdg(environ, "XDG_STATE_HOME", ".local/state")
    return [
        *([Path(given)] if given.startswith("/") else []),
        UNIT_STATE,
        *([base / "passoproxy"] if base else []),
    ]


def folder(environ: Mapping[str, str], service: str, xdg: str, under_home: str) -> tuple[Path, str] | None:
    """The folder for state or cache, and where it comes from: the service manager's, else the user's; None where neither is known."""
    given = environ.get(service, "").partition(":")[0]
    if given.startswith("/"):
        return Path(given), f"environment {service}"
    base = _xdg(environ, xdg, under_home)
    if base is None:
        return None
    return base / "passoproxy", f"environment {xdg}" if environ.get(xdg, "").startswith("/") else "default"


def _xdg(environ: Mapping[str, str], name: str, under_home: str) -> Path | None:
    # a relative path is to be ignored (XDG base directory specification)
    given = environ.get(name, "")
    if given.startswith("/"):
        return Path(given)
    return Path(home(environ)) / under_home if home(environ) else None
