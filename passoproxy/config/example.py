"""The commented configuration to start from; the project's config.example.yaml is the same text."""

from __future__ import annotations

from importlib import resources


def commented() -> str:
    """The text of `config init`: every key with its default and what it does."""
    return resources.files("passoproxy.config").joinpath("example.yaml").read_text("utf-8")
