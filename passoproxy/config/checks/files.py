"""The files that the settings name: secrets that are there, readable, well formed and not for everyone to read; certificates that are there."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from passoproxy.config.findings import Advice, Facts, Finding
from passoproxy.config.layers import secret_pairs
from passoproxy.config.secrets import exposure, read_secret, refuse_exposed
from passoproxy.config.settings import Settings
from passoproxy.config.values import is_field_value, proxy_url
from passoproxy.errors import ConfigurationError

_PLAIN_FILES = (
    "upstream.ca_file",
    "server.tls.cert_file",
    "server.tls.client_ca_file",
    "store.ca_file",
)


_OF_THE_SHELL = frozenset(
    {
        "if",
        "for",
        "while",
        "case",
        "cd",
        "eval",
        "exec",
        "export",
        "set",
        "trap",
        "umask",
        "command",
        "type",
        "read",
        ".",
    }
)
"""Words with which a line for the shell may begin, and which are no programs."""


def secret_files(settings: Settings) -> dict[str, Path]:
    """The files of secrets that are in use, by key."""
    oauth = settings.oauth
    unused = {"oauth.static_token_file"} if oauth.grant != "static" else {"oauth.client_secret_file"}
    if oauth.client_auth == "none":
        unused.add("oauth.client_secret_file")
    found = {}
    for path in secret_pairs():
        key = f"{'.'.join(path)}_file"
        value, file = _value(settings, ".".join(path)), _value(settings, key)
        if file is not None and key not in unused and (value is None or value == "env"):
            found[key] = file
    headers = settings.upstream.headers.items()
    return found | {f"upstream.headers.{name}": each for name, each in headers if isinstance(each, Path)}


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def secrets(facts: Facts) -> Iterator[Finding]:
    """Every secret's file in use can be read now, holds what it should, and is not open to others."""
    for key, path in secret_files(facts.settings).items():
        try:
            text = read_secret(path, key, facts.environ)
        except ConfigurationError as error:
            yield _told(error)
            continue
        yield from _content(key, path, text)
    for key in ("state.key", "state.previous_key", "server.client_keys"):
        value = _value(facts.settings, key)
        if value is not None:
            yield from _content(key, None, value.get_secret_value())


def private_key(facts: Facts) -> Iterator[Finding]:
    """The private key of the listener is a secret as well, whatever its name."""
    path = facts.settings.server.tls.key_file
    if path is not None:
        yield from _exposed("server.tls.key_file", path, facts)
        yield from _readable("server.tls.key_file", path)


def seed(facts: Facts) -> Iterator[Finding]:
    """The seed is a credential. It may be gone: it is read only where no pair is stored, and told of then."""
    path = facts.settings.oauth.seed_file
    if path is not None:
        yield from _exposed("oauth.seed_file", path, facts)


def _exposed(key: str, path: Path, facts: Facts) -> Iterator[Finding]:
    try:
        refuse_exposed(path, key, facts.environ)
    except ConfigurationError as error:
        yield _told(error)


def _told(error: ConfigurationError) -> Finding:
    """What is wrong with one file, as a finding of its key."""
    fault = error.faults[0]
    return Finding(fault.key, f"{fault.where} {fault.problem}", fault.remedy)


def plain_files(facts: Facts) -> Iterator[Finding]:
    """Certificates and the like are there and can be read."""
    for key in _PLAIN_FILES:
        path = _value(facts.settings, key)
        if path is not None:
            yield from _readable(key, path)


def _readable(key: str, path: Path) -> Iterator[Finding]:
    try:
        found = path.is_file()
    except OSError:
        found = False
    if not found:
        yield Finding(key, f"{path} is not there, or no file", "name the right file")
    elif not os.access(path, os.R_OK):
        yield Finding(
            key, f"{path} cannot be read: permission denied", "make it readable for the user that runs passoproxy"
        )


def _content(key: str, path: Path | None, text: str) -> Iterator[Finding]:
    """The form of a secret, told without a word of what it is."""
    shown = f"{path} " if path else ""
    match key.removesuffix("_file"):
        case "server.client_keys":
            yield from _client_keys(key, shown, text)
        case "state.key" | "state.previous_key":
            try:
                length = len(base64.b64decode(text.strip(), validate=True))
            except (binascii.Error, ValueError):
                length = 0
            if length != 32:
                yield Finding(key, f"{shown}does not hold 32 bytes in base64", "make one with: openssl rand -base64 32")
        case "upstream.proxy":
            try:
                proxy_url(text)
            except ValueError:
                yield Finding(
                    key,
                    f"{shown}does not hold the URL of a proxy",
                    "write for example http://user:password@proxy.internal:3128",
                )
        case name if name.startswith("upstream.headers."):
            if not is_field_value(text):
                yield Finding(
                    key,
                    f"{shown}does not hold one line of printable ASCII",
                    "write the value of the header field and nothing else",
                )
        case "alerts.webhook":
            if not re.fullmatch(r"https?://[!-~]+", text):
                yield Finding(
                    key, f"{shown}does not hold an http or https URL", "write the webhook's URL and nothing else"
                )
        case _:
            if re.search(r"[\x00-\x1f\x7f]", text):
                yield Finding(
                    key, f"{shown}holds more than one line or a control character", "write the secret and nothing else"
                )


def _client_keys(key: str, shown: str, text: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, mark, secret = (part.strip() for part in entry.partition(":"))
        if not mark or not name or not secret:
            yield Finding(key, f"{shown}line {number} is not 'name:key'", "write one name and key a line")
        elif name in seen:
            yield Finding(key, f"{shown}line {number} names {name!r} again", "give each client a name of its own")
        seen.add(name)
    if not seen:
        yield Finding(key, f"{shown}holds no 'name:key' line", "write one name and key a line")


def alert_command(facts: Facts) -> Iterator[Advice]:
    """A program that is not there would be noticed only when an alert is due. What the shell makes of a line is not guessed at."""
    command = facts.settings.alerts.command
    if command is None:
        return
    words = command[0].split() if len(command) == 1 else command[:1]
    program = words[0]
    if re.fullmatch(r"[\w./+-]+", program) and shutil.which(command[0]) is None and shutil.which(program) is None:
        if len(command) == 1 and program in _OF_THE_SHELL:
            return
        yield Advice(
            "alert_command_missing",
            "alerts.command",
            f"{program} is no program that can be run here; check its path and mode, then try: passoproxy alert test",
        )


def exposed(facts: Facts) -> Iterator[Advice]:
    """Secrets that others can read, where that is excused, and those that stand in a configuration that others can read."""
    for key, path in secret_files(facts.settings).items():
        seen = exposure(path, facts.environ)
        if seen is not None and seen.excused:
            yield Advice(
                "secret_readable",
                key,
                f"{path} can be read by others (mode {seen.mode:04o}), accepted because {seen.excused}",
            )
    file = facts.config_file
    if facts.config_path is not None and (seen := exposure(facts.config_path, facts.environ)) is not None:
        for pair in secret_pairs():
            key = ".".join(pair)
            if facts.layer.place(pair).startswith(f"{file}:") and _value(facts.settings, key) not in (
                None,
                "env",
                "none",
            ):
                yield Advice(
                    "secret_readable",
                    key,
                    f"stands in a file that others can read (mode {seen.mode:04o}); chmod 600 {file}, or use {key}_file",
                )


RULES = (secrets, private_key, seed, plain_files)
