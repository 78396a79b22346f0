"""What the models refuse, said for a person: the key, the value seen (never a secret), and what a right one looks like.

The effective configuration for people and programs: nested as the file is, secrets masked, with where each value came from.

Reads the configuration: finds the file, lays preset, credentials, file and environment over one another, and tells every fault together.

What the keys mean together is judged in `checking`, what a value looks like in `values`, how faults of the models are said in `explaining`.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from passoproxy.config import sources as document
from passoproxy.config import sources as environment
from passoproxy.config import sources as layers
from passoproxy.config import validate
from passoproxy.config.keys import (
    KeyPath,
    catalogue,
    children,
    dotted,
    find,
    names,
    nearest,
    parsed,
    remedy_for_unknown,
)
from passoproxy.config.presets import PRESETS
from passoproxy.config.secrets import FileSecret, FixedSecret, Secret, secret
from passoproxy.config.settings import Settings
from passoproxy.config.sources import Layer
from passoproxy.config.types import quoted, without_password
from passoproxy.config.validate import Facts
from passoproxy.errors import ConfigurationError, Fault


def explain(error: ValidationError, layer: Layer) -> tuple[list[Fault], list[KeyPath]]:
    """A fault for each thing that the models refuse, in the order of the keys, and the paths that are to be left out to go on."""
    faults, paths = [], []
    for each in error.errors(include_url=False):
        path = known_part(each)
        problem, remedy = _said(each, path)
        faults.append(Fault(layer.place(path), dotted(path), problem, remedy))
        paths.append(path)
    return faults, paths


def known_part(error: ErrorDetails) -> KeyPath:
    """The path of an error without what pydantic adds for the members of a union."""
    location: KeyPath = error["loc"]
    if error["type"] in ("extra_forbidden", "missing"):
        return location
    end = max(
        (each for each in range(1, len(location) + 1) if names(location[:each]) in catalogue()), default=len(location)
    )
    # a number after a list's key is the item
    return location[: end + 1] if end < len(location) and isinstance(location[end], int) else location[:end]


def _said(error: ErrorDetails, path: KeyPath) -> tuple[str, str]:
    value, kind = error["input"], error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    seen = "the value" if _is_secret(path) else quoted(value)
    if kind == "extra_forbidden":
        return "is not a known key", remedy_for_unknown(path)
    if kind == "missing":
        return "is missing", f"add '{path[-1]}: ...'"
    if value is None:
        return "is empty", "give a value, or remove the line for the default"
    match kind:
        case "value_error":
            problem, _, remedy = str(context["error"]).partition("; ")
            return problem, remedy
        case "literal_error":
            return _choice(value, seen, [each or "" for each in re.findall(r"'([^']*)'", str(context["expected"]))])
        case "string_type":
            return f"{seen} is not text", "put it into quotes" if isinstance(
                value, bool | int | float
            ) else "write one text"
        case "bool_type":
            return f"{seen} is neither true nor false", "write true or false, without quotes"
        case "int_type" | "int_from_float" | "int_parsing_size":
            return f"{seen} is not a whole number", "write digits without quotes"
        case "tuple_type":
            return f"{seen} is not a list", f"write [{value}]" if isinstance(value, str | int) and not _is_secret(
                path
            ) else "write [a, b]"
        case "model_type" | "dict_type" | "model_attributes_type":
            return (
                f"{seen} is not a mapping",
                f"indent its keys below it; valid here: {', '.join(children(names(path)))}",
            )
        case "greater_than" | "greater_than_equal":
            return f"{seen} is too small", f"write {context.get('ge', context.get('gt'))} or more"
        case "less_than" | "less_than_equal":
            return f"{seen} is too large", f"write {context.get('le', context.get('lt'))} or less"
        case _:
            return f"{seen} is not valid here: {error['msg'][:1].lower()}{error['msg'][1:]}", ""


def _choice(value: object, seen: str, choices: list[str]) -> tuple[str, str]:
    listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
    close = difflib.get_close_matches(str(value).lower(), choices, 1)
    return f"{seen} is not known here", f"did you mean {close[0]}? Valid: {listed}" if close else f"write {listed}"


def _is_secret(path: KeyPath) -> bool:
    key = find(path)
    return key is not None and key.secret


def without(values: dict[str, Any], paths: list[KeyPath]) -> dict[str, Any]:
    """The values less what was refused, so that the rest can be judged; a list goes as a whole, a route keeps its number."""
    result = dict(values)
    for path in paths:
        if path[0] == "routes" and len(path) > 1 and isinstance(path[1], int):
            routes = list(result["routes"])
            routes[path[1]] = _usable_route(routes[path[1]], path[1], names(path)[1:])
            result["routes"] = routes
        else:
            result = _less(result, names(path))
    return result


def _usable_route(route: Any, index: int, wrong: tuple[str, ...]) -> dict[str, Any]:
    kept = _less(route, wrong) if isinstance(route, dict) and wrong else route if isinstance(route, dict) else {}
    return {"name": f"unnamed-{index}", "match": "/**", **kept}


def _less(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    head, *rest = path
    inner = values.get(head)
    if rest and isinstance(inner, dict):
        return {**values, head: _less(inner, tuple(rest))}
    return {name: each for name, each in values.items() if name != head}


def shown(loaded: Loaded) -> dict[str, Any]:
    """Plain nested data as the file has it: short durations and sizes, secrets masked."""
    plain = loaded.settings.plain()
    if plain["store"]["url"]:
        plain["store"]["url"] = without_password(plain["store"]["url"])
    return plain


def flat(loaded: Loaded) -> list[tuple[str, str]]:
    """Every key with its value as text, in the order of the contract."""
    return [(dotted(path), _text(value)) for path, value in _leaves(shown(loaded), ())]


def sources_of(settings: Settings, layer: Layer) -> dict[str, str]:
    """For every dotted key, where its value came from: default, preset, file:line, environment variable, or credential."""
    return {dotted(path): _source(path, layer) for path, _ in _leaves(settings.plain(), ())}


def _source(path: KeyPath, layer: Layer) -> str:
    if layer.get(path) is None and path not in layer.places:
        return "default"
    return layer.place(path) or "default"


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Mappings are opened, and the list of routes; other lists are values."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, (*path, name))
    elif path == ("routes",):
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
    else:
        yield path, value


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case _:
            return str(value)


@dataclass(frozen=True, slots=True)
class ConfigurationWarning:
    """Something that works, and is worth a look. `str()` is one line."""

    code: str
    key: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, f"{self.key} {self.text}" if self.key else self.text) if part)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What gives each secret as it is when asked; None where none is configured."""

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
        """Those that are in files."""
        named = (getattr(self, each.name) for each in fields(self))
        for given in (*named, *self.upstream_headers.values()):
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
        """Whether nobody set the key."""
        return self.sources.get(key, "default") == "default"


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    secrets: bool = True,
    text: bytes | None = None,
) -> Loaded:
    """The effective configuration. Raises ConfigurationError with every fault. `text` counts in the place of what is in the file now.

    `path` is what `--config` named. With `secrets=False` no file but the configuration itself is looked at: for commands that only talk to
    a running daemon and may not be allowed to read its secrets.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    chosen = chosen_file(path, environ, cwd)
    raw, unread = (_raw(cwd / chosen, str(chosen)) if text is None else (text, [])) if chosen else (b"", [])
    file, faults = (None, unread) if unread else _from_text(raw, str(chosen)) if chosen else (Layer(), [])
    if file is None:
        # without it everything else would be found missing
        raise ConfigurationError(*faults)
    merged, more = _layered(file, (cwd / chosen).absolute().parent if chosen else cwd, environ, cwd)
    _settle_folders(merged, environ)
    faults += more
    refused = {fault.key for fault in faults if fault.key}
    settings, more_refused = _validated(merged, faults)
    if settings is None:
        raise ConfigurationError(*dict.fromkeys(faults))
    facts = Facts(
        settings, merged, environ, check_files=secrets, config_file=chosen, config_path=cwd / chosen if chosen else None
    )
    faults += _judged(facts, refused | more_refused)
    if faults:
        raise ConfigurationError(*dict.fromkeys(faults))
    warnings = tuple(
        ConfigurationWarning(each.code, each.key, each.text, merged.place(parsed(each.key)))
        for each in validate.warn(facts)
    )
    return Loaded(settings, sources_of(settings, merged), chosen, warnings, _secrets(settings, environ), raw)


def _judged(facts: Facts, refused: set[str]) -> list[Fault]:
    """What the keys mean together; what follows from a key that was refused is told when that one is right."""
    faults = []
    for finding in validate.check(facts):
        keys = finding.involved | {finding.key}
        if any(key == each or key.startswith(f"{each}.") for key in keys for each in refused):
            continue
        places = (facts.layer.place(parsed(key)) for key in (finding.key, *sorted(finding.involved)))
        where = next(filter(None, places), None) or _nowhere(facts.config_file)
        faults.append(Fault(where, finding.key, finding.problem, finding.remedy))
    return faults


def _nowhere(chosen: Path | None) -> str:
    return str(chosen) if chosen else "no configuration file found"


def chosen_file(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file to read: a named one whether it is there or not, else the first that is there."""
    if path is not None:
        return path
    if environ.get("PASSOPROXY_CONFIG"):
        return Path(environ["PASSOPROXY_CONFIG"])
    for each in environment.configuration_files(environ, cwd):
        if os.path.lexists(each):
            return Path("config.yaml") if each == cwd / "config.yaml" and cwd == Path.cwd() else each
    return None


def _layered(file: Layer, base: Path, environ: Mapping[str, str], cwd: Path) -> tuple[Layer, list[Fault]]:
    """Everything laid over one another; relative file names of the file count from `base`, those of the environment from `cwd`."""
    variables, faults = environment.variables(environ)
    given = environment.credentials(environ)
    home = environment.home(environ)
    layers.settle_paths(file, base, home)
    layers.settle_paths(variables, cwd, home)
    for path in environment.credential_names().values():
        # the file that a credential was made of, which only root can read, or the default written out
        if given.holds(path) and isinstance(named := file.get(path), str) and not os.access(named, os.R_OK):
            file.drop(path)
    merged = _preset(variables.get(("provider",)) or file.get(("provider",)) or "passolution")
    for layer in (given, file, variables):
        for twice in layers.settle_siblings(layer, merged):
            key = dotted(twice)
            faults.append(Fault(layer.place(twice), key, f"is given beside {key}_file", "keep one of the two"))
        merged = layers.lay_over(merged, layer)
    return merged, faults


def _preset(provider: object) -> Layer:
    values = PRESETS.get(provider, {}) if isinstance(provider, str) else {}
    layer = Layer(values)
    layer.places |= dict.fromkeys(_paths(values, ()), f"preset {provider}")
    return layers.lay_over(Layer(), layer)


def _paths(value: Any, path: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [deeper for name, each in inner for deeper in _paths(each, (*path, name))]
    # an enclosing mapping stands nowhere in particular
    return [path, *below] if path and not (isinstance(value, dict) and isinstance(path[-1], str)) else below


def _raw(path: Path, shown: str) -> tuple[bytes, list[Fault]]:
    """What the file holds, or why that cannot be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return b"", [Fault(shown, "", "is not a regular file", "name a YAML file")]
            return file.read(document.MAX_BYTES + 1), []
    except (OSError, ValueError) as error:
        return b"", [_unreadable(shown, error)]


def _from_text(raw: bytes, shown: str) -> tuple[Layer | None, list[Fault]]:
    """The layer of a file and its flaws; None where there is nothing to go on with."""
    found = document.parse(raw)
    faults = [
        Fault(f"{shown}:{flaw.line}" if flaw.line else shown, flaw.key, flaw.problem, flaw.remedy)
        for flaw in found.flaws
    ]
    if found.values is None:
        return (None if faults else Layer()), faults
    if not isinstance(found.values, dict):
        return None, [
            Fault(f"{shown}:1", "", "is not a mapping of keys", "begin with a line such as 'provider: passolution'"),
            *faults,
        ]
    return Layer(found.values, {place: f"{shown}:{line}" for place, line in found.lines.items() if place}), faults


def _unreadable(shown: str, error: OSError | ValueError) -> Fault:
    if isinstance(error, FileNotFoundError):
        return Fault(
            shown, "", "is not there", f"name the right file, or write one with: passoproxy config init {shown}"
        )
    if isinstance(error, PermissionError):
        return Fault(
            shown, "", "cannot be read: permission denied", "make it readable for the user that runs passoproxy"
        )
    if isinstance(error, IsADirectoryError):
        return Fault(shown, "", "is a folder", "name the file in it")
    reason = (
        (errno.errorcode.get(error.errno or 0, "") and error.strerror)
        if isinstance(error, OSError)
        else "not a valid path"
    )
    return Fault(shown, "", f"cannot be read: {reason}", "name a readable file")


def _settle_folders(merged: Layer, environ: Mapping[str, str]) -> None:
    for section, service, xdg, under_home in (
        ("state", "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state"),
        ("cache", "CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache"),
    ):
        path = (section, "directory")
        found = environment.folder(environ, service, xdg, under_home)
        if not merged.holds(path) and found is not None and isinstance(merged.values.get(section, {}), dict):
            merged.put(path, str(found[0]), found[1])


def _validated(merged: Layer, faults: list[Fault]) -> tuple[Settings | None, set[str]]:
    """The settings, where need be without what was refused; and the keys that were refused or likely meant by them."""
    try:
        return Settings.model_validate(merged.values), set()
    except ValidationError as error:
        said, paths = explain(error, merged)
    faults += said
    refused = {dotted(path) for path in paths}
    for path in paths:
        if find(path) is None:
            meant = nearest(path)
            refused |= {meant, dotted((*path[:-1], meant.rpartition(".")[2]))}
    try:
        return Settings.model_validate(without(merged.values, paths)), refused
    except ValidationError:
        return None, refused


def _secrets(settings: Settings, environ: Mapping[str, str]) -> Secrets:
    oauth, server, admin, state = settings.oauth, settings.server, settings.admin, settings.state
    upstream = settings.upstream

    def of(value: SecretStr | None, file: Path | None, key: str) -> Secret | None:
        return secret(value, file, key, environ)

    return Secrets(
        client_secret=None
        if oauth.client_auth == "none" or oauth.grant == "static"
        else of(oauth.client_secret, oauth.client_secret_file, "oauth.client_secret"),
        static_token=of(oauth.static_token, oauth.static_token_file, "oauth.static_token"),
        client_keys=of(server.client_keys, server.client_keys_file, "server.client_keys"),
        admin_token=of(admin.token, admin.token_file, "admin.token"),
        state_key=of(state.key, state.key_file, "state.key"),
        previous_state_key=of(state.previous_key, state.previous_key_file, "state.previous_key"),
        store_password=of(settings.store.password, settings.store.password_file, "store.password"),
        upstream_proxy=of(None, upstream.proxy_file, "upstream.proxy"),
        alerts_webhook=of(settings.alerts.webhook, settings.alerts.webhook_file, "alerts.webhook"),
        upstream_headers={
            name: FileSecret(each, f"upstream.headers.{name}", environ)
            if isinstance(each, Path)
            else FixedSecret(each.get_secret_value())
            for name, each in upstream.headers.items()
        },
    )
