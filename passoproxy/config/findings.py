"""What the checks are given and what they give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from passoproxy.config.layers import Layer
from passoproxy.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Facts:
    """The settings and where they came from. `check_files` allows a look at the files that they name.

    `config_file` is how the configuration was named, `config_path` where it is.
    """

    settings: Settings
    layer: Layer
    environ: Mapping[str, str] = field(default_factory=dict)
    check_files: bool = True
    config_file: Path | None = None
    config_path: Path | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of one key; `involved` are further keys that it follows from."""

    key: str
    problem: str
    remedy: str
    involved: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that works and is worth a look; `code` tells its kind."""

    code: str
    key: str
    text: str


def involving(*keys: str) -> frozenset[str]:
    """Keys without which a finding would not be."""
    return frozenset(keys)
