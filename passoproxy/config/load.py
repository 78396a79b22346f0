"""Reads the configuration: finds the file, lays its sources over one another, checks the whole, and tells every fault together.

`sources` reads and merges, `settings` and `types` check single values, `faults` words what they refuse, `validate` checks the rest.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr, ValidationError

from passoproxy.config import sources
from passoproxy.config.faults import explain, without
from passoproxy.config.keys import KeyPath, dotted, find, nearest, parsed
from passoproxy.config.secrets import FileSecret, Secret, secret
from passoproxy.config.settings import Settings
from passoproxy.config.sources import Layer, lay_over
from passoproxy.config.validate import CHECKS, FILE_CHECKS, FILE_WARNINGS, WARNINGS, Facts, value_at
from passoproxy.errors import ConfigurationError, Fault
from passoproxy.values import dataclass


@dataclass(frozen=True, slots=True)
class ConfigurationWarning:
    """Something that works and deserves a look. `str()` is one line."""

    code: str
    key: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, f"{self.key} {self.text}" if self.key else self.text) if part)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Each secret as a function that gives its present text; None if it is not configured."""

    client_secret: Secret | None
    static_token: Secret | None
    client_keys: Secret | None
    admin_token: Secret | None
    state_key: Secret | None
    previous_state_key: Secret | None
    store_password: Secret | None
    upstream_proxy: Secret | None
    alerts_webhook: Secret | None
    upstream_headers: Mapping[str, Secret] = field(default_factory=dict)

    def files(self) -> Iterator[FileSecret]:
        """The secrets in files."""
        for given in (*(getattr(self, each.name) for each in fields(self)), *self.upstream_headers.values()):
            if isinstance(given, FileSecret):
                yield given


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that may be used. `sources` tells for every key where its value came from; `path` is None without a file.

    `text` is the file as it was read, for `load` in another process: it may hold secrets.
    """

    settings: Settings
    sources: Mapping[str, str]
    path: Path | None
    warnings: tuple[ConfigurationWarning, ...]
    secrets: Secrets
    text: bytes = field(default=b"", repr=False)

    def is_default(self, key: str) -> bool:
        """Whether the key has its default, and no source set it."""
        return self.sources.get(key, "default") == "default"


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    secrets: bool = True,
    text: bytes | None = None,
) -> Loaded:
    """The effective configuration. Raises ConfigurationError with every fault.

    `path` is the file that `--config` named; `text` stands for its content. With `secrets=False` no file but the configuration itself is
    read: for commands that only talk to a running daemon and may not be allowed to read its secrets.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    chosen = chosen_file(path, environ, cwd)
    raw = b"" if chosen is None else _read(cwd / chosen, str(chosen)) if text is None else text
    merged = _merged(
        Layer() if chosen is None else _from_text(raw, str(chosen)),
        cwd if chosen is None else (cwd / chosen).absolute().parent,
        environ,
        cwd,
    )
    faults, refused = list(merged.faults), {fault.key for fault in merged.faults if fault.key}
    settings = _validated(merged, faults, refused)
    facts = Facts(settings, merged, environ, chosen, cwd / chosen if chosen else None)
    faults += _checked(facts, refused, secrets)
    if faults:
        raise ConfigurationError(*dict.fromkeys(faults))
    found = (each for check in (*WARNINGS, *(FILE_WARNINGS if secrets else ())) for each in check(facts))
    warnings = tuple(ConfigurationWarning(code, key, said, merged.place(parsed(key))) for code, key, said in found)
    return Loaded(settings, _sources(settings, merged), chosen, warnings, _secrets(settings, environ), raw)


def chosen_file(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file to read: a named one whether it exists or not, else the first that exists."""
    if path is not None or environ.get("PASSOPROXY_CONFIG"):
        return path or Path(environ["PASSOPROXY_CONFIG"])
    for each in sources.configuration_files(environ, cwd):
        if os.path.lexists(each):
            return Path("config.yaml") if each == cwd / "config.yaml" and cwd == Path.cwd() else each
    return None


def _read(path: Path, shown: str) -> bytes:
    try:
        # without waiting for the other end of a FIFO
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read(sources.MAX_BYTES + 1)
        said = "is not a regular file", "name a YAML file"
    except FileNotFoundError:
        said = "is not there", f"name the right file, or write one with: passoproxy config init {shown}"
    except PermissionError:
        said = "cannot be read: permission denied", "make it readable for the user that runs passoproxy"
    except IsADirectoryError:
        said = "is a folder", "name the file in it"
    except (OSError, ValueError) as error:
        known = isinstance(error, OSError) and error.errno in errno.errorcode
        said = f"cannot be read: {error.strerror if known else 'not a valid path'}", "name a readable file"  # type: ignore[union-attr]
    raise ConfigurationError(Fault(shown, "", *said))


def _from_text(raw: bytes, shown: str) -> Layer:
    """Raises ConfigurationError for a text that gives nothing to go on with: everything else would be found missing."""
    found = sources.parse(raw, shown)
    if found.values is None and not found.faults:
        return Layer()
    if found.values is not None and not isinstance(found.values, dict):
        remedy = "begin with a line such as 'provider: passolution'"
        raise ConfigurationError(Fault(f"{shown}:1", "", "is not a mapping of keys", remedy), *found.faults)
    if found.values is None:
        raise ConfigurationError(*found.faults)
    found.places.pop((), None)
    return found


def _merged(file: Layer, base: Path, environ: Mapping[str, str], cwd: Path) -> Layer:
    """Everything laid over one another. Relative file names of the file count from `base`, those of the environment from `cwd`."""
    given, variables, home = sources.credentials(environ), sources.variables(environ), sources.home(environ)
    sources.settle_paths(file, base, home)
    sources.settle_paths(variables, cwd, home)
    for path in sources.credential_names().values():
        # the file that a credential was made of, which only root can read, or the default written out
        if given.holds(path) and isinstance(named := file.get(path), str) and not os.access(named, os.R_OK):
            file.drop(path)
    merged = _preset(variables.get(("provider",)) or file.get(("provider",)) or "passolution")
    faults = [*file.faults, *variables.faults]
    for layer in (given, file, variables):
        faults += sources.settle_siblings(layer, merged)
        merged = lay_over(merged, layer)
    sources.settle_folders(merged, environ)
    if merged.holds(("gateway", "replay")):
        for path in _OUTWARD:
            merged.drop(path)
        for path, value in _REPLAYING.items():
            merged.put(path, value, "gateway.replay")
    merged.faults = faults
    return merged


_OUTWARD = (
    *(("oauth", f"{name}_url") for name in ("authorization", "token", "refresh", "revocation")),
    *(("oauth", name) for name in ("seed_file", "static_token", "static_token_file")),
    *(("state", name) for name in ("key", "key_file", "previous_key", "previous_key_file")),
    *(("upstream", name) for name in ("ca_file", "headers", "proxy_file")),
    *(("alerts", name) for name in ("command", "webhook", "webhook_file")),
    *(("store",), ("tracing",)),
)
"""What reaches beyond the machine or needs an account's secrets: while recordings answer it is as if it was not set, whatever the file says."""

_REPLAYING = {("oauth", "grant"): "static", ("upstream", "proxy"): "none"}


@cache
def _passolution() -> dict[str, Any]:
    """The preset's raw values. They are not to be changed: layers copy them."""
    text = resources.files("passoproxy.config").joinpath("passolution.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    return found


def _preset(provider: object) -> Layer:
    values = _passolution() if provider == "passolution" else {}
    return lay_over(Layer(), Layer(values, dict.fromkeys(_paths(values, ()), f"preset {provider}")))


def _paths(value: Any, path: KeyPath) -> list[KeyPath]:
    """Every path of the value but those of mappings, which have no place of their own; items of a list have one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [deeper for name, each in inner for deeper in _paths(each, (*path, name))]
    return [path, *below] if path and not (isinstance(value, dict) and isinstance(path[-1], str)) else below


def _validated(merged: Layer, faults: list[Fault], refused: set[str]) -> Settings:
    """The settings, if need be without what was refused: its faults, and its keys with those likely meant, are added to the arguments."""
    try:
        return Settings.model_validate(merged.values)
    except ValidationError as error:
        found = explain(error, merged)
    faults += found.values()
    for path in found:
        refused.add(dotted(path))
        if find(path) is None:
            meant = nearest(path)
            refused |= {meant, dotted((*path[:-1], meant.rpartition(".")[2]))}
    try:
        return Settings.model_validate(without(merged.values, found))
    except ValidationError:
        raise ConfigurationError(*dict.fromkeys(faults)) from None


def _checked(facts: Facts, refused: set[str], files: bool) -> Iterator[Fault]:
    """Faults of `validate`. One that follows from a key that was refused is told when that key is right."""
    for check, more in (*CHECKS, *(FILE_CHECKS if files else ())):
        for said in check(facts):
            key, _, text = said.partition(": ")
            section = key.rpartition(".")[0]
            keys = [key, *(section + each if each.startswith(".") else each for each in more.split())]
            if not any(each == wrong or each.startswith(f"{wrong}.") for each in keys for wrong in refused):
                problem, _, remedy = text.partition("; ")
                where = next(filter(None, (facts.layer.place(parsed(each)) for each in keys)), "")
                nowhere = str(facts.config_file or "no configuration file found")
                yield Fault(where or nowhere, key, problem, remedy)


def _sources(settings: Settings, layer: Layer) -> dict[str, str]:
    """For every dotted key, where its value came from: default, preset, file:line, environment variable, or credential."""
    found = {}
    for path, _ in leaves(settings.plain(), ()):
        is_set = layer.get(path) is not None or path in layer.places
        found[dotted(path)] = (layer.place(path) if is_set else "") or "default"
    return found


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Every key with its value. Mappings are opened, and the list of routes; other lists are values."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif path == ("routes",):
        for index, each in enumerate(value):
            yield from leaves(each, (*path, index))
    else:
        yield path, value


def _secrets(settings: Settings, environ: Mapping[str, str]) -> Secrets:
    oauth = settings.oauth

    def of(key: str) -> Secret | None:
        value = value_at(settings, key)
        return secret(value if isinstance(value, SecretStr) else None, value_at(settings, f"{key}_file"), key, environ)

    return Secrets(
        client_secret=None if oauth.client_auth == "none" or oauth.grant == "static" else of("oauth.client_secret"),
        static_token=of("oauth.static_token"),
        client_keys=of("server.client_keys"),
        admin_token=of("admin.token"),
        state_key=of("state.key"),
        previous_state_key=of("state.previous_key"),
        store_password=of("store.password"),
        upstream_proxy=of("upstream.proxy"),
        alerts_webhook=of("alerts.webhook"),
        upstream_headers={
            name: FileSecret(each, f"upstream.headers.{name}", environ)
            if isinstance(each, Path)
            else each.get_secret_value
            for name, each in settings.upstream.headers.items()
        },
    )
